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

// FreeQueue terminates what runs under the id of a webhook's queue and is none: a workflow that was started by hand, of
// another type or on another task queue. It takes the queue's signals, and would hold the queue for ever. ended names it, or
// is empty where there was none.
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
	if info.GetStatus() != enums.WORKFLOW_EXECUTION_STATUS_RUNNING || kind == queueWorkflowType && queue == TaskQueue {
		return "", nil
	}
	const reason = "it has the id of a webhook's queue, and is none"
	if err := c.TerminateWorkflow(ctx, id, info.GetExecution().GetRunId(), reason); err != nil {
		return "", fmt.Errorf("terminate %s, which is not a webhook's queue: %w", id, err)
	}
	return fmt.Sprintf("%s, of type %q on the task queue %q", id, kind, queue), nil
}
