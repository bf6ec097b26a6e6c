package workflows

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/webhook"
)

// RetentionSchedule is the id of the Temporal Schedule that starts RemoveExpired.
const RetentionSchedule = "mathub-webhooks-retention"

const (
	// removeEvery is how often expired rows are removed. removeJitter delays it at random, so that several installations on
	// one Postgres do not run at once.
	removeEvery  = time.Hour
	removeJitter = 10 * time.Minute
	// removalPause is between the activities, removalSteps how many of them one run makes, so that its history stays short.
	removalPause = time.Second
	removalSteps = 100
)

// RemovalInput is a removal to begin, or, with Done, to go on with. How long everything is kept it does not say: the
// worker's configuration does.
type RemovalInput struct {
	Done history.Removal `json:"done,omitzero"`
}

func (in RemovalInput) check(string) error {
	if in.Done.Events < 0 || in.Done.Deliveries < 0 {
		return webhook.Invalid("done", "must hold no negative number")
	}
	return nil
}

// Removed is what a removal came to.
type Removed struct {
	Before     time.Time `json:"before,omitzero"` // of what was accepted before, all but what waits for the end of a pause
	Events     int       `json:"events"`
	Deliveries int       `json:"deliveries"`
	Partitions int       `json:"partitions,omitempty"`
}

// RemoveExpired removes events over the configured retention's age, with their deliveries, step by step.
func RemoveExpired(ctx workflow.Context, in RemovalInput) (Removed, error) {
	for range removalSteps {
		var step history.Removal
		err := workflow.ExecuteLocalActivity(removal(ctx), act.RemoveExpired, history.RemovalInput{Before: in.Done.Before, After: in.Done.After}).Get(ctx, &step)
		if err != nil {
			return Removed{}, err
		}
		step.Events += in.Done.Events
		step.Deliveries += in.Done.Deliveries
		if in.Done = step; step.Done {
			return Removed{Before: step.Before, Events: step.Events, Deliveries: step.Deliveries, Partitions: step.Partitions}, nil
		}
		if err := workflow.Sleep(ctx, removalPause); err != nil {
			return Removed{}, err
		}
	}
	return Removed{}, workflow.NewContinueAsNewError(ctx, RemoveExpired, in)
}

// removal are the options of a step, which takes about two seconds, or longer where Postgres has other things to do.
func removal(ctx workflow.Context) workflow.Context {
	return workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{
		StartToCloseTimeout:    time.Minute,
		ScheduleToCloseTimeout: unlimited,
		RetryPolicy:            &temporal.RetryPolicy{InitialInterval: time.Second, BackoffCoefficient: 2, MaximumInterval: time.Minute},
		Summary:                "remove expired events and deliveries",
	})
}

// ScheduleRemoval has RemoveExpired started every hour, or, with a retention of 0, no more. A schedule that is there
// already takes its settings on; one that an operator has paused stays so.
func ScheduleRemoval(ctx context.Context, c client.Client, retention webhook.Retention) error {
	schedules := c.ScheduleClient()
	if retention == 0 {
		if err := schedules.GetHandle(ctx, RetentionSchedule).Delete(ctx); err != nil && !isNotFound(err) {
			return fmt.Errorf("delete the schedule %s: %w", RetentionSchedule, err)
		}
		return nil
	}
	spec := client.ScheduleSpec{Intervals: []client.ScheduleIntervalSpec{{Every: removeEvery}}, Jitter: removeJitter}
	action := &client.ScheduleWorkflowAction{
		ID: "remove-expired", Workflow: RemoveExpired, TaskQueue: TaskQueue, Args: []any{RemovalInput{}},
		StaticSummary: "what is older than " + retention.String(),
	}
	const overlap = enums.SCHEDULE_OVERLAP_POLICY_SKIP
	_, err := schedules.Create(ctx, client.ScheduleOptions{ID: RetentionSchedule, Spec: spec, Action: action, Overlap: overlap, CatchupWindow: removeEvery})
	if errors.Is(err, temporal.ErrScheduleAlreadyRunning) {
		err = schedules.GetHandle(ctx, RetentionSchedule).Update(ctx, client.ScheduleUpdateOptions{
			DoUpdate: func(now client.ScheduleUpdateInput) (*client.ScheduleUpdate, error) {
				changed := now.Description.Schedule
				changed.Spec, changed.Action = &spec, action
				changed.Policy = &client.SchedulePolicies{Overlap: overlap, CatchupWindow: removeEvery}
				return &client.ScheduleUpdate{Schedule: &changed}, nil
			},
		})
	}
	if err != nil {
		return fmt.Errorf("set the schedule %s: %w", RetentionSchedule, err)
	}
	return nil
}
