package workflows

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/mathub/webhooks/activities"
	"github.com/mathub/webhooks/internal/delivery"
	"github.com/mathub/webhooks/internal/failpoint"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/internal/searchattr"
	"github.com/mathub/webhooks/webhook"
)

const (
	// WakeSignal has a WebhookQueue look at its queue. It takes no input.
	WakeSignal = "wake"
	// RetryNowSignal makes what is planned due at once: of the event whose id is its input, or, with an empty text or none,
	// of all.
	RetryNowSignal = "retry-now"
	// StatusQuery answers a WebhookQueue's QueueStatus as it last saw it; the update of the same name looks first.
	StatusQuery = "status"
)

// queueRounds is after how many rounds a WebhookQueue continues as a new run, so that its history stays short. Many signals without a
// round make a long history too: of that, Temporal tells.
const queueRounds = 100

// QueueInput is a webhook whose queue is to be sent.
type QueueInput struct {
	Target delivery.Target `json:"target"`
	// Window is how many attempts the next round may make; 0: one.
	Window int `json:"window,omitempty"`
	// Failed: a delivery has failed, and the workflow is found by it.
	Failed bool `json:"failed,omitempty"`
	// GaveUp: a delivery has been given up, likewise.
	GaveUp bool `json:"gaveUp,omitempty"`
}

func (in QueueInput) check(workflowID string) error {
	if err := checkTarget("target.", in.Target); err != nil {
		return err
	}
	if in.Window < 0 || in.Window > delivery.LargestWindow {
		return webhook.Invalid("window", fmt.Sprintf("must be 0 to %d", delivery.LargestWindow))
	}
	return checkID(workflowID, QueueWorkflowID(in.Target.WebhookID))
}

// QueueStatus is the answer to StatusQuery.
type QueueStatus struct {
	Waiting       int        `json:"waiting"` // rows, counted up to 1,000
	Window        int        `json:"window"`
	FailureCount  int        `json:"failureCount"`
	Disabled      bool       `json:"disabled,omitempty"` // the webhook is
	LastError     string     `json:"lastError,omitempty"`
	NextAttemptAt *time.Time `json:"nextAttemptAt"` // null while a round is in progress, when nothing waits, and while paused
	// Paused: an operator has stopped deliveries.
	Paused *history.Pause `json:"paused,omitempty"`
}

// QueueWorkflowID is the id of the one workflow that sends what stands in a webhook's queue. It is the lease: no two
// workers send to a webhook from its queue at once.
func QueueWorkflowID(webhookID uuid.UUID) string { return "webhook-" + webhookID.String() }

// WebhookQueue sends what stands in a webhook's queue, oldest first, a window's worth at a time, until no row is left. The
// queue itself is in Postgres: this workflow holds nothing that a crash could lose.
func WebhookQueue(ctx workflow.Context, in QueueInput) error {
	q := &queueRun{in: in, window: max(1, in.Window)}
	if err := q.listen(ctx); err != nil {
		return err
	}
	state, err := q.look(ctx)
	for round := 0; err == nil; {
		step := delivery.NextStep(state, q.window)
		q.show(ctx, state, step)
		switch step.Kind {
		case delivery.AttemptRows:
			state, err = q.attempt(ctx, step.Rows)
			round++
		case delivery.AwaitTime:
			state, err = q.sleep(ctx, step.Wait)
		case delivery.EndQueue:
			if !q.signalled() {
				return nil
			}
			state, err = q.look(ctx)
		}
		if err == nil && (round >= queueRounds || workflow.GetInfo(ctx).GetContinueAsNewSuggested()) {
			if err := q.hurry(ctx); err != nil { // the new run would not get these signals; it looks at the queue by itself
				return err
			}
			failpoint.Here("continue-as-new")
			return workflow.NewContinueAsNewError(ctx, WebhookQueue, QueueInput{Target: in.Target, Window: q.window, Failed: q.in.Failed, GaveUp: q.in.GaveUp})
		}
	}
	return err
}

type queueRun struct {
	in             QueueInput
	window         int
	status         QueueStatus
	wake, retryNow workflow.ReceiveChannel
}

func (q *queueRun) listen(ctx workflow.Context) error {
	q.wake = workflow.GetSignalChannelWithOptions(ctx, WakeSignal, workflow.SignalChannelOptions{Description: "look at the queue; no input"})
	q.retryNow = workflow.GetSignalChannelWithOptions(ctx, RetryNowSignal, workflow.SignalChannelOptions{Description: "attempt now what is planned; input: an event's id, or none for all"})
	described := workflow.QueryHandlerOptions{Description: "how many wait, when the next attempt is due, and why the last failed"}
	if err := workflow.SetQueryHandlerWithOptions(ctx, StatusQuery, func() (QueueStatus, error) { return q.status, nil }, described); err != nil {
		return err
	}
	return workflow.SetUpdateHandlerWithOptions(ctx, StatusQuery, func(ctx workflow.Context) (QueueStatus, error) {
		var s history.QueueState
		err := workflow.ExecuteLocalActivity(databaseActivity(ctx, "look at the queue"), act.LookAtQueue, activities.LookInput{WebhookID: q.in.Target.WebhookID, BotID: q.in.Target.BotID}).Get(ctx, &s)
		q.status.Waiting, q.status.FailureCount, q.status.LastError, q.status.Paused = s.Waiting, s.FailureCount, s.LastError, s.Paused
		return q.status, err
	}, workflow.UpdateHandlerOptions{Description: "look at the queue, and answer as the query does"})
}

// signalled says whether a signal waits, and takes those that only wake.
func (q *queueRun) signalled() bool {
	woken := false
	for q.wake.ReceiveAsync(nil) {
		woken = true
	}
	return woken || q.retryNow.Len() > 0
}

// hurry does what retry-now signals ask for.
func (q *queueRun) hurry(ctx workflow.Context) error {
	var eventID string
	for q.retryNow.ReceiveAsync(&eventID) {
		in := activities.RetryNowInput{WebhookID: q.in.Target.WebhookID, EventID: eventID}
		if err := workflow.ExecuteLocalActivity(databaseActivity(ctx, "attempt now what is planned"), act.HurryQueue, in).Get(ctx, nil); err != nil {
			return err
		}
		eventID = ""
	}
	return nil
}

// look reads how the queue stands, after it has done what retry-now signals ask for.
func (q *queueRun) look(ctx workflow.Context) (s history.QueueState, err error) {
	for q.wake.ReceiveAsync(nil) {
	}
	if err := q.hurry(ctx); err != nil {
		return s, err
	}
	in := activities.LookInput{WebhookID: q.in.Target.WebhookID, BotID: q.in.Target.BotID, Most: q.window}
	err = workflow.ExecuteLocalActivity(databaseActivity(ctx, "look at the queue"), act.LookAtQueue, in).Get(ctx, &s)
	return s, err
}

// sleep waits for a signal, at most for d, and looks at the queue.
func (q *queueRun) sleep(ctx workflow.Context, d time.Duration) (history.QueueState, error) {
	wait := workflow.AwaitOptions{Timeout: d, TimerOptions: workflow.TimerOptions{Summary: "until the next attempt"}}
	if _, err := workflow.AwaitWithOptions(ctx, wait, func() bool { return q.wake.Len() > 0 || q.retryNow.Len() > 0 }); err != nil {
		return history.QueueState{}, err
	}
	return q.look(ctx)
}

// attempt makes a round and returns how the queue stands after it.
func (q *queueRun) attempt(ctx workflow.Context, rows []history.Row) (history.QueueState, error) {
	t := q.in.Target
	round := delivery.Round{WebhookID: t.WebhookID, BotID: t.BotID, Rows: rows, Window: q.window}
	var r delivery.RoundResult
	if err := workflow.ExecuteActivity(slowActivity(ctx, t.BotID, roundSummary(rows)), act.DeliverRound, round).Get(ctx, &r); err != nil {
		return r.State, err
	}
	if r.BusyFor > 0 {
		return q.sleep(ctx, r.BusyFor)
	}
	q.window = max(1, r.Window)
	if err := q.upsertFailed(ctx, r); err != nil {
		return r.State, err
	}
	if r.State.ResumeIn > 0 || q.retryNow.Len() > 0 {
		return q.look(ctx) // which waits out the rest of a failing webhook
	}
	return r.State, nil
}

// upsertFailed lets the queue be found once a round has had a failure, and once it has given a delivery up.
func (q *queueRun) upsertFailed(ctx workflow.Context, r delivery.RoundResult) error {
	failed, gaveUp := r.Failed > 0 && !q.in.Failed, r.GaveUp > 0 && !q.in.GaveUp
	if !r.Searchable || !failed && !gaveUp {
		return nil
	}
	q.in.Failed, q.in.GaveUp = true, q.in.GaveUp || gaveUp
	return upsertFailed(ctx, append(searchAttributesFor(q.in.Target), outcomeOf(q.in.GaveUp))...)
}

// roundSummary names a round's attempts, such as "e1 attempt 2, e7 attempt 1 and 3 more".
func roundSummary(rows []history.Row) string {
	const named = 2
	parts := make([]string, 0, named)
	for _, row := range rows[:min(named, len(rows))] {
		parts = append(parts, fmt.Sprintf("%s attempt %d", row.EventID, row.Attempt))
	}
	text := strings.Join(parts, ", ")
	if more := len(rows) - named; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

func (q *queueRun) show(ctx workflow.Context, s history.QueueState, step delivery.QueueStep) {
	q.status = QueueStatus{Waiting: s.Waiting, Window: q.window, FailureCount: s.FailureCount, Disabled: !s.Active && !s.Gone, LastError: s.LastError, Paused: s.Paused}
	if step.Kind == delivery.AwaitTime && s.Paused == nil {
		at := workflow.Now(ctx).Add(step.Wait)
		q.status.NextAttemptAt = &at
	}
	workflow.SetCurrentDetails(ctx, queueDetails(q.in.Target, q.status, step))
}

// WakeQueue has a webhook's queue looked at, and starts its workflow where none runs.
func WakeQueue(ctx context.Context, c client.Client, a *searchattr.Attributes, t delivery.Target) error {
	id := QueueWorkflowID(t.WebhookID)
	options := client.StartWorkflowOptions{ID: id, TaskQueue: TaskQueue, StaticSummary: "queue of " + targetLabel(t)}
	err := a.SignalWithStart(ctx, c, temporal.NewSearchAttributes(searchAttributesFor(t)...), WakeSignal, nil, options, WebhookQueue, QueueInput{Target: t})
	if err != nil {
		return fmt.Errorf("wake %s: %w", id, err)
	}
	return nil
}
