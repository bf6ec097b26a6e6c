package workflows

import (
	"context"

	"github.com/google/uuid"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/workflow"

	"github.com/mathub/webhooks/internal/delivery"
	"github.com/mathub/webhooks/internal/searchattr"
	"github.com/mathub/webhooks/webhook"
)

const verifyPrefix = "verify-"

// VerifyEndpoint asks the endpoint of one webhook, once, whether it wants deliveries, or has the webhook's queue do so. The
// event's id is the workflow's, less `verify-`.
func VerifyEndpoint(ctx workflow.Context, webhookID uuid.UUID) (delivery.Result, error) {
	return sendOwnEvent(ctx, delivery.TestEvent{WebhookID: webhookID}, verifyPrefix, act.PrepareVerification)
}

// StartVerification runs VerifyEndpoint and returns as StartTest does.
func StartVerification(ctx context.Context, c client.Client, a *searchattr.Attributes, t delivery.Target) (made delivery.Attempt, queued bool, err error) {
	return startOwnEvent(ctx, c, a, t, verifyPrefix, "verification of ", webhook.Verify, VerifyEndpoint, t.WebhookID)
}
