package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	mathub "github.com/mathub/webhooks/clients/go"
	"github.com/mathub/webhooks/webhook"
)

// Trigger emits sample events over the service API.
type Trigger struct {
	ServiceFlags
	outputFlags
	Event string   `arg:"" help:"The event type, such as post.created."`
	Data  string   `help:"The event's data, a JSON object. Default: the catalog's sample."`
	Bot   []string `help:"The ids of the bots that receive it. Required for mention, review.requested and review.submitted."`
	ID    string   `help:"The event's id. Default: a new one."`
	Count int      `default:"1" help:"The number of events to emit, each with a new id, from 1 to 100."`
}

// Run emits the events and prints their receipts.
func (c *Trigger) Run(ctx context.Context) error {
	e, err := c.event()
	if err != nil {
		return usageError{err}
	}
	api, err := c.client()
	if err != nil {
		return err
	}
	body, receipts, err := emitted(ctx, api, mathub.Event{ID: e.ID, Type: mathub.EventType(e.Type), Data: e.Data, BotIDs: e.BotIDs}, c.Count)
	if err != nil {
		return err
	}
	return c.show(body, func(w io.Writer) error {
		fmt.Fprintln(w, "EVENT ID\tWORKFLOW\tDUPLICATE") //nolint:errcheck // Flush tells
		for _, r := range receipts {
			fmt.Fprintf(w, "%s\t%s\t%s\n", r.ID, r.WorkflowID, yes(r.Duplicate)) //nolint:errcheck // Flush tells
		}
		return nil
	})
}

// event is what is emitted, without an id where none is asked for.
func (c *Trigger) event() (webhook.Event, error) {
	e := webhook.Event{ID: c.ID, Type: webhook.EventType(c.Event), BotIDs: c.Bot}
	spec, known := webhook.Spec(e.Type)
	switch {
	case c.Data != "":
		e.Data = json.RawMessage(c.Data)
	case known:
		e.Data = spec.ExampleData()
	default:
		e.Data = json.RawMessage("{}") // of what is wrong, only the type
	}
	if err := e.Validate(); err != nil {
		return e, err
	}
	switch {
	case c.Count < 1 || c.Count > webhook.MaxBatchEvents:
		return e, fmt.Errorf("--count is %d; must be from 1 to %d", c.Count, webhook.MaxBatchEvents)
	case c.Count > 1 && c.ID != "":
		return e, errors.New("--id cannot be combined with --count")
	}
	return e, nil
}

// emitted emits so many events and returns the receipts, also as they came.
func emitted(ctx context.Context, api *mathub.Service, e mathub.Event, count int) ([]byte, []mathub.Receipt, error) {
	if count == 1 {
		one, err := api.EmitEvent(ctx, e)
		if err != nil {
			return nil, nil, err
		}
		return one.Body, []mathub.Receipt{one.Value}, nil
	}
	several, err := api.EmitEvents(ctx, mathub.EventBatch{Events: slices.Repeat([]mathub.Event{e}, count)})
	if err != nil {
		return nil, nil, err
	}
	return several.Body, several.Value, nil
}
