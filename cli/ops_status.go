package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	mathub "github.com/mathub/webhooks/clients/go"
	"github.com/mathub/webhooks/webhook"
)

type opsStatusCommand struct {
	ServiceFlags
	outputFlags
}

// Run shows what is wrong now.
func (c *opsStatusCommand) Run(ctx context.Context) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	found, err := api.GetOverview(ctx)
	if err != nil {
		return err
	}
	if err := c.show(found.Body, func(w io.Writer) error {
		for _, wrong := range []bool{true, false} { // first what is to be looked at
			for _, f := range found.Value.Findings {
				if f.IsWrong == wrong {
					showFinding(w, f)
				}
			}
		}
		return nil
	}); err != nil {
		return err
	}
	if found.Value.IsWrong {
		return errWrong
	}
	return nil
}

// showFinding writes a finding: a line, those that it names, and what goes on from there.
func showFinding(w io.Writer, f mathub.Finding) {
	mark := "ok"
	switch {
	case f.IsWrong:
		mark = "WRONG"
	case f.Count > 0:
		mark = "-"
	}
	fmt.Fprintf(w, "%s\t%s\n", mark, f.Summary) //nolint:errcheck // Flush tells
	if f.Count == 0 {
		return
	}
	for _, item := range f.Items {
		var parts []string
		for _, part := range []*string{item.WebhookID, item.BotID, item.Host, &item.Text, item.URL} {
			if part != nil {
				parts = append(parts, *part)
			}
		}
		fmt.Fprintf(w, "\t  %s\n", strings.Join(parts, "  ")) //nolint:errcheck // Flush tells
	}
	if f.Command != nil {
		fmt.Fprintf(w, "\t  > %s\n", *f.Command) //nolint:errcheck // Flush tells
	}
}

type opsLateCommand struct {
	ServiceFlags
	outputFlags
	Minutes int `default:"5" help:"What was due, or accepted, longer ago is late."`
}

// Run lists what is late.
func (c *opsLateCommand) Run(ctx context.Context) error {
	if c.Minutes < 1 { // which the client would leave out
		return usageError{errors.New("--minutes must be at least 1")}
	}
	api, err := c.client()
	if err != nil {
		return err
	}
	found, err := api.GetLate(ctx, &mathub.GetLateParams{Minutes: c.Minutes})
	if err != nil {
		return err
	}
	late := found.Value
	return c.show(found.Body, func(w io.Writer) error {
		if late.TemporalAway {
			fmt.Fprintln(w, "Temporal does not answer: workflows are not known.") //nolint:errcheck // Flush tells
		} else if len(late.Queues) == 0 && len(late.Workflows) == 0 {
			_, err := fmt.Fprintln(w, "Nothing is late.")
			return err
		}
		if len(late.Queues) > 0 {
			listOperatorWebhooks(w, late.Queues)
		}
		if late.MoreQueues {
			fmt.Fprintln(w, "\nMore queues are late: mathub-webhooks ops webhooks list --sort oldest") //nolint:errcheck // Flush tells
		}
		listLateWorkflows(w, late)
		return nil
	})
}

func listLateWorkflows(w io.Writer, late mathub.Late) {
	if len(late.Workflows) == 0 {
		return
	}
	fmt.Fprintln(w, "\nSTARTED\tTYPE\tEVENT\tWORKFLOW\tWEB UI") //nolint:errcheck // Flush tells
	for _, f := range late.Workflows {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", webhook.FormatTime(f.StartedAt), f.Type, orDash(f.EventID), f.ID, orDash(f.URL)) //nolint:errcheck // Flush tells
	}
	if late.MoreWorkflows {
		fmt.Fprintln(w, "\nMore workflows of events still run; search for them in Temporal's Web UI.") //nolint:errcheck // Flush tells
	}
}
