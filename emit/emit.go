// Package emit is how a Go backend emits events: it starts DeliverEvent workflows.
package emit

import (
	"context"
	"fmt"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"

	"github.com/mathub/webhooks/visibility"
	"github.com/mathub/webhooks/webhook"
)

// The names through which any Temporal SDK emits an event: start a workflow of type WorkflowType on TaskQueue, with
// the id WorkflowID gives and the event as its one JSON input.
const (
	WorkflowType = "DeliverEvent"
	TaskQueue    = "mathub-webhooks"
)

// WorkflowID is the id of the one workflow that delivers an event.
func WorkflowID(eventID string) string { return "event-" + eventID }

// Receipt says what became of an emitted event.
type Receipt struct {
	ID         string `json:"id"`
	WorkflowID string `json:"workflowId"`
	// Duplicate: the event's id was accepted before; this call delivers nothing.
	Duplicate bool `json:"duplicate"`
}

// Option changes how an event is emitted.
type Option func(*options)

type options struct{ attributes *visibility.Attributes }

// Searchable has the event's workflow found by its type in Temporal's lists (MathubEventType), where the namespace has
// the search attribute. It costs the event nothing.
func Searchable(a *visibility.Attributes) Option { return func(o *options) { o.attributes = a } }

// Event accepts e for delivery: when it returns without an error, e is durable in Temporal and will be delivered to
// its audience at least once. The id defaults to a UUIDv7 and the timestamp to now; to emit again after an error,
// give e an id of your own beforehand, so that it is delivered once however often it is emitted.
//
// The error is a *webhook.InvalidError where e is at fault, else what Temporal said. In a process that also runs a
// worker on c, the workflow begins there at once (eager start), without another round trip.
func Event(ctx context.Context, c client.Client, e webhook.Event, opts ...Option) (Receipt, error) {
	var o options
	for _, apply := range opts {
		apply(&o)
	}
	if err := e.Validate(); err != nil {
		return Receipt{}, err
	}
	e = e.Complete(time.Now())
	receipt := Receipt{ID: e.ID, WorkflowID: WorkflowID(e.ID)}
	attributes := temporal.NewSearchAttributes(visibility.EventType.ValueSet(string(e.Type)))
	_, err := o.attributes.Start(ctx, c, attributes, client.StartWorkflowOptions{
		ID:        receipt.WorkflowID,
		TaskQueue: TaskQueue,
		// A start that failed, for a fault in its input, accepted nothing. Whatever did accept the event is found in
		// Postgres, which keeps it longer than Temporal keeps workflows.
		WorkflowIDReusePolicy:                    enums.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE_FAILED_ONLY,
		WorkflowExecutionErrorWhenAlreadyStarted: true,
		EnableEagerStart:                         true,
		StaticSummary:                            e.Summary(),
	}, WorkflowType, converter.NewRawValue(&commonpb.Payload{
		Metadata: map[string][]byte{converter.MetadataEncoding: []byte(converter.MetadataEncodingJSON)},
		Data:     e.JSON(),
	}))
	if temporal.IsWorkflowExecutionAlreadyStartedError(err) {
		receipt.Duplicate = true
		return receipt, nil
	}
	if err != nil {
		return Receipt{}, fmt.Errorf("start %s: %w", receipt.WorkflowID, err)
	}
	return receipt, nil
}
