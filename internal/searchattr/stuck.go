package searchattr

import (
	"context"
	"fmt"
	"strings"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
)

// StuckAfter is from when on an event's workflow that still runs is taken for stuck: healthy ones take seconds.
const StuckAfter = 10 * time.Minute

// StuckQuery finds, in Temporal's lists, workflows that no worker seems to take: those of events that
// have run for longer than StuckAfter, on whatever task queue, and those on the product's that are of none of its types. Who emits by
// Temporal and mistypes a task queue or a workflow's type makes such.
func StuckQuery(taskQueue string, types []string, now time.Time) string {
	return fmt.Sprintf(`ExecutionStatus = "Running" AND StartTime < "%s" AND (WorkflowType IN ("DeliverEvent", "DeliverEvents") OR (TaskQueue = "%s" AND WorkflowType NOT IN ("%s")))`,
		now.Add(-StuckAfter).UTC().Format(time.RFC3339), taskQueue, strings.Join(types, `", "`))
}

// Stuck counts what a query finds.
func Stuck(ctx context.Context, c client.Client, query string) (int64, error) {
	answer, err := c.CountWorkflow(ctx, &workflowservice.CountWorkflowExecutionsRequest{Query: query})
	return answer.GetCount(), err
}
