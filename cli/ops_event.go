package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	mathub "github.com/mathub/webhooks/clients/go"
	"github.com/mathub/webhooks/webhook"
)

// maxPayloadShown bounds, in characters, what is shown of a payload.
const maxPayloadShown = 500

type opsEventCommand struct {
	ServiceFlags
	outputFlags
	ID      string `arg:"" name:"id" help:"The event's id. Receivers see it as webhook-id."`
	Outcome string `enum:",delivered,failed,waiting" default:"" help:"List only webhooks with this outcome: delivered, failed or waiting."`
	After   string `help:"List the webhooks after this id, which the previous page printed."`
}

// Run shows the event.
func (c *opsEventCommand) Run(ctx context.Context) error {
	if !webhook.ValidID(c.ID) {
		return usageError{errors.New("the event's id must be 1 to 128 of the characters A-Z a-z 0-9 _ -")}
	}
	api, err := c.client()
	if err != nil {
		return err
	}
	found, err := api.GetEvent(ctx, c.ID, &mathub.GetEventParams{Outcome: c.Outcome, After: c.After})
	if err != nil {
		return err
	}
	return c.show(found.Body, func(w io.Writer) error {
		describeEvent(w, &found.Value)
		listEventWebhooks(w, found.Value.Webhooks)
		if after := found.Next(); after != "" {
			fmt.Fprintf(w, "\nMore webhooks follow: --after=%s\n", after) //nolint:errcheck // Flush tells
		}
		return nil
	})
}

// describeEvent writes all but the webhooks, a line for each thing.
func describeEvent(w io.Writer, e *mathub.EventDetail) {
	bots, more, page := "every bot", "", "unknown: the API runs without MATHUB_TEMPORAL_UI"
	if e.BotIDs != nil {
		bots = strings.Join(e.BotIDs, ", ")
	}
	if e.Audience.More {
		more = ", and more that were not counted"
	}
	if e.Workflow.URL != nil {
		page = *e.Workflow.URL
	}
	facts(w, [][2]string{
		{"Event", e.ID},
		{"Type", e.EventType},
		{"Happened", webhook.FormatTime(e.Timestamp)},
		{"Accepted", webhook.FormatTime(e.AcceptedAt)},
		{"Goes to", bots},
		{"Workflow", e.Workflow.ID},
		{"Run", e.Workflow.RunID},
		{"Web UI", page},
		{"Payload", fmt.Sprintf("%d bytes: %s", e.PayloadBytes, shortened(visible(e.Payload), maxPayloadShown))},
		{"Webhooks", fmt.Sprintf("%d%s: %d delivered, %d failed, %d waiting", e.Audience.Webhooks, more, e.Audience.Delivered, e.Audience.Failed, e.Audience.Waiting)},
	})
}

// listEventWebhooks writes the webhooks as a table.
func listEventWebhooks(w io.Writer, list []mathub.EventWebhook) {
	if len(list) == 0 {
		return
	}
	fmt.Fprintln(w, "\nOUTCOME\tATTEMPTS\tLAST ATTEMPT\tANSWER\tNEXT ATTEMPT\tACTIVE\tHOST\tBOT\tWEBHOOK") //nolint:errcheck // Flush tells
	for _, h := range list {
		//nolint:errcheck // Flush tells
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", h.Outcome, h.Attempts, orNone(h.LastAttemptAt), lastAnswer(h), orNone(h.NextAttemptAt),
			yes(h.IsActive), h.Host, h.BotID, h.WebhookID)
	}
}

// lastAnswer is what the last attempt met.
func lastAnswer(h mathub.EventWebhook) string {
	switch {
	case h.LastError != nil:
		return *h.LastError
	case h.LastStatusCode != nil:
		return "HTTP " + strconv.Itoa(*h.LastStatusCode)
	}
	return "-"
}

func orNone(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return webhook.FormatTime(*t)
}

func shortened(text string, most int) string {
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return text
}
