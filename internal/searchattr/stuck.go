package searchattr

import (
	"context"
	"fmt"
	"strings"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
)

// StuckAfter is the age from which an event's running workflow counts as stuck. Healthy ones take seconds.
const StuckAfter = 10 * time.Minute

// StuckQuery is a Temporal list query for workflows that no worker seems to take: events' workflows that have run for longer
// than StuckAfter, on any task queue, and workflows of unknown types on the product's task queue. They come from emitters
// that mistype a task queue or a workflow type.
func StuckQuery(taskQueue string, types []string, now time.Time) string {
	return fmt.Sprintf(`ExecutionStatus = "Running" AND StartTime < "%s" AND (WorkflowType IN ("DeliverEvent", "DeliverEvents") OR (TaskQueue = "%s" AND WorkflowType NOT IN ("%s")))`,
		now.Add(-StuckAfter).UTC().Format(time.RFC3339), taskQueue, strings.Join(types, `", "`))
}

// Stuck counts what a query finds.
func Stuck(ctx context.Context, c client.Client, query string) (int64, error) {
	answer, err := c.CountWorkflow(ctx, &workflowservice.CountWorkflowExecutionsRequest{Query: query})
	return answer.GetCount(), err
}
