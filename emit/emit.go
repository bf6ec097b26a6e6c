// Package emit is how a Go backend emits events: it starts DeliverEvent and DeliverEvents workflows, or calls the service
// API.
package emit

import (
	"context"
	"fmt"
	"strings"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"

	"github.com/mathub/webhooks/visibility"
	"github.com/mathub/webhooks/webhook"
)

// The names through which any Temporal SDK emits: start a workflow on TaskQueue, of type WorkflowType with the id that
// WorkflowID gives and one event as its JSON input, or of type GroupWorkflowType, with an id of any other form, and an array
// of up to webhook.MaxBatchEvents events.
const (
	WorkflowType      = "DeliverEvent"
	GroupWorkflowType = "DeliverEvents"
	TaskQueue         = "mathub-webhooks"
)

// WorkflowID is the id of the workflow that delivers an event by itself.
func WorkflowID(eventID string) string { return "event-" + eventID }

// groupWorkflowID is a new id of a workflow that delivers several events.
func groupWorkflowID() string { return "events-" + webhook.NewID() }

// Receipt says what became of an emitted event.
type Receipt struct {
	ID string `json:"id"`
	// WorkflowID is the workflow that delivers it; one that it shares with other events, where it was emitted among them.
	WorkflowID string `json:"workflowId"`
	// Duplicate: the event's id was accepted before; this call delivers nothing. Of calls at the same moment with one id,
	// several may be answered without it: the event is delivered once all the same.
	Duplicate bool `json:"duplicate"`
	// Conflict: the id was accepted before with another type, data, audience or, where the emitter gave one, timestamp.
	// This content is never delivered.
	Conflict bool `json:"conflict,omitempty"`
	// UnknownBotIDs are those of the event's BotIDs that are no bots, the first 20 of them. Both this and Conflict are known
	// to those who can ask the service's database: its API, and a Batcher with a Lookup.
	UnknownBotIDs []string `json:"unknownBotIds,omitempty"`
}

// Option changes how events are emitted.
type Option func(*options)

type options struct{ attributes *visibility.Attributes }

// Searchable has the events' workflow found by their types in Temporal's lists (MathubEventType), where the namespace has
// the search attribute. It costs an event nothing.
func Searchable(a *visibility.Attributes) Option { return func(o *options) { o.attributes = a } }

// Event accepts e for delivery: when it returns without an error, e is durable in Temporal and will be delivered to
// its audience at least once. The id defaults to a UUIDv7 and the timestamp to now; to emit again after an error,
// give e an id of your own beforehand, so that it is delivered once however often it is emitted.
//
// The error is a *webhook.InvalidError where e is at fault, else what Temporal said. In a process that also runs a
// worker on c, the workflow begins there at once (eager start), without another round trip. Whoever emits hundreds of events
// a second does so by [Batcher] or [Events]: a workflow of its own is most of what an event costs.
func Event(ctx context.Context, c client.Client, e webhook.Event, opts ...Option) (Receipt, error) {
	if err := e.Validate(); err != nil {
		return Receipt{}, err
	}
	receipts, err := start(ctx, c, []webhook.Event{e.Complete(time.Now())}, opts...)
	if err != nil {
		return Receipt{}, err
	}
	return receipts[0], nil
}

// Events is Event for 1 to webhook.MaxBatchEvents events of webhook.MaxBatchBytes in all, which share a workflow: all are
// accepted, or none is. Receipts are in their order. An error names an event at fault by its place, "events[3].data".
// That one was accepted before no receipt says: it is delivered once all the same.
func Events(ctx context.Context, c client.Client, events []webhook.Event, opts ...Option) ([]Receipt, error) {
	if err := webhook.ValidateBatch(events); err != nil {
		return nil, err
	}
	return start(ctx, c, completed(events), opts...)
}

func completed(events []webhook.Event) []webhook.Event {
	now := time.Now()
	all := make([]webhook.Event, len(events))
	for i, e := range events {
		all[i] = e.Complete(now)
	}
	return all
}

// identified are events that have an id each, see webhook.Event.Identify.
func identified(events []webhook.Event) []webhook.Event {
	all := make([]webhook.Event, len(events))
	for i, e := range events {
		all[i] = e.Identify()
	}
	return all
}

// start starts the workflow of events that are valid and complete.
func start(ctx context.Context, c client.Client, events []webhook.Event, opts ...Option) ([]Receipt, error) {
	var o options
	for _, apply := range opts {
		apply(&o)
	}
	single := len(events) == 1
	workflowType, workflowID := GroupWorkflowType, groupWorkflowID()
	var input []byte
	if single {
		workflowType, workflowID, input = WorkflowType, WorkflowID(events[0].ID), events[0].JSON()
	} else {
		input = webhook.BatchJSON(events)
	}
	attributes := temporal.NewSearchAttributes(visibility.EventType.ValueSet(visibility.Types(events)))
	_, err := o.attributes.Start(ctx, c, attributes, client.StartWorkflowOptions{
		ID:        workflowID,
		TaskQueue: TaskQueue,
		// A start that failed, for a fault in its input, accepted nothing. Whatever did accept the event is found in
		// Postgres, which keeps it longer than Temporal keeps workflows.
		WorkflowIDReusePolicy:                    enums.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE_FAILED_ONLY,
		WorkflowExecutionErrorWhenAlreadyStarted: true,
		EnableEagerStart:                         true,
		StaticSummary:                            webhook.BatchSummary(events),
	}, workflowType, converter.NewRawValue(&commonpb.Payload{
		Metadata: map[string][]byte{converter.MetadataEncoding: []byte(converter.MetadataEncodingJSON)},
		Data:     input,
	}))
	duplicate := single && temporal.IsWorkflowExecutionAlreadyStartedError(err)
	if err != nil && !duplicate {
		return nil, fmt.Errorf("start %s: %w", workflowID, err)
	}
	if duplicate {
		if err := delivers(ctx, c, workflowID); err != nil {
			return nil, err
		}
	}
	receipts := make([]Receipt, len(events))
	for i, e := range events {
		receipts[i] = Receipt{ID: e.ID, WorkflowID: workflowID, Duplicate: duplicate}
	}
	return receipts, nil
}

// TakenError says that a workflow which delivers no event has the id of the event's: one of a mistyped type or task queue.
// Nothing was accepted, and nothing is until that workflow is terminated or deleted.
type TakenError struct{ WorkflowID, Type, TaskQueue string }

// EventID is that of the event whose workflow has the id.
func (e *TakenError) EventID() string { return strings.TrimPrefix(e.WorkflowID, WorkflowID("")) }

// Error names the workflow.
func (e *TakenError) Error() string {
	return fmt.Sprintf("the workflow %s, of type %q on the task queue %q, delivers no event", e.WorkflowID, e.Type, e.TaskQueue)
}

// delivers returns a *TakenError where the workflow of that id is none of an event's. While that is not known, it is taken for
// what nearly every one is.
func delivers(ctx context.Context, c client.Client, workflowID string) error {
	run, err := c.DescribeWorkflowExecution(ctx, workflowID, "")
	if err != nil {
		return nil //nolint:nilerr // as the comment says
	}
	info := run.GetWorkflowExecutionInfo()
	is := func(name, want string) bool { return name == "" || name == want }
	if is(info.GetType().GetName(), WorkflowType) && is(info.GetTaskQueue(), TaskQueue) {
		return nil
	}
	return &TakenError{WorkflowID: workflowID, Type: info.GetType().GetName(), TaskQueue: info.GetTaskQueue()}
}
