package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/mathub/webhooks/webhook"
)

// Trigger emits sample events over the service API.
type Trigger struct {
	APIFlags
	outputFlags
	ServiceToken string   `env:"MATHUB_SERVICE_TOKEN" required:"" help:"The service API's token. Better in the environment than on the command line."`
	Event        string   `arg:"" help:"The event type, such as post.created."`
	Data         string   `help:"The event's data, a JSON object; the catalog's sample when left out."`
	Bot          []string `help:"The ids of the bots it goes to; required for mention, review.requested and review.submitted."`
	ID           string   `help:"The event's id; a new one when left out."`
	Count        int      `default:"1" help:"How many such events to emit at once, each with a new id: 1 to 100."`
}

// emitReceipt says what became of an emitted event.
type emitReceipt struct {
	ID         string `json:"id"`
	WorkflowID string `json:"workflowId"`
	Duplicate  bool   `json:"duplicate"`
}

// Run emits the events and prints their receipts.
func (c *Trigger) Run(ctx context.Context) error {
	e, err := c.event()
	if err != nil {
		return usageError{err}
	}
	path, body := "events", e.Complete(time.Now()).JSON()
	if c.Count > 1 {
		events := make([]webhook.Event, c.Count)
		for i := range events {
			events[i] = e.Complete(time.Now())
		}
		path, body = "events/batch", fmt.Appendf(nil, `{"events":%s}`, webhook.BatchJSON(events))
	}
	var raw json.RawMessage
	api := &apiClient{base: c.API, token: c.ServiceToken}
	if err := api.call(ctx, http.MethodPost, serviceAPI+path, exactJSON(body), &raw); err != nil {
		return err
	}
	receipts := make([]emitReceipt, 1)
	var answer any = &receipts[0]
	if c.Count > 1 {
		answer = &receipts
	}
	if err := json.Unmarshal(raw, answer); err != nil {
		return err
	}
	return c.show(raw, func(w io.Writer) error {
		fmt.Fprintln(w, "EVENT ID\tWORKFLOW\tDUPLICATE") //nolint:errcheck // Flush tells
		for _, r := range receipts {
			fmt.Fprintf(w, "%s\t%s\t%s\n", r.ID, r.WorkflowID, yes(r.Duplicate)) //nolint:errcheck // Flush tells
		}
		return nil
	})
}

// event is what is emitted, without an id where none is asked for.
func (c *Trigger) event() (webhook.Event, error) {
	e := webhook.Event{ID: c.ID, Type: webhook.EventType(c.Event), Data: json.RawMessage(c.Data), BotIDs: c.Bot}
	if spec, known := webhook.Spec(e.Type); known && c.Data == "" {
		e.Data = spec.ExampleData()
	}
	if c.Data == "" && e.Data == nil {
		e.Data = json.RawMessage("{}") // of what is wrong, only the type
	}
	if err := e.Validate(); err != nil {
		return e, err
	}
	switch {
	case c.Count < 1 || c.Count > webhook.MaxBatchEvents:
		return e, fmt.Errorf("--count is %d: it must be 1 to %d", c.Count, webhook.MaxBatchEvents)
	case c.Count > 1 && c.ID != "":
		return e, errors.New("--id is of one event, --count of several")
	}
	return e, nil
}
