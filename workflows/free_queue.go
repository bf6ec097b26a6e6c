package workflows

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
)

// queueWorkflowType is the type of WebhookQueue.
const queueWorkflowType = "WebhookQueue"

// stuckAttempts is from which attempt on at its next step the run of an overdue queue counts as stuck. The SDK reports the first
// attempt that fails and has the others time out, and a signal in between begins a new count. A run that was ended for a
// worker's death, which costs one attempt too, is no loss.
const stuckAttempts = 2

// FreeQueue terminates what runs under the id of a webhook's queue and would hold the queue for ever. It is none, as a workflow
// that was started by hand is, of another type or on another task queue: it takes the queue's signals. Or its steps fail, as
// its history does not fit the workers' code: it holds nothing itself, so another run takes its place. ended names it and
// says why, or is empty where there was none.
func FreeQueue(ctx context.Context, c client.Client, webhookID uuid.UUID) (ended string, err error) {
	id := QueueWorkflowID(webhookID)
	run, err := c.DescribeWorkflowExecution(ctx, id, "")
	if isNotFound(err) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("describe %s: %w", id, err)
	}
	info := run.GetWorkflowExecutionInfo()
	kind, queue := info.GetType().GetName(), info.GetTaskQueue()
	var reason string
	switch {
	case info.GetStatus() != enums.WORKFLOW_EXECUTION_STATUS_RUNNING:
		return "", nil
	case kind != queueWorkflowType || queue != TaskQueue:
		reason = fmt.Sprintf("it has the id of a webhook's queue, and is none, but of type %q on the task queue %q", kind, queue)
	case run.GetPendingWorkflowTask().GetAttempt() >= stuckAttempts && len(run.GetPendingActivities()) == 0: // of which one may be sending
		reason = "its steps fail: see its history's last WorkflowTaskFailed"
	default:
		return "", nil
	}
	if err := c.TerminateWorkflow(ctx, id, info.GetExecution().GetRunId(), reason); err != nil {
		return "", fmt.Errorf("terminate %s, as %s: %w", id, reason, err)
	}
	return id + ": " + reason, nil
}
