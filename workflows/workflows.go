// Package workflows is the durable course of an event: accepted, fanned out, delivered, attempted again.
//
// The code is deterministic: no clocks, randomness or I/O but through Temporal. What a change to it does to running
// workflows is shown by the replay tests over the histories in testdata.
package workflows

import (
	"time"

	"github.com/google/uuid"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/mathub/webhooks/activities"
	"github.com/mathub/webhooks/emit"
)

const (
	// TaskQueue is where workflows, and with them the local activities of the fast lane, run.
	TaskQueue = emit.TaskQueue
	// SlowTaskQueue is where the slow lane's activities run, with worker slots of their own. It is to have one
	// partition, as several blur fairness.
	SlowTaskQueue = "mathub-webhooks-slow"
)

// act names the activities; Temporal calls them on the worker's instance.
var act *activities.Activities

// RetryWorkflowID is the id of the workflow that attempts a failed delivery again.
func RetryWorkflowID(eventID string, webhookID uuid.UUID) string {
	return "retry-" + eventID + "-" + webhookID.String()
}

// The timeouts of the fast lane. A POST takes 5 s at most, so an attempt and its recording fit into attemptTimeout;
// what a full worker makes a local activity wait for its slot counts against laneTimeout only, never against the
// receiver.
const (
	attemptTimeout = 8 * time.Second
	laneTimeout    = 60 * time.Second
	// groupTimeout is for a group, which waits for its turn inside the activity. Its deliveries have their own limits.
	groupTimeout = 30 * time.Second
)

// forever is for steps that nothing can be done without: they are tried until Postgres is back.
const forever = 10 * 365 * 24 * time.Hour

// persistently are the options of local activities on Postgres alone.
func persistently(ctx workflow.Context, summary string) workflow.Context {
	return workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{
		StartToCloseTimeout:    attemptTimeout,
		ScheduleToCloseTimeout: forever,
		RetryPolicy: &temporal.RetryPolicy{
			InitialInterval: 100 * time.Millisecond, BackoffCoefficient: 2, MaximumInterval: 5 * time.Second,
		},
		Summary: summary,
	})
}
