package workflows

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/mathub/webhooks/activities"
	"github.com/mathub/webhooks/webhook"
)

// ErrWebhookGone says that the webhook was deleted before anything was sent to it.
var ErrWebhookGone = errors.New("the webhook is gone")

const testPrefix = "test-"

// SendTest sends a test event to one webhook, once. The event's id is the workflow's, less `test-`.
func SendTest(ctx workflow.Context, webhookID uuid.UUID) (activities.Result, error) {
	info := workflow.GetInfo(ctx)
	ctx = workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{
		StartToCloseTimeout:    slowTimeout,
		ScheduleToCloseTimeout: laneTimeout,
		RetryPolicy:            &temporal.RetryPolicy{InitialInterval: 100 * time.Millisecond, MaximumInterval: time.Second},
		Summary:                webhookID.String(),
	})
	in := activities.TestInput{
		WebhookID: webhookID, EventID: strings.TrimPrefix(info.WorkflowExecution.ID, testPrefix),
		RunID: info.OriginalRunID, At: info.WorkflowStartTime,
	}
	var r activities.Result
	err := workflow.ExecuteLocalActivity(ctx, act.SendTest, in).Get(ctx, &r)
	return r, err
}

// StartTest runs SendTest and returns the id of the resulting delivery, which is then in the history. It fails with
// ErrWebhookGone, or with what kept Temporal from running it before ctx ended.
func StartTest(ctx context.Context, c client.Client, webhookID uuid.UUID) (deliveryID uuid.UUID, err error) {
	id := webhook.NewID()
	run, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: testPrefix + id, TaskQueue: TaskQueue, EnableEagerStart: true, WorkflowExecutionTimeout: 2 * laneTimeout,
		StaticSummary: "test event to webhook " + webhookID.String(),
	}, SendTest, webhookID)
	if err != nil {
		return uuid.Nil, fmt.Errorf("start the test: %w", err)
	}
	var r activities.Result
	if err := run.Get(ctx, &r); err != nil {
		return uuid.Nil, fmt.Errorf("the test: %w", err)
	}
	if r.Status == activities.Skipped {
		return uuid.Nil, ErrWebhookGone
	}
	return webhook.DeliveryID(id, webhookID, 1), nil
}
