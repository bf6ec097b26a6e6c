package workflows

import (
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/workflow"

	"github.com/mathub/webhooks/activities"
)

const (
	// slowTimeout bounds one activity of the slow lane: 8 s of waiting for a turn, 5 s of POST, the recording.
	slowTimeout = 25 * time.Second
	// turnDelay is when a delivery whose turn did not come asks again.
	turnDelay = 5 * time.Second
)

const (
	// RetryNowSignal makes a waiting RetryDelivery attempt at once. It takes no input.
	RetryNowSignal = "retry-now"
	// StatusQuery answers a RetryDelivery's RetryStatus.
	StatusQuery = "status"
)

// RetryInput is a delivery that is to be attempted again, or, with Attempt 1, that has yet to get its first turn.
type RetryInput struct {
	EventID   string            `json:"eventId"`
	Target    activities.Target `json:"target"`
	Attempt   int               `json:"attempt"` // the next one
	DelayMs   int64             `json:"delayMs"` // until then
	LastError string            `json:"lastError,omitempty"`
}

// RetryStatus is the answer to StatusQuery.
type RetryStatus struct {
	Attempt       int        `json:"attempt"`       // the next one, or the one under way
	NextAttemptAt *time.Time `json:"nextAttemptAt"` // null while an attempt is under way, and at the end
	LastError     string     `json:"lastError"`
}

// RetryDelivery attempts one event's delivery to one webhook until the receiver takes it, the schedule ends, or the
// webhook is disabled, deleted or no longer subscribed. Its result is that of the last attempt.
func RetryDelivery(ctx workflow.Context, in RetryInput) (activities.Result, error) {
	status := RetryStatus{Attempt: in.Attempt, LastError: in.LastError}
	if err := workflow.SetQueryHandler(ctx, StatusQuery, func() (RetryStatus, error) { return status, nil }); err != nil {
		return activities.Result{}, err
	}
	delay := time.Duration(in.DelayMs) * time.Millisecond
	retryNow := workflow.GetSignalChannel(ctx, RetryNowSignal)
	for step := in.Attempt; ; step++ {
		at := workflow.Now(ctx).Add(delay)
		status.NextAttemptAt = &at
		if err := awaitSignal(ctx, retryNow, delay); err != nil {
			return activities.Result{}, err
		}
		status.NextAttemptAt = nil

		d := activities.Delivery{EventID: in.EventID, WebhookID: in.Target.WebhookID, Attempt: status.Attempt, Step: step}
		r, err := deliverPatiently(ctx, in.Target, &d)
		status.Attempt = d.Attempt
		if err != nil {
			return r, err
		}
		if r.RetryInMs == 0 {
			return r, nil
		}
		status.Attempt++
		status.LastError = r.Error
		delay = r.RetryIn()
	}
}

// deliverPatiently makes an attempt through the slow lane, under d's number or, where redeliveries and recoveries have
// taken that meanwhile, under the first that is free.
func deliverPatiently(ctx workflow.Context, t activities.Target, d *activities.Delivery) (activities.Result, error) {
	for ; ; d.Attempt++ {
		var r activities.Result
		in := activities.SlowDelivery{Delivery: *d, Patient: true}
		if err := workflow.ExecuteActivity(slowLane(ctx, t), act.DeliverSlow, in).Get(ctx, &r); err != nil || !r.Taken {
			return r, err
		}
	}
}

// awaitSignal waits for a signal that comes from now on, at most for d.
func awaitSignal(ctx workflow.Context, signal workflow.ReceiveChannel, d time.Duration) error {
	for signal.ReceiveAsync(nil) { // one sent during the attempt asked for the attempt that was made
	}
	signal.ReceiveWithTimeout(ctx, d, nil)
	return ctx.Err()
}

// startRetry starts a RetryDelivery that outlives its parent; the future is ready when it has started.
func startRetry(ctx workflow.Context, in RetryInput) workflow.Future {
	child := workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{
		WorkflowID:            RetryWorkflowID(in.EventID, in.Target.WebhookID),
		WorkflowIDReusePolicy: enums.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE_FAILED_ONLY,
		ParentClosePolicy:     enums.PARENT_CLOSE_POLICY_ABANDON,
		StaticSummary:         summarise(in.Target),
	})
	return workflow.ExecuteChildWorkflow(child, RetryDelivery, in).GetChildWorkflowExecution()
}
