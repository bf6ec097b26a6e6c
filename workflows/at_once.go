package workflows

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/mathub/webhooks/activities"
	"github.com/mathub/webhooks/visibility"
	"github.com/mathub/webhooks/webhook"
)

// ErrWebhookGone says that the webhook was deleted before anything was sent to it.
var ErrWebhookGone = errors.New("the webhook is gone")

// ErrBusy says that the webhook is failing and another request to it stayed under way: nothing was sent.
var ErrBusy = errors.New("another request to the webhook is still under way")

// ErrEventGone says that the event is no longer kept.
var ErrEventGone = errors.New("the event is no longer kept")

const testPrefix = "test-"

// SendTest sends a test event to one webhook, once. The event's id is the workflow's, less `test-`.
func SendTest(ctx workflow.Context, webhookID uuid.UUID) (activities.Result, error) {
	info := workflow.GetInfo(ctx)
	in := activities.TestInput{
		WebhookID: webhookID, EventID: strings.TrimPrefix(info.WorkflowExecution.ID, testPrefix),
		RunID: info.OriginalRunID, At: info.WorkflowStartTime,
	}
	var r activities.Result
	err := workflow.ExecuteLocalActivity(atOnce(ctx, webhookID), act.SendTest, in).Get(ctx, &r)
	return r, foundAsFailed(ctx, r, err)
}

// Redeliver sends an event to a webhook once more, once.
func Redeliver(ctx workflow.Context, d activities.Delivery) (activities.Result, error) {
	var r activities.Result
	err := workflow.ExecuteLocalActivity(atOnce(ctx, d.WebhookID), act.Redeliver, d).Get(ctx, &r)
	return r, foundAsFailed(ctx, r, err)
}

// foundAsFailed lets a delivery that failed be found as such. The error is err.
func foundAsFailed(ctx workflow.Context, r activities.Result, err error) error {
	if err == nil && r.Status == activities.Failed {
		return upsertFailed(ctx)
	}
	return err
}

// StartRedelivery runs Redeliver and returns the id of the resulting delivery, which is then in the history. Two calls
// at once for the same attempt are one. It fails as StartTest does.
func StartRedelivery(ctx context.Context, c client.Client, a *visibility.Attributes, t activities.Target, eventID string, attempt int) (deliveryID uuid.UUID, err error) {
	d := activities.Delivery{EventID: eventID, WebhookID: t.WebhookID, Attempt: attempt}
	id := webhook.DeliveryID(d.EventID, d.WebhookID, d.Attempt)
	return id, runAtOnce(ctx, c, a, client.StartWorkflowOptions{
		ID:                       fmt.Sprintf("redeliver-%s-%s-%d", d.EventID, d.WebhookID, d.Attempt),
		WorkflowIDConflictPolicy: enums.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		StaticSummary:            fmt.Sprintf("event %s again to %s", eventID, summarise(t)),
	}, concerning(t), Redeliver, d)
}

// StartTest runs SendTest and returns the id of the resulting delivery, which is then in the history. It fails with
// ErrWebhookGone, or with what kept Temporal from running it before ctx ended.
func StartTest(ctx context.Context, c client.Client, a *visibility.Attributes, t activities.Target) (deliveryID uuid.UUID, err error) {
	id := webhook.NewID()
	return webhook.DeliveryID(id, t.WebhookID, 1), runAtOnce(ctx, c, a, client.StartWorkflowOptions{
		ID: testPrefix + id, StaticSummary: "test event to " + summarise(t),
	}, append(concerning(t), visibility.EventType.ValueSet(string(webhook.Test))), SendTest, t.WebhookID)
}

// atOnce are the options of a delivery that a person waits for.
func atOnce(ctx workflow.Context, webhookID uuid.UUID) workflow.Context {
	return workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{
		StartToCloseTimeout:    slowTimeout,
		ScheduleToCloseTimeout: laneTimeout,
		RetryPolicy:            &temporal.RetryPolicy{InitialInterval: 100 * time.Millisecond, MaximumInterval: time.Second},
		Summary:                webhookID.String(),
	})
}

// runAtOnce runs a workflow whose result is one delivery's, to its end.
func runAtOnce(ctx context.Context, c client.Client, a *visibility.Attributes, options client.StartWorkflowOptions, attributes []temporal.SearchAttributeUpdate, run any, input any) error {
	options.TaskQueue, options.EnableEagerStart, options.WorkflowExecutionTimeout = TaskQueue, true, 2*laneTimeout
	started, err := a.Start(ctx, c, temporal.NewSearchAttributes(attributes...), options, run, input)
	if err != nil {
		return fmt.Errorf("start %s: %w", options.ID, err)
	}
	var r activities.Result
	if err := started.Get(ctx, &r); err != nil {
		return fmt.Errorf("%s: %w", options.ID, err)
	}
	switch {
	case r.Error == activities.EventGone:
		return ErrEventGone
	case r.Status == activities.Skipped:
		return ErrWebhookGone
	case r.Status == activities.Deferred:
		return ErrBusy
	}
	return nil
}
