// Package emit is how a Go backend emits events: it starts DeliverEvent and DeliverEvents workflows, or calls the service
// API.
package emit

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"

	"github.com/mathub/webhooks/internal/searchattr"
	"github.com/mathub/webhooks/webhook"
)

// The names with which any Temporal SDK can emit. Start a workflow on TaskQueue: of type WorkflowType, with the id from
// WorkflowID and one event as JSON input; or of type GroupWorkflowType, with an id of any other form and an array of up to
// webhook.MaxBatchEvents events.
const (
	WorkflowType      = "DeliverEvent"
	GroupWorkflowType = "DeliverEvents"
	TaskQueue         = "mathub-webhooks"
)

// MetadataChecked is in the metadata of a payload of events that the emitter has found valid. A worker that finds fault with them is of
// another version than the emitter, and leaves them to a worker of its. Without it, what is invalid fails its workflow.
const MetadataChecked = "mathub-checked"

// Checked is a workflow's input, one event or an array of them as JSON, that the emitter has found valid: see MetadataChecked.
func Checked(input []byte) converter.RawValue {
	return converter.NewRawValue(&commonpb.Payload{
		Metadata: map[string][]byte{converter.MetadataEncoding: []byte(converter.MetadataEncodingJSON), MetadataChecked: nil},
		Data:     input,
	})
}

// WorkflowID is the id of the workflow that delivers an event by itself.
func WorkflowID(eventID string) string { return "event-" + webhook.CanonicalID(eventID) }

// groupWorkflowID is a new id of a workflow that delivers several events.
func groupWorkflowID() string { return "events-" + webhook.NewID() }

// Receipt says what became of an emitted event.
type Receipt struct {
	ID string `json:"id"`
	// WorkflowID is the workflow that delivers the event. Events that are emitted together share one.
	WorkflowID string `json:"workflowId"`
	// Duplicate: the event's id was accepted before, and this call delivers nothing. Simultaneous calls with one id may all
	// lack it; the event is still delivered once. Without access to the service's database, an event that the database has
	// lost is delivered again.
	Duplicate bool `json:"duplicate"`
	// Conflict: the id was accepted before with another type, data, audience or, where the emitter gave one, timestamp.
	// This content is never delivered. A simultaneous call that shares a workflow with other events may lack it.
	Conflict bool `json:"conflict,omitempty"`
	// UnknownBotIDs are the first 20 of the event's BotIDs that name no bot. Only the API and a Batcher with a Lookup know
	// them, because they can ask the database. The same holds for a Conflict with an event accepted long ago.
	UnknownBotIDs []string `json:"unknownBotIds,omitempty"`
	// SchemaFaults say what of the event's data does not fit its schema. Only the API knows them, if its operator had it look.
	SchemaFaults []webhook.FieldError `json:"schemaFaults,omitempty"`
}

// Option changes how events are emitted.
type Option func(*options)

type options struct {
	attributes *searchattr.Attributes
	converter  converter.DataConverter
}

// Searchable has the events' workflow found by their types in Temporal's lists (MathubEventType). The namespace must have the
// search attribute: the product's workers register it. It costs an event nothing.
func Searchable() Option { return SearchableBy(searchattr.Assume()) }

// SearchableBy is Searchable for the product's own processes, which know whether the namespace has the attribute.
func SearchableBy(a *searchattr.Attributes) Option { return func(o *options) { o.attributes = a } }

// ConvertedBy tells the client's DataConverter, where that is not the SDK's default, as one that encrypts is. Without it a known
// id is a duplicate all the same, but a Conflict is not seen. Nil is the default.
func ConvertedBy(c converter.DataConverter) Option {
	return func(o *options) {
		if c != nil {
			o.converter = c
		}
	}
}

// Event accepts e for delivery: when it returns without an error, e is durable in Temporal and will be delivered to
// its audience at least once. The id defaults to a UUIDv7 and the timestamp to now. To emit safely again after an error, set
// the id first: an id is accepted once.
//
// The error is a *webhook.InvalidError if e is invalid, else Temporal's. In a process that also runs a worker on c, the
// workflow starts there without another round trip (eager start). To emit hundreds of events a second, use [Batcher] or
// [Events]: a workflow is most of the cost of an event.
func Event(ctx context.Context, c client.Client, e webhook.Event, opts ...Option) (Receipt, error) {
	if err := e.Validate(); err != nil {
		return Receipt{}, err
	}
	done := e.Complete(time.Now())
	s, err := start(ctx, c, []webhook.Event{done}, failedOnly, opts...)
	if err == nil && s.completed {
		s, err = startAgain(ctx, c, e, done, s, opts...)
	}
	if err != nil {
		return Receipt{}, err
	}
	return Receipt{ID: done.ID, WorkflowID: s.workflowID, Duplicate: s.duplicate, Conflict: s.duplicate && s.before.conflicts(e)}, nil
}

// Events is Event for 1 to webhook.MaxBatchEvents events of webhook.MaxBatchBytes in all, which share a workflow: all are
// accepted, or none is. Receipts are in their order. An error names an event at fault by its place, "events[3].data".
// That one was accepted before no receipt says: it is delivered once all the same.
func Events(ctx context.Context, c client.Client, events []webhook.Event, opts ...Option) ([]Receipt, error) {
	if err := webhook.ValidateBatch(events); err != nil {
		return nil, err
	}
	events = completed(events)
	s, err := start(ctx, c, events, failedOnly, opts...)
	if err != nil {
		return nil, err
	}
	receipts := make([]Receipt, len(events))
	for i, e := range events {
		receipts[i] = Receipt{ID: e.ID, WorkflowID: s.workflowID, Duplicate: s.duplicate}
	}
	return receipts, nil
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

// started is the outcome of a start. For a single event whose workflow exists already, duplicate is true and before is the
// content accepted then, if known.
type started struct {
	workflowID string
	duplicate  bool
	completed  bool // the workflow that is there has done its work
	before     content
}

const (
	// failedOnly starts no workflow whose id Temporal knows, unless that failed or was ended: it accepted nothing, or not to
	// the end.
	failedOnly = enums.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE_FAILED_ONLY
	// unlessRunning also starts one again that is completed.
	unlessRunning = enums.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE
)

// start starts the workflow of events that are valid and complete.
func start(ctx context.Context, c client.Client, events []webhook.Event, reuse enums.WorkflowIdReusePolicy, opts ...Option) (started, error) {
	o := options{converter: converter.GetDefaultDataConverter()}
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
	attributes := temporal.NewSearchAttributes(searchattr.EventType.ValueSet(searchattr.Types(events)))
	startOptions := client.StartWorkflowOptions{
		ID:                                       workflowID,
		TaskQueue:                                TaskQueue,
		WorkflowIDReusePolicy:                    reuse,
		WorkflowExecutionErrorWhenAlreadyStarted: true,
		EnableEagerStart:                         true,
		StaticSummary:                            webhook.BatchSummary(events),
	}
	s := started{workflowID: workflowID}
	for last := false; ; last = true {
		_, err := o.attributes.Start(ctx, c, attributes, startOptions, workflowType, Checked(input))
		if s.duplicate = single && temporal.IsWorkflowExecutionAlreadyStartedError(err); s.duplicate {
			s.before, s.completed, err = found(ctx, c, o.converter, workflowID)
		}
		if !last && s.duplicate && isNotFound(err) { // an operator has deleted it since
			continue
		}
		if err != nil {
			return started{}, fmt.Errorf("start %s: %w", workflowID, err)
		}
		return s, nil
	}
}

// startAgain starts a completed workflow again for who cannot ask Postgres, which may have been restored to a moment before the
// event: it decides, and where it has the event, nothing is delivered. What says something else than was accepted, as it was
// emitted, is not started.
func startAgain(ctx context.Context, c client.Client, emitted, complete webhook.Event, there started, opts ...Option) (started, error) {
	if there.before.conflicts(emitted) {
		return there, nil
	}
	_, err := start(ctx, c, []webhook.Event{complete}, unlessRunning, opts...)
	return there, err
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

// found is what a workflow that is there accepted, and whether it is completed.
func found(ctx context.Context, c client.Client, convert converter.DataConverter, workflowID string) (before content, done bool, err error) {
	run, err := c.DescribeWorkflowExecution(ctx, workflowID, "")
	if err != nil {
		return content{}, false, err
	}
	done = run.GetWorkflowExecutionInfo().GetStatus() == statusCompleted
	before, err = contentOfWorkflow(ctx, c, convert, workflowID)
	if taken := new(TakenError); done && errors.As(err, &taken) {
		err = nil // it is in nobody's way
	}
	return before, done, err
}

// contentOfWorkflow is what the workflow of that id accepted, by its history. The error is a *TakenError where it is none of an
// event's, and Temporal's where it is there no more. While Temporal does not tell, it is taken for what nearly every one is.
func contentOfWorkflow(ctx context.Context, c client.Client, convert converter.DataConverter, workflowID string) (content, error) {
	history := c.GetWorkflowHistory(ctx, workflowID, "", false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	if !history.HasNext() {
		return content{}, nil
	}
	first, err := history.Next()
	switch {
	case isNotFound(err):
		return content{}, err
	case err != nil:
		return content{}, nil //nolint:nilerr // as the comment says
	}
	info := first.GetWorkflowExecutionStartedEventAttributes()
	if info.GetWorkflowType().GetName() != WorkflowType || info.GetTaskQueue().GetName() != TaskQueue {
		return content{}, &TakenError{WorkflowID: workflowID, Type: info.GetWorkflowType().GetName(), TaskQueue: info.GetTaskQueue().GetName()}
	}
	inputs := info.GetInput().GetPayloads()
	if len(inputs) != 1 {
		return content{}, nil
	}
	var input converter.RawValue
	if err := convert.FromPayload(inputs[0], &input); err != nil {
		return content{}, nil //nolint:nilerr // another's keys sealed it
	}
	e, err := webhook.ParseAccepted(input.Payload().GetData())
	if err != nil {
		return content{}, nil //nolint:nilerr // it was started by hand, and fails
	}
	return contentOf(e.Complete(first.GetEventTime().AsTime())), nil
}

// isNotFound says that Temporal has no such workflow.
func isNotFound(err error) bool {
	var none *serviceerror.NotFound
	return errors.As(err, &none)
}
