package workflows

import (
	"context"
	"fmt"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/mathub/webhooks/activities"
	"github.com/mathub/webhooks/webhook"
)

// NotifyDisabled tells a bot's owner that failures disabled a webhook, until the owner's endpoint takes it or the retry
// schedule ends. It answers StatusQuery and takes RetryNowSignal, as RetryDelivery does. Its result is that of the last
// attempt.
func NotifyDisabled(ctx workflow.Context, d webhook.Disabling) (activities.Result, error) {
	status := RetryStatus{Attempt: 1}
	retryNow, err := hurried(ctx, &status)
	if err != nil {
		return activities.Result{}, err
	}
	// The slow lane's options: an endpoint that hangs must not hold up deliveries.
	lane := slowLane(ctx, noticeTarget(d))
	for {
		var r activities.Result
		err := workflow.ExecuteActivity(lane, act.NotifyOwner, activities.Notice{Disabling: d, Attempt: status.Attempt}).Get(ctx, &r)
		if err != nil || r.RetryInMs == 0 {
			return r, err
		}
		at := workflow.Now(ctx).Add(r.RetryIn())
		status = RetryStatus{Attempt: status.Attempt + 1, NextAttemptAt: &at, LastError: r.Error}
		if err := awaitSignal(ctx, retryNow, r.RetryIn(), fmt.Sprintf("until attempt %d", status.Attempt)); err != nil {
			return r, err
		}
		status.NextAttemptAt = nil
	}
}

func noticeTarget(d webhook.Disabling) activities.Target {
	return activities.Target{WebhookID: d.WebhookID, BotID: d.BotID, Host: d.Host}
}

// StartNotice starts NotifyDisabled. For a disabling that has been handed over before it does nothing, for as long as
// Temporal remembers.
func StartNotice(ctx context.Context, c client.Client, d webhook.Disabling) error {
	_, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: d.NoticeID(), TaskQueue: TaskQueue, StaticSummary: summarise(noticeTarget(d)),
		WorkflowIDReusePolicy: enums.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE, WorkflowExecutionErrorWhenAlreadyStarted: true,
	}, NotifyDisabled, d)
	if temporal.IsWorkflowExecutionAlreadyStartedError(err) {
		return nil
	}
	return err
}
