package workflows

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/mathub/webhooks/internal/delivery"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/internal/searchattr"
)

const (
	// recoverySteps is after how many steps a Recover goes on as a new run, so that its history stays short.
	recoverySteps = 200
	// recoveryRest is between two steps, so that the search leaves Postgres to others for a third of the time.
	recoveryRest = time.Second
)

// Recover plans in a webhook's queue what the webhook missed, page by page, and ends when all of it was attempted. How far
// it has come is in Postgres: this workflow holds nothing that a crash could lose.
func Recover(ctx workflow.Context, t delivery.Target) (history.RecoveryStep, error) {
	for range recoverySteps {
		var step history.RecoveryStep
		err := workflow.ExecuteLocalActivity(databaseActivity(ctx, "look up what was missed"), act.RecoverPage, t).Get(ctx, &step)
		if err == nil {
			workflow.SetCurrentDetails(ctx, recoveryDetails(t, step))
			if step.Ended {
				return step, nil
			}
			err = workflow.Sleep(ctx, max(step.Wait, recoveryRest))
		}
		if ctx.Err() != nil { // an operator ends it
			ended, _ := workflow.NewDisconnectedContext(ctx)
			if err := workflow.ExecuteLocalActivity(databaseActivity(ended, "end the recovery"), act.CancelRecovery, t.WebhookID).Get(ended, nil); err != nil {
				return step, err
			}
			step.State = history.RecoveryCancelled
			workflow.SetCurrentDetails(ctx, recoveryDetails(t, step))
			return step, ctx.Err()
		}
		if err != nil {
			return step, err
		}
	}
	return history.RecoveryStep{}, workflow.NewContinueAsNewError(ctx, Recover, t)
}

func recoverWorkflowID(webhookID uuid.UUID) string { return "recover-" + webhookID.String() }

// StartRecover starts the workflow of a webhook's recovery, see history.Queue.StartRecovery. One that still runs goes on
// with it.
func StartRecover(ctx context.Context, c client.Client, a *searchattr.Attributes, t delivery.Target) error {
	id := recoverWorkflowID(t.WebhookID)
	_, err := a.Start(ctx, c, temporal.NewSearchAttributes(searchAttributesFor(t)...), client.StartWorkflowOptions{
		ID: id, TaskQueue: TaskQueue, StaticSummary: "what " + targetLabel(t) + " missed",
		WorkflowIDReusePolicy:    enums.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
		WorkflowIDConflictPolicy: enums.WORKFLOW_ID_CONFLICT_POLICY_TERMINATE_EXISTING,
	}, Recover, t)
	if err != nil {
		return fmt.Errorf("start %s: %w", id, err)
	}
	return nil
}
