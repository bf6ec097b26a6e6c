package workflows

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/workflow"

	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/webhook"
)

const (
	// incidentPrefix begins the id of an incident's workflow.
	incidentPrefix = "incident-"
	// incidentSteps is after how many steps a RecoverIncident goes on as a new run, so that its history stays short.
	incidentSteps = 200
	// IncidentChangedSignal says that an incident was paused, resumed or cancelled, so that its workflow looks at once.
	IncidentChangedSignal = "changed"
)

// IncidentInput names an incident. What it is about, and how far it has come, is in Postgres.
type IncidentInput struct {
	IncidentID uuid.UUID `json:"incidentId"`
}

func (in IncidentInput) check(workflowID string) error {
	if in.IncidentID == uuid.Nil {
		return webhook.Invalid("incidentId", "is required")
	}
	return checkID(workflowID, IncidentWorkflowID(in.IncidentID))
}

// RecoverIncident enables the webhooks that an incident disabled, and has what they missed delivered, step by step. It holds
// nothing that a crash could lose. While the incident is paused, it waits for the signal of its next change.
func RecoverIncident(ctx workflow.Context, in IncidentInput) (step history.IncidentStep, err error) {
	changed := workflow.GetSignalChannelWithOptions(ctx, IncidentChangedSignal, workflow.SignalChannelOptions{Description: "look at the incident's state now; no input"})
	for range incidentSteps {
		for changed.ReceiveAsync(nil) { // what was changed is read now
		}
		err = workflow.ExecuteLocalActivity(databaseActivity(ctx, "enable and recover webhooks"), act.RecoverIncident, in.IncidentID).Get(ctx, &step)
		if err == nil {
			workflow.SetCurrentDetails(ctx, incidentDetails(in.IncidentID, step))
			if step.Ended {
				return step, nil
			}
			err = awaitIncident(ctx, changed, step)
		}
		if ctx.Err() != nil { // an operator ends it
			if step, err = cancelIncident(ctx, in.IncidentID); err == nil {
				err = ctx.Err()
			}
			return step, err
		}
		if err != nil {
			return step, err
		}
	}
	return step, workflow.NewContinueAsNewError(ctx, RecoverIncident, in)
}

// awaitIncident waits until the next step, or the incident's next change.
func awaitIncident(ctx workflow.Context, changed workflow.ReceiveChannel, step history.IncidentStep) error {
	isChanged := func() bool { return changed.Len() > 0 }
	if step.Wait == 0 {
		return workflow.Await(ctx, isChanged)
	}
	_, err := workflow.AwaitWithTimeout(ctx, step.Wait, isChanged)
	return err
}

// cancelIncident cancels the incident of a workflow whose cancellation was requested, with the recoveries that run.
func cancelIncident(ctx workflow.Context, id uuid.UUID) (step history.IncidentStep, err error) {
	ended, _ := workflow.NewDisconnectedContext(ctx)
	ended = databaseActivity(ended, "cancel the incident")
	if err = workflow.ExecuteLocalActivity(ended, act.CancelIncident, id).Get(ended, nil); err != nil {
		return step, err
	}
	if err = workflow.ExecuteLocalActivity(ended, act.RecoverIncident, id).Get(ended, &step); err == nil {
		workflow.SetCurrentDetails(ended, incidentDetails(id, step))
	}
	return step, err
}

// IncidentWorkflowID is the id of an incident's workflow.
func IncidentWorkflowID(id uuid.UUID) string { return incidentPrefix + id.String() }

// WakeIncident has an incident looked at, and starts its workflow where none runs.
func WakeIncident(ctx context.Context, c client.Client, id uuid.UUID) error {
	workflowID := IncidentWorkflowID(id)
	options := client.StartWorkflowOptions{
		ID: workflowID, TaskQueue: TaskQueue, StaticSummary: "enable and recover the webhooks that an incident disabled",
		WorkflowIDReusePolicy: enums.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
	}
	_, err := c.SignalWithStartWorkflow(ctx, workflowID, IncidentChangedSignal, nil, options, RecoverIncident, IncidentInput{IncidentID: id})
	if err != nil {
		return fmt.Errorf("wake %s: %w", workflowID, err)
	}
	return nil
}
