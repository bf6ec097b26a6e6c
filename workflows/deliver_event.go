package workflows

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/mathub/webhooks/activities"
	"github.com/mathub/webhooks/emit"
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
	// Webhooks is the size of the audience; of them so many took it, did not take it and get no further attempt,
	// are attempted again in a RetryDelivery workflow each, or had been disabled, deleted or unsubscribed meanwhile.
	Webhooks  int `json:"webhooks"`
	Delivered int `json:"delivered"`
	Failed    int `json:"failed"`
	Retrying  int `json:"retrying"`
	Skipped   int `json:"skipped"`
	// NotDelivered says of each webhook that has not taken it why, by the webhook's id; of the first maxListed of them, and
	// of NotListed more it does not.
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
	about := subject{event.Type, event.Summary()}
	workflow.SetCurrentDetails(ctx, about.summary)
	var audience activities.Audience
	// A reset run is the same run to the event: what it has delivered is not sent again.
	accept := activities.AcceptInput{Event: event, RunID: info.OriginalRunID, At: info.WorkflowStartTime}
	err = workflow.ExecuteLocalActivity(persistently(ctx, "accept the event, look up its webhooks"), act.AcceptEvent, accept).Get(ctx, &audience)
	if err != nil {
		return Summary{}, err
	}
	if audience.Duplicate {
		workflow.SetCurrentDetails(ctx, about.summary+"\n\nA duplicate: the event was accepted before, and delivered by the workflow that did.")
		return Summary{EventID: event.ID, Duplicate: true}, nil
	}
	f := &fan{about: about, sum: Summary{EventID: event.ID}, searchable: audience.Searchable, held: map[string]bool{}}
	if len(audience.Pages) > 0 {
		if err := f.startBatches(ctx, audience); err != nil {
			return f.sum, err
		}
		audience = activities.Audience{Held: audience.Held}
	}
	return f.all(ctx, activities.Page{Upto: uuid.Max}, audience)
}

// DeliverBatch delivers an accepted event to one page of a large audience.
func DeliverBatch(ctx workflow.Context, in activities.BatchInput) (Summary, error) {
	var audience activities.Audience
	err := workflow.ExecuteLocalActivity(persistently(ctx, "look up the batch's webhooks"), act.ResolveBatch, in).Get(ctx, &audience)
	if err != nil {
		return Summary{}, err
	}
	f := &fan{
		about: subject{in.EventType, in.Summary}, sum: Summary{EventID: in.EventID}, searchable: audience.Searchable, held: map[string]bool{},
	}
	return f.all(ctx, in.Page, audience)
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
func (f *fan) startBatches(ctx workflow.Context, audience activities.Audience) error {
	pages := audience.Pages
	started := make([]workflow.Future, 0, len(pages))
	for i, page := range pages {
		options := workflow.ChildWorkflowOptions{
			WorkflowID:            fmt.Sprintf("%s-batch-%d", emit.WorkflowID(f.sum.EventID), i+1),
			WorkflowIDReusePolicy: enums.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE_FAILED_ONLY,
			ParentClosePolicy:     enums.PARENT_CLOSE_POLICY_ABANDON,
			StaticSummary:         fmt.Sprintf("%s · batch %d of %d", f.about.summary, i+1, len(pages)),
		}
		if f.searchable {
			options.TypedSearchAttributes = temporal.NewSearchAttributes(visibility.EventType.ValueSet(string(f.about.eventType)))
		}
		child := workflow.WithChildOptions(ctx, options)
		in := activities.BatchInput{
			EventID: f.sum.EventID, EventType: f.about.eventType, Summary: f.about.summary, Page: page, Except: audience.Held,
		}
		started = append(started, workflow.ExecuteChildWorkflow(child, DeliverBatch, in).GetChildWorkflowExecution())
	}
	f.sum.Batches = len(pages)
	return awaitStarts(ctx, started)
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

const (
	// A RetryDelivery costs the engine as much as two events. Where many of an audience fail at once, the first
	// retriesAtOnce start at once, and then retriesEach a second, as the retries are only due in half a minute.
	retriesAtOnce = 10
	retriesEach   = 5
)

// all makes the first attempt at every target and leaves what failed to RetryDelivery. The bots held back get their
// part bit by bit; until then the workflow stays open.
func (f *fan) all(ctx workflow.Context, page activities.Page, audience activities.Audience) (Summary, error) {
	if err := f.out(ctx, audience.Targets); err != nil {
		return f.sum, err
	}
	held := audience.Held
	for _, t := range audience.Targets {
		if f.held[t.BotID] && !slices.Contains(held, t.BotID) {
			held = append(held, t.BotID)
		}
	}
	var err error
	bots := workflow.NewWaitGroup(ctx)
	for _, bot := range held {
		bots.Add(1)
		f.crowded++
		workflow.Go(ctx, func(ctx workflow.Context) {
			defer bots.Done()
			defer func() { f.crowded-- }()
			if e := f.admit(ctx, page, bot); e != nil && err == nil {
				err = e
			}
		})
	}
	f.show(ctx)
	bots.Wait(ctx)
	f.show(ctx)
	return f.sum, err
}

// admit goes through one bot's part of the audience as the bot has room.
func (f *fan) admit(ctx workflow.Context, page activities.Page, bot string) error {
	in := activities.HeldInput{EventID: f.sum.EventID, BotID: bot, After: page.After, Upto: page.Upto}
	for {
		var admitted activities.Admitted
		err := workflow.ExecuteLocalActivity(persistently(ctx, "wait until bot "+bot+" has room"), act.AdmitHeld, in).Get(ctx, &admitted)
		if err != nil {
			return err
		}
		in.Round++
		if n := len(admitted.Targets); n > 0 {
			in.Round, in.After = 0, admitted.Targets[n-1].WebhookID
			f.held[bot] = false
			if err := f.out(ctx, admitted.Targets); err != nil {
				return err
			}
			if f.held[bot] { // the room was gone before all had come
				in.After, admitted.AgainInMs = page.After, max(1, admitted.AgainInMs)
			}
		}
		if admitted.AgainInMs == 0 {
			return nil
		}
		if err := workflow.Sleep(ctx, time.Duration(admitted.AgainInMs)*time.Millisecond); err != nil {
			return err
		}
	}
}

// oneByOne is how many webhooks of an event have a line of their own each in its history. More share one: each pending
// activity costs the SDK work at every other's end.
const oneByOne = 3

// fan is what an event's fan-out has come to.
type fan struct {
	about      subject
	sum        Summary
	searchable bool
	held       map[string]bool     // bots that had no room for a target
	crowded    int                 // bots held back that have yet to get their part
	troubled   []trouble           // of the targets that have not taken it, the first
	lost       []activities.Target // failed, and no RetryDelivery says so
}

// subject is what an event is about, as operators see it.
type subject struct {
	eventType webhook.EventType
	summary   string
}

// out makes the first attempts at targets.
func (f *fan) out(ctx workflow.Context, targets []activities.Target) error {
	w := &wave{fan: f, ctx: ctx, selector: workflow.NewSelector(ctx)}
	f.sum.Webhooks += len(targets)
	var fast []activities.Target
	for _, t := range targets {
		if t.Slow {
			w.slowLane(t)
		} else {
			fast = append(fast, t)
		}
	}
	if len(fast) > oneByOne {
		w.group(fast)
	} else {
		for _, t := range fast {
			w.fastLane(t)
		}
	}
	f.show(ctx)
	lost := len(f.lost)
	for w.pending > 0 {
		w.selector.Select(ctx)
	}
	f.show(ctx)
	if len(f.lost) > lost {
		if err := f.upsertLost(ctx); err != nil {
			return err
		}
	}
	return w.startRetries()
}

// wave is a number of first attempts made together.
type wave struct {
	*fan
	ctx      workflow.Context
	selector workflow.Selector
	pending  int
	started  []workflow.Future
	waiting  []RetryInput // for their start
	since    []time.Time  // when they were planned
}

func (w *wave) delivery(t activities.Target) activities.Delivery {
	return activities.Delivery{EventID: w.sum.EventID, WebhookID: t.WebhookID, Attempt: 1}
}

func (w *wave) fastLane(t activities.Target) {
	w.pending++
	w.selector.AddFuture(workflow.ExecuteLocalActivity(fastLane(w.ctx, attemptTimeout, summarise(t)), act.Deliver, w.delivery(t)), func(done workflow.Future) {
		w.pending--
		var r activities.Result
		if err := done.Get(w.ctx, &r); err != nil {
			w.slowLane(t) // our own side's trouble
			return
		}
		w.land(t, r)
	})
}

// group takes many targets through the fast lane at once.
func (w *wave) group(targets []activities.Target) {
	w.pending++
	in := activities.Group{EventID: w.sum.EventID, WebhookIDs: make([]uuid.UUID, len(targets))}
	for i, t := range targets {
		in.WebhookIDs[i] = t.WebhookID
	}
	ctx := fastLane(w.ctx, groupTimeout, fmt.Sprintf("first attempts at %d webhooks", len(targets)))
	w.selector.AddFuture(workflow.ExecuteLocalActivity(ctx, act.DeliverGroup, in), func(done workflow.Future) {
		w.pending--
		var r activities.GroupResult
		if err := done.Get(w.ctx, &r); err != nil {
			for _, t := range targets {
				w.slowLane(t)
			}
			return
		}
		w.sum.Delivered += r.Delivered
		for _, t := range targets {
			if ended, ok := r.Ended[t.WebhookID]; ok {
				w.land(t, ended)
			} else if slices.Contains(r.Open, t.WebhookID) {
				w.fastLane(t)
			}
		}
	})
}

// land goes on with what came of a target in the fast lane.
func (w *wave) land(t activities.Target, r activities.Result) {
	switch {
	case r.Held:
		w.sum.Webhooks-- // counted again when it is admitted
		w.held[t.BotID] = true
	case r.Status == activities.Deferred:
		w.slowLane(t) // which waits for its turn
	default:
		w.settle(t, r)
	}
}

func (w *wave) slowLane(t activities.Target) {
	w.pending++
	in := activities.SlowDelivery{Delivery: w.delivery(t)}
	w.selector.AddFuture(workflow.ExecuteActivity(slowLane(w.ctx, t), act.DeliverSlow, in), func(done workflow.Future) {
		w.pending--
		var r activities.Result
		if err := done.Get(w.ctx, &r); err != nil || r.Status == activities.Deferred {
			// It is still not its turn: RetryDelivery waits for that, so that this workflow can end.
			w.retry(t, RetryInput{Attempt: 1, DelayMs: max(turnDelay.Milliseconds(), r.RetryInMs)})
			return
		}
		w.settle(t, r)
	})
}

func (w *wave) settle(t activities.Target, r activities.Result) {
	switch {
	case r.Status == activities.Delivered:
		w.sum.Delivered++
	case r.Status == activities.Skipped:
		w.sum.Skipped++
		w.note(t, "skipped: "+r.Error)
	case r.RetryInMs == 0:
		w.sum.Failed++
		w.lost = append(w.lost, t)
		w.note(t, failure(r))
	default:
		w.retry(t, RetryInput{Attempt: 2, DelayMs: r.RetryInMs, LastError: r.Error})
	}
}

func (w *wave) retry(t activities.Target, in RetryInput) {
	w.sum.Retrying++
	in.EventID, in.EventType, in.Target = w.sum.EventID, w.about.eventType, t
	if in.LastError == "" {
		w.note(t, "waits for its turn, in "+RetryWorkflowID(in.EventID, t.WebhookID))
	} else {
		w.note(t, in.LastError+", retrying, in "+RetryWorkflowID(in.EventID, t.WebhookID))
	}
	if len(w.started) < retriesAtOnce {
		w.started = append(w.started, startRetry(w.ctx, in, w.searchable))
		return
	}
	w.waiting, w.since = append(w.waiting, in), append(w.since, workflow.Now(w.ctx))
}

// startRetries starts the retries that wait for it, and returns when all have started.
func (w *wave) startRetries() error {
	for i, in := range w.waiting {
		if i%retriesEach == 0 {
			if err := workflow.Sleep(w.ctx, time.Second); err != nil {
				return err
			}
		}
		in.DelayMs = max(0, in.DelayMs-workflow.Now(w.ctx).Sub(w.since[i]).Milliseconds())
		w.started = append(w.started, startRetry(w.ctx, in, w.searchable))
	}
	return awaitStarts(w.ctx, w.started)
}

// summarise names a delivery in the UI: the host and the webhook's id. The UI renders it as Markdown, so it holds
// nothing that a stranger chose freely: a host has been checked.
func summarise(t activities.Target) string { return t.Host + " " + t.WebhookID.String() }

// fastLane are the options of the fast lane's activities.
func fastLane(ctx workflow.Context, timeout time.Duration, summary string) workflow.Context {
	return workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{
		StartToCloseTimeout:    timeout,
		ScheduleToCloseTimeout: laneTimeout,
		RetryPolicy: &temporal.RetryPolicy{
			InitialInterval: 100 * time.Millisecond, BackoffCoefficient: 2, MaximumInterval: 5 * time.Second,
		},
		Summary: summary,
	})
}

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
