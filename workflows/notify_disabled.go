package workflows

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/mathub/webhooks/internal/delivery"
	"github.com/mathub/webhooks/webhook"
)

func checkNotice(n delivery.Notice, workflowID string) error {
	n.Kind, n.Attempt = cmp.Or(n.Kind, webhook.NoticeDisabled), 1
	if err := n.Check(); err != nil {
		return err
	}
	return checkID(workflowID, webhook.Notice{Kind: n.Kind, WebhookID: n.WebhookID, Generation: n.Generation}.NoticeID())
}

// NoticeStatus is the answer to a NotifyDisabled's StatusQuery.
type NoticeStatus struct {
	Attempt       int        `json:"attempt"`       // the next one, or the one in flight
	NextAttemptAt *time.Time `json:"nextAttemptAt"` // null while an attempt is in flight, and at the end
	LastError     string     `json:"lastError"`
}

// NotifyDisabled notifies a bot's owner that failures disabled a webhook, or that it fails or has recovered, until the owner's endpoint takes it or the retry
// schedule ends. It answers StatusQuery and takes RetryNowSignal. Its result is that of the last attempt.
func NotifyDisabled(ctx workflow.Context, in delivery.Notice) (delivery.Result, error) {
	status := NoticeStatus{Attempt: 1}
	described := workflow.QueryHandlerOptions{Description: "when the next attempt is due, and why the last failed"}
	if err := workflow.SetQueryHandlerWithOptions(ctx, StatusQuery, func() (NoticeStatus, error) { return status, nil }, described); err != nil {
		return delivery.Result{}, err
	}
	retryNow := workflow.GetSignalChannelWithOptions(ctx, RetryNowSignal, workflow.SignalChannelOptions{Description: "attempt it now; no input"})
	// The slow task queue's: an endpoint that hangs must not hold up deliveries.
	options := slowActivity(ctx, in.BotID, in.WebhookID.String())
	for {
		var r delivery.Result
		in.Attempt = status.Attempt
		err := workflow.ExecuteActivity(options, act.NotifyOwner, in).Get(ctx, &r)
		if err != nil || r.RetryIn == 0 {
			return r, err
		}
		at := workflow.Now(ctx).Add(r.RetryIn)
		status = NoticeStatus{Attempt: status.Attempt + 1, NextAttemptAt: &at, LastError: r.Error}
		for retryNow.ReceiveAsync(nil) { // one sent during the attempt asked for the attempt that was made
		}
		wait := workflow.AwaitOptions{Timeout: r.RetryIn, TimerOptions: workflow.TimerOptions{Summary: fmt.Sprintf("until attempt %d", status.Attempt)}}
		if _, err := workflow.AwaitWithOptions(ctx, wait, func() bool { return retryNow.Len() > 0 }); err != nil {
			return r, err
		}
		status.NextAttemptAt = nil
	}
}

// StartNotice starts NotifyDisabled. For a notice that has been handed over before it does nothing, for as long as
// Temporal remembers, unless the workflow ended before its work was done: terminated, cancelled, failed or timed out.
func StartNotice(ctx context.Context, c client.Client, d webhook.Notice) error {
	_, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: d.NoticeID(), TaskQueue: TaskQueue, StaticSummary: targetLabel(delivery.Target{WebhookID: d.WebhookID, BotID: d.BotID, Host: d.Host}),
		WorkflowIDReusePolicy: enums.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE_FAILED_ONLY, WorkflowExecutionErrorWhenAlreadyStarted: true,
	}, NotifyDisabled, delivery.Notice{Kind: d.Kind, WebhookID: d.WebhookID, Generation: d.Generation, BotID: d.BotID})
	if temporal.IsWorkflowExecutionAlreadyStartedError(err) {
		return nil
	}
	return err
}
