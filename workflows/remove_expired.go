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

	"github.com/mathub/webhooks/internal/codec"
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
	// removalTimeout is for a step, which takes about two seconds, or longer where Postgres has other things to do.
	removalTimeout = time.Minute
)

func checkRemoval(in history.Removal, _ string) error {
	if in.Events < 0 || in.Deliveries < 0 {
		return webhook.Invalid("events", "must not be negative, and deliveries neither")
	}
	return nil
}

// RemoveExpired removes events over the configured retention's age, with their deliveries, step by step.
func RemoveExpired(ctx workflow.Context, in history.Removal) (history.Removal, error) {
	for range removalSteps {
		var step history.Removal
		err := workflow.ExecuteLocalActivity(localActivity(ctx, removalTimeout, "remove expired events and deliveries"), act.RemoveExpired, in).Get(ctx, &step)
		if err != nil || step.Done {
			return step, err
		}
		in = step
		if err := workflow.Sleep(ctx, removalPause); err != nil {
			return in, err
		}
	}
	return in, workflow.NewContinueAsNewError(ctx, RemoveExpired, in)
}

// ScheduleRemoval has RemoveExpired started every hour, or, with a retention of 0, no more. A schedule that is there
// already takes its settings on; one that an operator has paused stays so, unless its keys are gone.
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
		ID: "remove-expired", Workflow: RemoveExpired, TaskQueue: TaskQueue, Args: []any{history.Removal{}},
		StaticSummary: "what is older than " + retention.String(),
	}
	const overlap = enums.SCHEDULE_OVERLAP_POLICY_SKIP
	options := client.ScheduleOptions{ID: RetentionSchedule, Spec: spec, Action: action, Overlap: overlap, CatchupWindow: removeEvery}
	_, err := schedules.Create(ctx, options)
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
	if errors.Is(err, codec.ErrSealed) { // by a key that is gone: what it starts could not be read, either
		if err = schedules.GetHandle(ctx, RetentionSchedule).Delete(ctx); err == nil || isNotFound(err) {
			_, err = schedules.Create(ctx, options)
		}
	}
	if err != nil {
		return fmt.Errorf("set the schedule %s: %w", RetentionSchedule, err)
	}
	return nil
}
