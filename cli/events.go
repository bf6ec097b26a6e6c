package cli

import (
	"context"
	"fmt"
	"io"
	"strings"

	mathub "github.com/mathub/webhooks/clients/go"
	"github.com/mathub/webhooks/webhook"
)

// Events polls a bot's events, a page at a time.
type Events struct {
	BotFlags
	outputFlags
	After  string   `help:"Continue after this cursor, which the page before printed; \"latest\" for events from now on. Default: the oldest event that is kept."`
	Types  []string `help:"Event types, separated by commas. Default: all."`
	Filter []string `sep:"none" placeholder:"FIELD=VALUE,…" help:"Only events whose data has one of these values in the field. May be repeated: all must match."`
	Limit  int      `help:"How many to list, from 1 to 500. Default: 100."`
	Wait   string   `help:"How long to wait for an event when there is none, at most 30s. Default: not at all."`
}

// Run lists a page of events, and the cursor that leads to the next.
func (c *Events) Run(ctx context.Context) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	params := &mathub.PollEventsParams{After: c.After, Types: strings.Join(c.Types, ","), Limit: c.Limit, Wait: c.Wait}
	if err := setFilter(params, c.Filter); err != nil {
		return err
	}
	page, err := api.PollEvents(ctx, params)
	if err != nil {
		return err
	}
	return c.show(page.Body, func(w io.Writer) error {
		if len(page.Value.Events) > 0 {
			fmt.Fprintln(w, "HAPPENED\tEVENT\tEVENT ID\tDATA") //nolint:errcheck // Flush tells
		}
		for _, e := range page.Value.Events {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", webhook.FormatTime(e.Timestamp), e.Type, e.ID, shortened(visible(e.Data), maxDataShown)) //nolint:errcheck // Flush tells
		}
		more := "no more for now"
		if page.Value.HasMore {
			more = "more follow"
		}
		fmt.Fprintf(w, "\n%d events, %s: --after=%s\n", len(page.Value.Events), more, page.Value.Cursor) //nolint:errcheck // Flush tells
		return nil
	})
}

// maxDataShown bounds, in characters, what a line shows of an event's data.
const maxDataShown = 80
