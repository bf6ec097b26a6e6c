package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	mathub "github.com/mathub/webhooks/clients/go"
	"github.com/mathub/webhooks/webhook"
)

type opsAuditCommand struct {
	ServiceFlags
	outputFlags
	Bot    string `help:"List only what changed of the bot with this id."`
	Before string `help:"List the entries before the one with this id, which the previous page printed."`
}

// Run lists a page of the audit log.
func (c *opsAuditCommand) Run(ctx context.Context) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	found, err := api.ListAuditOfAny(ctx, &mathub.ListAuditOfAnyParams{BotID: c.Bot, Before: c.Before})
	if err != nil {
		return err
	}
	return c.show(found.Body, func(w io.Writer) error {
		fmt.Fprintln(w, "TIME\tACTION\tBOT\tSUBJECT\tBY\tCHANGED") //nolint:errcheck // Flush tells
		for _, e := range found.Value {
			after, err := json.Marshal(e.After)
			if err != nil {
				return err
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", webhook.FormatTime(e.At), e.Action, e.BotID, orDash(e.Subject), actor(e.Actor), visible(after)) //nolint:errcheck // Flush tells
		}
		if n := len(found.Value); n > 0 && found.Next() != "" {
			fmt.Fprintf(w, "\nOlder entries follow: --before=%s\n", found.Value[n-1].ID) //nolint:errcheck // Flush tells
		}
		return nil
	})
}

// actor is who made a change, as far as that is known.
func actor(a mathub.Actor) string {
	for _, more := range []*string{a.Name, a.ID} {
		if more != nil {
			return a.Kind + " " + visible(json.RawMessage(*more))
		}
	}
	return a.Kind
}

func orDash(text *string) string {
	if text == nil {
		return "-"
	}
	return *text
}
