package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/mathub/webhooks/webhook"
)

// Trigger emits a sample event over the service API.
type Trigger struct {
	APIFlags
	outputFlags
	ServiceToken string   `env:"MATHUB_SERVICE_TOKEN" required:"" help:"The service API's token. Better in the environment than on the command line."`
	Event        string   `arg:"" help:"The event type, such as post.created."`
	Data         string   `help:"The event's data, a JSON object; the catalog's sample when left out."`
	Bot          []string `help:"The ids of the bots it goes to; required for mention, review.requested and review.submitted."`
	ID           string   `help:"The event's id; a new one when left out."`
}

// Run emits the event and prints its id.
func (c *Trigger) Run(ctx context.Context) error {
	e := webhook.Event{ID: c.ID, Type: webhook.EventType(c.Event), Data: json.RawMessage(c.Data), BotIDs: c.Bot}
	if spec, known := webhook.Spec(e.Type); known && c.Data == "" {
		e.Data = spec.ExampleData()
	}
	if c.Data == "" && e.Data == nil {
		e.Data = json.RawMessage("{}") // of what is wrong, only the type
	}
	if err := e.Validate(); err != nil {
		return usageError{err}
	}
	e = e.Complete(time.Now())
	var raw json.RawMessage
	api := &apiClient{base: c.API, token: c.ServiceToken}
	if err := api.call(ctx, http.MethodPost, serviceAPI+"events", exactJSON(e.JSON()), &raw); err != nil {
		return err
	}
	var receipt struct {
		ID         string `json:"id"`
		WorkflowID string `json:"workflowId"`
		Duplicate  bool   `json:"duplicate"`
	}
	if err := json.Unmarshal(raw, &receipt); err != nil {
		return err
	}
	return c.show(raw, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "EVENT ID\tWORKFLOW\tDUPLICATE\n%s\t%s\t%s\n", receipt.ID, receipt.WorkflowID, yes(receipt.Duplicate))
		return err
	})
}
