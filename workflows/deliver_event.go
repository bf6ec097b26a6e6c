package workflows

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/mathub/webhooks/activities"
	"github.com/mathub/webhooks/emit"
	"github.com/mathub/webhooks/webhook"
)

// InvalidEventError is the type of the error that DeliverEvent fails with when its input is no valid event.
const InvalidEventError = "InvalidEvent"

// Summary is how a fan-out went, as the workflow's result shows it.
type Summary struct {
	EventID string `json:"eventId"`
	// Duplicate: the event was accepted before, by another workflow; nothing was delivered.
	Duplicate bool `json:"duplicate,omitempty"`
	// Webhooks is the size of the audience; of them so many took it, did not take it and get no further attempt,
	// are attempted again in a RetryDelivery workflow each, or had been disabled, deleted or unsubscribed meanwhile.
	Webhooks  int `json:"webhooks"`
	Delivered int `json:"delivered"`
	Failed    int `json:"failed"`
	Retrying  int `json:"retrying"`
	Skipped   int `json:"skipped"`
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
	var audience activities.Audience
	// A reset run is the same run to the event: what it has delivered is not sent again.
	accept := activities.AcceptInput{Event: event, RunID: info.OriginalRunID}
	err = workflow.ExecuteLocalActivity(persistently(ctx, "accept the event, look up its webhooks"), act.AcceptEvent, accept).Get(ctx, &audience)
	if err != nil {
		return Summary{}, err
	}
	if audience.Duplicate {
		return Summary{EventID: event.ID, Duplicate: true}, nil
	}
	if len(audience.Pages) > 0 {
		return startBatches(ctx, event.ID, audience.Pages)
	}
	return fanOut(ctx, event.ID, audience.Targets)
}

// DeliverBatch delivers an accepted event to one page of a large audience.
func DeliverBatch(ctx workflow.Context, in activities.BatchInput) (Summary, error) {
	var targets []activities.Target
	err := workflow.ExecuteLocalActivity(persistently(ctx, "look up the batch's webhooks"), act.ResolveBatch, in).Get(ctx, &targets)
	if err != nil {
		return Summary{}, err
	}
	return fanOut(ctx, in.EventID, targets)
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

// startBatches hands the pages to workflows of their own and ends once they have started.
func startBatches(ctx workflow.Context, eventID string, pages []activities.Page) (Summary, error) {
	started := make([]workflow.Future, 0, len(pages))
	for i, page := range pages {
		child := workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{
			WorkflowID:            fmt.Sprintf("%s-batch-%d", emit.WorkflowID(eventID), i+1),
			WorkflowIDReusePolicy: enums.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE_FAILED_ONLY,
			ParentClosePolicy:     enums.PARENT_CLOSE_POLICY_ABANDON,
			StaticSummary:         fmt.Sprintf("batch %d of %d", i+1, len(pages)),
		})
		in := activities.BatchInput{EventID: eventID, Page: page}
		started = append(started, workflow.ExecuteChildWorkflow(child, DeliverBatch, in).GetChildWorkflowExecution())
	}
	return Summary{EventID: eventID, Batches: len(pages)}, awaitStarts(ctx, started)
}

// awaitStarts waits until abandoned children have started: one that has not when its parent ends may never start.
// That a child is there already, from before a crash or a reset, is as good.
func awaitStarts(ctx workflow.Context, started []workflow.Future) error {
	for _, f := range started {
		err := f.Get(ctx, nil)
		var already *temporal.ChildWorkflowExecutionAlreadyStartedError
		if err != nil && !errors.As(err, &already) {
			return err
		}
	}
	return nil
}

// fanOut makes the first attempt at every target and leaves what failed to RetryDelivery.
func fanOut(ctx workflow.Context, eventID string, targets []activities.Target) (Summary, error) {
	f := &fan{ctx: ctx, eventID: eventID, selector: workflow.NewSelector(ctx)}
	f.sum = Summary{EventID: eventID, Webhooks: len(targets)}
	for _, t := range targets {
		if t.Slow {
			f.slowLane(t)
		} else {
			f.fastLane(t)
		}
	}
	for f.pending > 0 {
		f.selector.Select(ctx)
	}
	return f.sum, awaitStarts(ctx, f.started)
}

type fan struct {
	ctx      workflow.Context
	eventID  string
	selector workflow.Selector
	pending  int
	started  []workflow.Future
	sum      Summary
}

func (f *fan) delivery(t activities.Target) activities.Delivery {
	return activities.Delivery{EventID: f.eventID, WebhookID: t.WebhookID, Attempt: 1}
}

func (f *fan) fastLane(t activities.Target) {
	ctx := workflow.WithLocalActivityOptions(f.ctx, workflow.LocalActivityOptions{
		StartToCloseTimeout:    attemptTimeout,
		ScheduleToCloseTimeout: laneTimeout,
		RetryPolicy: &temporal.RetryPolicy{
			InitialInterval: 100 * time.Millisecond, BackoffCoefficient: 2, MaximumInterval: 5 * time.Second,
		},
		Summary: summarise(t),
	})
	f.pending++
	f.selector.AddFuture(workflow.ExecuteLocalActivity(ctx, act.Deliver, f.delivery(t)), func(done workflow.Future) {
		f.pending--
		var r activities.Result
		if err := done.Get(f.ctx, &r); err != nil || r.Status == activities.Deferred {
			// Our own side's trouble (an error) and a wait for its turn both end in the slow lane.
			f.slowLane(t)
			return
		}
		f.settle(t, r)
	})
}

func (f *fan) slowLane(t activities.Target) {
	f.pending++
	in := activities.SlowDelivery{Delivery: f.delivery(t)}
	f.selector.AddFuture(workflow.ExecuteActivity(slowLane(f.ctx, t), act.DeliverSlow, in), func(done workflow.Future) {
		f.pending--
		var r activities.Result
		if err := done.Get(f.ctx, &r); err != nil || r.Status == activities.Deferred {
			// It is still not its turn: RetryDelivery waits for that, so that this workflow can end.
			f.retry(t, RetryInput{Attempt: 1, DelayMs: turnDelay.Milliseconds()})
			return
		}
		f.settle(t, r)
	})
}

func (f *fan) settle(t activities.Target, r activities.Result) {
	switch {
	case r.Status == activities.Delivered:
		f.sum.Delivered++
	case r.Status == activities.Skipped:
		f.sum.Skipped++
	case r.RetryInMs == 0:
		f.sum.Failed++
	default:
		f.retry(t, RetryInput{Attempt: 2, DelayMs: r.RetryInMs, LastError: r.Error})
	}
}

func (f *fan) retry(t activities.Target, in RetryInput) {
	f.sum.Retrying++
	in.EventID, in.Target = f.eventID, t
	f.started = append(f.started, startRetry(f.ctx, in))
}

// summarise names a delivery in the UI: the host and the webhook's id. The UI renders it as Markdown, so it holds
// nothing that a stranger chose freely: a host has been checked.
func summarise(t activities.Target) string { return t.Host + " " + t.WebhookID.String() }

// slowLane are the options of the slow lane's activity. It is repeated until it succeeds: only our own side's
// trouble, or the wait for a turn, makes it fail.
func slowLane(ctx workflow.Context, t activities.Target) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		TaskQueue:           SlowTaskQueue,
		StartToCloseTimeout: slowTimeout,
		WaitForCancellation: true, // a POST under way is brought to its end and counted
		RetryPolicy: &temporal.RetryPolicy{
			InitialInterval: turnDelay, BackoffCoefficient: 1.5, MaximumInterval: 30 * time.Second,
		},
		Priority: temporal.Priority{FairnessKey: fairnessKey(t.BotID)},
		Summary:  summarise(t),
	})
}

// fairnessKey shortens a bot's id to the 64 bytes that Temporal allows.
func fairnessKey(botID string) string {
	if len(botID) <= 64 {
		return botID
	}
	sum := sha256.Sum256([]byte(botID))
	return fmt.Sprintf("%x", sum)
}
