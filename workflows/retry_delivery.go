package workflows

import (
	"fmt"
	"strings"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/mathub/webhooks/activities"
	"github.com/mathub/webhooks/visibility"
	"github.com/mathub/webhooks/webhook"
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
	EventID string `json:"eventId"`
	// EventType is for operators; it is empty where a version before 0.2 wrote the input.
	EventType webhook.EventType `json:"eventType,omitempty"`
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
	retryNow, err := hurried(ctx, &status)
	if err != nil {
		return activities.Result{}, err
	}
	show := func(how string) {
		workflow.SetCurrentDetails(ctx, retryDetails(workflow.GetInfo(ctx).Namespace, in, how, status))
	}
	delay := time.Duration(in.DelayMs) * time.Millisecond
	for step := in.Attempt; ; step++ {
		at := workflow.Now(ctx).Add(delay)
		status.NextAttemptAt = &at
		show(fmt.Sprintf("Attempt %d is due at **%s**.", status.Attempt, detailed(at)))
		if err := awaitSignal(ctx, retryNow, delay, fmt.Sprintf("until attempt %d", status.Attempt)); err != nil {
			show("Cancelled: nothing more is attempted.")
			return activities.Result{}, err
		}
		status.NextAttemptAt = nil
		show(fmt.Sprintf("Attempt %d is under way, or waits for its turn.", status.Attempt))

		d := activities.Delivery{EventID: in.EventID, WebhookID: in.Target.WebhookID, Attempt: status.Attempt, Step: step}
		r, err := deliverPatiently(ctx, in.Target, &d)
		status.Attempt = d.Attempt
		if err != nil {
			return r, err
		}
		if r.Status == activities.Failed {
			if status.LastError == "" {
				if err := upsertFailed(ctx); err != nil {
					return r, err
				}
			}
			status.LastError = r.Error
		}
		if r.RetryInMs == 0 {
			show(ended(status.Attempt, r))
			return r, nil
		}
		status.Attempt++
		delay = r.RetryIn()
	}
}

// hurried has a workflow answer StatusQuery with status, and returns the channel of its RetryNowSignal.
func hurried(ctx workflow.Context, status *RetryStatus) (workflow.ReceiveChannel, error) {
	query := workflow.QueryHandlerOptions{Description: "when the next attempt is due, and why the last failed"}
	err := workflow.SetQueryHandlerWithOptions(ctx, StatusQuery, func() (RetryStatus, error) { return *status, nil }, query)
	return workflow.GetSignalChannelWithOptions(ctx, RetryNowSignal, workflow.SignalChannelOptions{Description: "attempt it now; no input"}), err
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

// awaitSignal waits for a signal that comes from now on, at most for d. Its timer is shown as summary.
func awaitSignal(ctx workflow.Context, signal workflow.ReceiveChannel, d time.Duration, summary string) error {
	for signal.ReceiveAsync(nil) { // one sent during the attempt asked for the attempt that was made
	}
	wait := workflow.AwaitOptions{Timeout: d, TimerOptions: workflow.TimerOptions{Summary: summary}}
	if came, err := workflow.AwaitWithOptions(ctx, wait, func() bool { return signal.Len() > 0 }); err == nil && came {
		signal.ReceiveAsync(nil)
	}
	return ctx.Err()
}

// startRetry starts a RetryDelivery that outlives its parent; the future is ready when it has started.
func startRetry(ctx workflow.Context, in RetryInput, searchable bool) workflow.Future {
	options := workflow.ChildWorkflowOptions{
		WorkflowID:            RetryWorkflowID(in.EventID, in.Target.WebhookID),
		WorkflowIDReusePolicy: enums.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE_FAILED_ONLY,
		ParentClosePolicy:     enums.PARENT_CLOSE_POLICY_ABANDON,
		StaticSummary:         strings.TrimSpace(string(in.EventType) + " to " + summarise(in.Target)),
	}
	if searchable {
		options.TypedSearchAttributes = temporal.NewSearchAttributes(append(concerning(in.Target),
			visibility.EventType.ValueSet(string(in.EventType)), visibility.Failed.ValueSet(in.LastError != ""))...)
	}
	child := workflow.WithChildOptions(ctx, options)
	return workflow.ExecuteChildWorkflow(child, RetryDelivery, in).GetChildWorkflowExecution()
}
