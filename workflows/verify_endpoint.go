package workflows

import (
	"context"
	"strings"

	"github.com/google/uuid"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/workflow"

	"github.com/mathub/webhooks/internal/delivery"
	"github.com/mathub/webhooks/visibility"
	"github.com/mathub/webhooks/webhook"
)

const verifyPrefix = "verify-"

// VerifyEndpoint asks the endpoint of one webhook, once, whether it wants deliveries, or has the webhook's queue do so. The
// event's id is the workflow's, less `verify-`.
func VerifyEndpoint(ctx workflow.Context, webhookID uuid.UUID) (delivery.Result, error) {
	info := workflow.GetInfo(ctx)
	in := delivery.TestEvent{
		WebhookID: webhookID, EventID: strings.TrimPrefix(info.WorkflowExecution.ID, verifyPrefix),
		WorkflowID: info.WorkflowExecution.ID, RunID: info.OriginalRunID, At: info.WorkflowStartTime,
	}
	var route delivery.Route
	if err := workflow.ExecuteLocalActivity(manualActivity(ctx, webhookID), act.PrepareVerification, in).Get(ctx, &route); err != nil {
		return delivery.Result{}, err
	}
	return deliverManually(ctx, route)
}

// StartVerification runs VerifyEndpoint and returns as StartTest does.
func StartVerification(ctx context.Context, c client.Client, a *visibility.Attributes, t delivery.Target) (deliveryID uuid.UUID, queued bool, err error) {
	id := webhook.NewID()
	queued, err = runManually(ctx, c, a, client.StartWorkflowOptions{
		ID: verifyPrefix + id, StaticSummary: "verification of " + targetLabel(t),
	}, append(searchAttributesFor(t), visibility.EventType.ValueSet([]string{string(webhook.Verify)})), VerifyEndpoint, t.WebhookID)
	return webhook.DeliveryID(id, t.WebhookID, 1), queued, err
}
