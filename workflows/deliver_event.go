package workflows

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/mathub/webhooks/activities"
	"github.com/mathub/webhooks/emit"
	"github.com/mathub/webhooks/internal/delivery"
	"github.com/mathub/webhooks/visibility"
	"github.com/mathub/webhooks/webhook"
)

// InvalidEventError is the type of the error that DeliverEvent fails with when its input is no valid event.
const InvalidEventError = "InvalidEvent"

// Summary is how a fan-out went, as the workflow's result shows it.
type Summary struct {
	EventID string `json:"eventId"`
	// Duplicate: the event was accepted before, by another workflow; nothing was delivered.
	Duplicate bool `json:"duplicate,omitempty"`
	// Webhooks is the size of the audience; of them so many took it, did not take it and get no further attempt, did not
	// take it and are attempted again, have it in their queue for the first attempt, or had been disabled, deleted or
	// unsubscribed meanwhile.
	Webhooks  int `json:"webhooks"`
	Delivered int `json:"delivered"`
	Failed    int `json:"failed"`
	Retrying  int `json:"retrying"`
	Queued    int `json:"queued"`
	Skipped   int `json:"skipped"`
	// NotDelivered says of each webhook that did not take it at once why, by the webhook's id; of the first maxListed of
	// them, and of NotListed more it does not.
	NotDelivered map[string]string `json:"notDelivered,omitempty"`
	NotListed    int               `json:"notListed,omitempty"`
	// Batches is how many DeliverBatch workflows share a large audience; their results have the counts.
	Batches int `json:"batches,omitempty"`
}

// DeliverEvent accepts an event and delivers it to every subscribed webhook. Its input is one event as JSON,
// `{id?, event, timestamp?, data, botIds?}`; anything else fails the workflow at once with an InvalidEventError.
// Without an id, the event's is what follows `event-` in the workflow's id, else a UUIDv7 made from the run's id;
// without a timestamp, it is the time at which the workflow was started.
//
// The input is taken as raw bytes, since data must be forwarded digit for digit.
func DeliverEvent(ctx workflow.Context, input converter.RawValue) (Summary, error) {
	info := workflow.GetInfo(ctx)
	event, err := parseInput(info, input)
	if err != nil {
		return Summary{}, temporal.NewNonRetryableApplicationError(err.Error(), InvalidEventError, nil)
	}
	f := &fanOut{eventType: event.Type, summary: event.Summary(), sum: Summary{EventID: event.ID}}
	workflow.SetCurrentDetails(ctx, f.summary)
	var audience delivery.Audience
	// A reset run is the same run to the event: what it has delivered is not sent again.
	accept := delivery.EventToAccept{Event: event, WorkflowID: info.WorkflowExecution.ID, RunID: info.OriginalRunID, At: info.WorkflowStartTime}
	err = workflow.ExecuteLocalActivity(databaseActivity(ctx, "accept the event, look up its webhooks"), act.AcceptEvent, accept).Get(ctx, &audience)
	if err != nil {
		return Summary{}, err
	}
	f.searchable = audience.Searchable
	switch {
	case audience.Duplicate:
		workflow.SetCurrentDetails(ctx, f.summary+"\n\nA duplicate: the event was accepted before, and delivered by the workflow that did.")
		return Summary{EventID: event.ID, Duplicate: true}, nil
	case len(audience.Pages) > 0:
		err = f.startBatches(ctx, audience.Pages)
	default:
		err = f.deliver(ctx, audience)
	}
	f.updateDetails(ctx)
	return f.sum, err
}

// BatchInput names a page of an event's audience.
type BatchInput struct {
	EventID string `json:"eventId"`
	// EventType, and Summary, the event's, are for operators.
	EventType webhook.EventType `json:"eventType"`
	Summary   string            `json:"summary"`
	Page      delivery.Page     `json:"page"`
	// Sum is what came of the page's beginning, when the batch goes on as a new run.
	Sum Summary `json:"sum"`
}

// batchSteps is after how many steps a batch goes on as a new run, so that its history stays under 5 MB.
const batchSteps = 20

// DeliverBatch delivers an accepted event to one page of a large audience, step by step.
func DeliverBatch(ctx workflow.Context, in BatchInput) (Summary, error) {
	f := &fanOut{eventType: in.EventType, summary: in.Summary, sum: in.Sum}
	f.sum.EventID = in.EventID
	for range batchSteps {
		var part delivery.Audience
		ask := delivery.PartOfAudience{EventID: in.EventID, Page: in.Page}
		if err := workflow.ExecuteLocalActivity(databaseActivity(ctx, "look up the batch's webhooks"), act.AddressPart, ask).Get(ctx, &part); err != nil {
			return f.sum, err
		}
		f.searchable = part.Searchable
		err := f.deliver(ctx, part)
		f.updateDetails(ctx)
		if err != nil || !part.More {
			return f.sum, err
		}
		in.Page.After = part.Last
	}
	in.Sum = f.sum
	return f.sum, workflow.NewContinueAsNewError(ctx, DeliverBatch, in)
}

func parseInput(info *workflow.Info, input converter.RawValue) (webhook.Event, error) {
	payload := input.Payload()
	if encoding := string(payload.GetMetadata()[converter.MetadataEncoding]); encoding != converter.MetadataEncodingJSON {
		return webhook.Event{}, fmt.Errorf("the input must be one event as JSON (encoding %s), not %q", converter.MetadataEncodingJSON, encoding)
	}
	event, err := webhook.ParseAccepted(payload.GetData())
	if err != nil {
		return webhook.Event{}, err
	}
	own, named := strings.CutPrefix(info.WorkflowExecution.ID, emit.WorkflowID(""))
	switch {
	case event.ID == "":
		event.ID = eventID(info)
	case named && own != event.ID:
		// Whoever emits the event that the workflow is named after would be told that it was accepted.
		return webhook.Event{}, fmt.Errorf("the event's id is %q, but the workflow's names the event %q: it must be %q", event.ID, own, emit.WorkflowID(event.ID))
	}
	return event.Complete(info.WorkflowStartTime), nil
}

func eventID(info *workflow.Info) string {
	if id, ok := strings.CutPrefix(info.WorkflowExecution.ID, emit.WorkflowID("")); ok && webhook.ValidID(id) {
		return id
	}
	// A UUIDv7 (RFC 9562 §5.7) that every replay of the run makes again.
	sum := sha256.Sum256([]byte(info.OriginalRunID))
	id := uuid.UUID(sum[:16])
	ms := info.WorkflowStartTime.UnixMilli()
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i))
	}
	id[6] = id[6]&0x0f | 0x70
	id[8] = id[8]&0x3f | 0x80
	return id.String()
}

// fanOut is what an event's deliveries have come to.
type fanOut struct {
	eventType  webhook.EventType
	summary    string // what the event is about, as operators see it
	sum        Summary
	searchable bool
	troubled   []undelivered     // the targets that did not take it, the first of them
	failed     []delivery.Target // whose attempt failed
}

// oneByOne is how many webhooks of an event have a line of their own each in its history. More share one: each pending
// activity costs the SDK work at every other's end.
const oneByOne = 3

// deliver makes the first attempts at the direct webhooks of an audience. What does not end there stands in the webhooks'
// queues when it returns.
func (f *fanOut) deliver(ctx workflow.Context, audience delivery.Audience) error {
	f.sum.Webhooks += len(audience.Targets) + audience.Queued
	f.sum.Queued += audience.Queued
	f.failed = nil
	f.updateDetails(ctx)
	var err error
	if len(audience.Targets) > oneByOne {
		err = f.deliverTogether(ctx, audience.Targets)
	} else {
		err = f.deliverEach(ctx, audience.Targets)
	}
	if err != nil || len(f.failed) == 0 {
		return err
	}
	return f.upsertFailed(ctx)
}

func (f *fanOut) deliverEach(ctx workflow.Context, targets []delivery.Target) error {
	attempts := make([]workflow.Future, len(targets))
	for i, t := range targets {
		attempts[i] = workflow.ExecuteLocalActivity(databaseActivity(ctx, targetLabel(t)), act.Deliver, delivery.First(f.sum.EventID, t.WebhookID))
	}
	for i, t := range targets {
		var r delivery.Result
		if err := attempts[i].Get(ctx, &r); err != nil {
			return err
		}
		f.count(t, r)
	}
	return nil
}

func (f *fanOut) deliverTogether(ctx workflow.Context, targets []delivery.Target) error {
	group := delivery.Group{EventID: f.sum.EventID, WebhookIDs: make([]uuid.UUID, len(targets))}
	for i, t := range targets {
		group.WebhookIDs[i] = t.WebhookID
	}
	var r delivery.GroupResult
	options := localActivity(ctx, activities.GroupTimeout, fmt.Sprintf("first attempts at %d webhooks", len(targets)))
	if err := workflow.ExecuteLocalActivity(options, act.DeliverGroup, group).Get(ctx, &r); err != nil {
		return err
	}
	f.sum.Delivered += r.Delivered
	for _, t := range targets {
		if ended, ok := r.Ended[t.WebhookID]; ok {
			f.count(t, ended)
		}
	}
	return nil
}

// count adds up how an attempt ended.
func (f *fanOut) count(t delivery.Target, r delivery.Result) {
	switch r.Status {
	case delivery.Delivered:
		f.sum.Delivered++
		return
	case delivery.Skipped:
		f.sum.Skipped++
	case delivery.Queued:
		f.sum.Queued++
	case delivery.Failed:
		f.failed = append(f.failed, t)
		if r.Retrying {
			f.sum.Retrying++
		} else {
			f.sum.Failed++
		}
	}
	f.recordUndelivered(t, r)
}

// batchWorkflowID is the id of one of the workflows that share an event's audience. No event's workflow can have it.
func batchWorkflowID(eventID string, n int) string { return fmt.Sprintf("batch-%s-%d", eventID, n) }

// startBatches hands the pages to workflows of their own and returns once they have started: an abandoned child that has
// not started when its parent ends may never start.
func (f *fanOut) startBatches(ctx workflow.Context, pages []delivery.Page) error {
	started := make([]workflow.Future, 0, len(pages))
	for i, page := range pages {
		options := workflow.ChildWorkflowOptions{
			WorkflowID:            batchWorkflowID(f.sum.EventID, i+1),
			WorkflowIDReusePolicy: enums.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE_FAILED_ONLY,
			ParentClosePolicy:     enums.PARENT_CLOSE_POLICY_ABANDON,
			StaticSummary:         fmt.Sprintf("%s · batch %d of %d", f.summary, i+1, len(pages)),
		}
		if f.searchable {
			options.TypedSearchAttributes = temporal.NewSearchAttributes(visibility.EventType.ValueSet(string(f.eventType)))
		}
		in := BatchInput{EventID: f.sum.EventID, EventType: f.eventType, Summary: f.summary, Page: page}
		child := workflow.ExecuteChildWorkflow(workflow.WithChildOptions(ctx, options), DeliverBatch, in)
		started = append(started, child.GetChildWorkflowExecution())
	}
	f.sum.Batches = len(pages)
	for _, s := range started {
		err := s.Get(ctx, nil)
		var already *temporal.ChildWorkflowExecutionAlreadyStartedError // from before a crash or a reset
		if err != nil && !errors.As(err, &already) {
			return err
		}
	}
	return nil
}
