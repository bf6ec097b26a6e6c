package workflows

import (
	"context"
	"fmt"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/workflow"

	"github.com/mathub/webhooks/internal/delivery"
	"github.com/mathub/webhooks/internal/searchattr"
	"github.com/mathub/webhooks/webhook"
)

// Redeliver sends an event to a webhook once more, once, or has its queue do so.
func Redeliver(ctx workflow.Context, a delivery.Attempt) (delivery.Result, error) {
	a.Trigger = webhook.TriggerRedeliver
	var route delivery.Route
	if err := workflow.ExecuteLocalActivity(manualActivity(ctx, a.WebhookID.String()), act.PrepareRedelivery, a).Get(ctx, &route); err != nil {
		return delivery.Result{}, err
	}
	return deliverManually(ctx, route)
}

func redeliveryWorkflowID(a delivery.Attempt) string {
	return fmt.Sprintf("redeliver-%s-%s-%d", a.EventID, a.WebhookID, a.Number)
}

// StartRedelivery runs Redeliver and returns as StartTest does. Two calls at once for the same attempt are one.
func StartRedelivery(ctx context.Context, c client.Client, a *searchattr.Attributes, t delivery.Target, eventID string, attempt int) (made delivery.Attempt, queued bool, err error) {
	in := delivery.Attempt{EventID: eventID, WebhookID: t.WebhookID, Number: attempt, Trigger: webhook.TriggerRedeliver}
	r, err := runToEnd(ctx, c, a, client.StartWorkflowOptions{
		ID:                       redeliveryWorkflowID(in),
		WorkflowIDConflictPolicy: enums.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		StaticSummary:            fmt.Sprintf("event %s again to %s", eventID, targetLabel(t)),
	}, searchAttributesFor(t), Redeliver, in)
	return in, r.Status == delivery.Queued, err
}
