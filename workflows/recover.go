package workflows

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/mathub/webhooks/activities"
	"github.com/mathub/webhooks/visibility"
)

// A recovery delivers one at a time and rests for recoverPause after every recoverBurst: ten a second at most, since
// the receiver has just been in trouble and has new events to take as well. Temporal's timers come up to a second late,
// so that a rest after each delivery would make it one a second.
const (
	recoverBurst = 10
	recoverPause = time.Second
)

// ProgressQuery answers a Recover workflow's Progress.
const ProgressQuery = "progress"

// The states of a recovery.
const (
	RecoveryRunning   = "running"
	RecoveryCompleted = "completed"
	RecoveryCancelled = "cancelled"
	// RecoveryStopped says that it stopped by itself, as the webhook was disabled again or deleted, or that an operator
	// ended its workflow.
	RecoveryStopped = "stopped"
)

// ErrRecoveryRunning says that the webhook is being recovered already.
var ErrRecoveryRunning = errors.New("a recovery of the webhook is running")

// ErrNoRecovery says that no recovery of the webhook is running or remembered.
var ErrNoRecovery = errors.New("there is no recovery of the webhook")

// Progress is how far a recovery has come.
type Progress struct {
	State     string `json:"state"`
	Found     int    `json:"found"`
	Delivered int    `json:"delivered"`
	Failed    int    `json:"failed"`
	Remaining int    `json:"remaining"`
	// LastError is why the last failed delivery failed, or why the recovery stopped.
	LastError string `json:"lastError,omitempty"`
}

// RecoverInput is a recovery to run, or, with Progress and After, to go on with.
type RecoverInput struct {
	Span     activities.Span   `json:"span"`
	Target   activities.Target `json:"target"`
	Progress Progress          `json:"progress"`
	After    activities.Missed `json:"after"`
}

// Recover delivers what a webhook missed, oldest first. It goes on as a new run after each page, so that its history
// stays short.
func Recover(ctx workflow.Context, in RecoverInput) (Progress, error) {
	progress := in.Progress
	progress.State = RecoveryRunning
	show := func() { workflow.SetCurrentDetails(ctx, recoveryDetails(in, progress)) }
	show()
	described := workflow.QueryHandlerOptions{Description: "how many events were found, delivered and failed"}
	if err := workflow.SetQueryHandlerWithOptions(ctx, ProgressQuery, func() (Progress, error) { return progress, nil }, described); err != nil {
		return progress, err
	}
	end := func(state string) (Progress, error) {
		progress.State = state
		show()
		if state == RecoveryCancelled {
			return progress, temporal.NewCanceledError()
		}
		return progress, nil
	}
	var page []activities.Missed
	lookup := activities.MissedInput{Span: in.Span, After: in.After}
	if err := workflow.ExecuteLocalActivity(persistently(ctx, "look up what was missed"), act.ListMissed, lookup).Get(ctx, &page); err != nil {
		if ctx.Err() != nil {
			return end(RecoveryCancelled)
		}
		return progress, err
	}
	for i, missed := range page {
		d := activities.Delivery{EventID: missed.EventID, WebhookID: in.Span.WebhookID, Attempt: missed.Attempt}
		r, err := deliverPatiently(ctx, in.Target, &d)
		if err != nil {
			if ctx.Err() != nil {
				return end(RecoveryCancelled)
			}
			return progress, err
		}
		switch r.Status {
		case activities.Delivered:
			progress.Delivered++
		case activities.Failed:
			progress.Failed++
			progress.LastError = r.Error
			if progress.Failed == 1 {
				if err := upsertFailed(ctx); err != nil {
					return progress, err
				}
			}
		case activities.Skipped, activities.Deferred:
			if r.Error == activities.WebhookDisabled || r.Error == activities.WebhookGone {
				progress.LastError = r.Error
				return end(RecoveryStopped)
			}
		}
		progress.Remaining = max(0, progress.Remaining-1)
		show()
		if (i+1)%recoverBurst == 0 && workflow.Sleep(ctx, recoverPause) != nil {
			return end(RecoveryCancelled)
		}
	}
	if len(page) < activities.MissedPage {
		progress.Remaining = 0
		return end(RecoveryCompleted)
	}
	in.Progress, in.After = progress, page[len(page)-1]
	return progress, workflow.NewContinueAsNewError(ctx, Recover, in)
}

func recoverWorkflowID(webhookID uuid.UUID) string { return "recover-" + webhookID.String() }

// StartRecovery starts a recovery; found is how many events it will find. It fails with ErrRecoveryRunning when the
// webhook has one under way.
func StartRecovery(ctx context.Context, c client.Client, a *visibility.Attributes, span activities.Span, target activities.Target, found int) (Progress, error) {
	progress := Progress{State: RecoveryRunning, Found: found, Remaining: found}
	_, err := a.Start(ctx, c, temporal.NewSearchAttributes(concerning(target)...), client.StartWorkflowOptions{
		ID: recoverWorkflowID(span.WebhookID), TaskQueue: TaskQueue, StaticSummary: "what " + summarise(target) + " missed",
		WorkflowIDReusePolicy: enums.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE, WorkflowExecutionErrorWhenAlreadyStarted: true,
	}, Recover, RecoverInput{Span: span, Target: target, Progress: progress})
	if temporal.IsWorkflowExecutionAlreadyStartedError(err) {
		return Progress{}, ErrRecoveryRunning
	}
	if err != nil {
		return Progress{}, fmt.Errorf("start the recovery: %w", err)
	}
	return progress, nil
}

// RecoveryProgress returns how far the webhook's recovery, running or ended, has come, or ErrNoRecovery.
func RecoveryProgress(ctx context.Context, c client.Client, webhookID uuid.UUID) (p Progress, err error) {
	answer, err := c.QueryWorkflow(ctx, recoverWorkflowID(webhookID), "", ProgressQuery)
	if err == nil {
		err = answer.Get(&p)
	}
	if err == nil && p.State == RecoveryRunning {
		// That is also the last state of one that was ended from outside, which cannot say so itself.
		var w *workflowservice.DescribeWorkflowExecutionResponse
		w, err = c.DescribeWorkflowExecution(ctx, recoverWorkflowID(webhookID), "")
		switch w.GetWorkflowExecutionInfo().GetStatus() {
		case enums.WORKFLOW_EXECUTION_STATUS_TERMINATED, enums.WORKFLOW_EXECUTION_STATUS_TIMED_OUT, enums.WORKFLOW_EXECUTION_STATUS_FAILED:
			p.State = RecoveryStopped
		}
	}
	return p, orNoRecovery(err)
}

// CancelRecovery asks the webhook's recovery to end after the delivery under way; one that has ended stays as it is. It
// fails with ErrNoRecovery when none is remembered.
func CancelRecovery(ctx context.Context, c client.Client, webhookID uuid.UUID) error {
	return orNoRecovery(c.CancelWorkflow(ctx, recoverWorkflowID(webhookID), ""))
}

func orNoRecovery(err error) error {
	var none *serviceerror.NotFound
	if errors.As(err, &none) {
		return ErrNoRecovery
	}
	return err
}
