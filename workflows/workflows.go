// Package workflows is the durable course of an event: accepted, fanned out, delivered; and of a webhook's queue.
//
// The code is deterministic: no clocks, randomness or I/O but through Temporal. What a change to it does to running
// workflows is shown by the replay tests over the histories in testdata.
package workflows

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/mathub/webhooks/activities"
	"github.com/mathub/webhooks/emit"
)

const (
	// TaskQueue is where workflows, and with them their local activities, run.
	TaskQueue = emit.TaskQueue
	// BatchTaskQueue is where the parts of large audiences run, with worker slots of their own.
	BatchTaskQueue = TaskQueue + "-batches"
	// SlowTaskQueue is where the rounds of webhooks' queues run, with worker slots of their own. It is to have one
	// partition, as several blur fairness.
	SlowTaskQueue = "mathub-webhooks-slow"
)

// act names the activities; Temporal calls them on the worker's instance.
var act *activities.Activities

// unlimited is for steps that nothing can be done without: they are tried until Postgres is back.
const unlimited = 10 * 365 * 24 * time.Hour

// databaseActivity are the options of local activities that are repeated until they succeed: only our own side's trouble
// makes them fail. What a full worker makes one wait for its slot counts for nothing.
func databaseActivity(ctx workflow.Context, summary string) workflow.Context {
	return localActivity(ctx, activities.AttemptTimeout, summary)
}

func localActivity(ctx workflow.Context, timeout time.Duration, summary string) workflow.Context {
	return workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{
		StartToCloseTimeout:    timeout,
		ScheduleToCloseTimeout: unlimited,
		RetryPolicy: &temporal.RetryPolicy{
			InitialInterval: 100 * time.Millisecond, BackoffCoefficient: 2, MaximumInterval: 5 * time.Second,
		},
		Summary: summary,
	})
}

// slowActivity are the options of activities on the slow task queue, which are repeated until they succeed.
func slowActivity(ctx workflow.Context, botID, summary string) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		TaskQueue:           SlowTaskQueue,
		StartToCloseTimeout: activities.RoundTimeout,
		WaitForCancellation: true, // a POST in flight is brought to its end and counted
		RetryPolicy: &temporal.RetryPolicy{
			InitialInterval: time.Second, BackoffCoefficient: 2, MaximumInterval: 10 * time.Second,
		},
		Priority: temporal.Priority{FairnessKey: fairnessKey(botID)},
		Summary:  summary,
	})
}

// fairnessKey shortens a bot's id to the 64 bytes that Temporal allows.
func fairnessKey(botID string) string {
	if len(botID) <= 64 {
		return botID
	}
	sum := sha256.Sum256([]byte(botID))
	return fmt.Sprintf("%x", sum)
}

// HasEnded says whether the workflow run that stored an event was ended before its work was done: terminated, cancelled, failed
// or timed out. One that Temporal has forgotten was done, and so was one that failed for other events, which were invalid.
func HasEnded(ctx context.Context, c client.Client, workflowID, runID string) (bool, error) {
	run, err := c.DescribeWorkflowExecution(ctx, workflowID, runID)
	var malformed *serviceerror.InvalidArgument // no run of Temporal's
	if isNotFound(err) || errors.As(err, &malformed) {
		return false, nil
	}
	status := run.GetWorkflowExecutionInfo().GetStatus()
	if status == enums.WORKFLOW_EXECUTION_STATUS_FAILED {
		return failedEarly(ctx, c, workflowID, runID)
	}
	return emit.WasEnded(status), err
}

// isNotFound says that Temporal has no such workflow or schedule.
func isNotFound(err error) bool {
	var none *serviceerror.NotFound
	return errors.As(err, &none)
}

// failedEarly says whether a run that failed did so before its valid events were delivered.
func failedEarly(ctx context.Context, c client.Client, workflowID, runID string) (bool, error) {
	err := c.GetWorkflow(ctx, workflowID, runID).Get(ctx, nil)
	var failed *temporal.WorkflowExecutionError
	if !errors.As(err, &failed) {
		return false, err
	}
	var fault *temporal.ApplicationError
	return !errors.As(err, &fault) || fault.Type() != InvalidEventError, nil
}
