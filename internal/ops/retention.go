package ops

import (
	"context"
	"errors"
	"time"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

	"github.com/mathub/webhooks/webhook"
	"github.com/mathub/webhooks/workflows"
)

// removalOverdue is after how long without a run the removal of what is expired is taken for stopped: it is due each hour.
const removalOverdue = 3 * time.Hour

func (s *Service) retention(ctx context.Context, now time.Time) (Finding, error) {
	f := Finding{Name: "retention", Summary: "Everything is kept for ever"}
	if s.Retention == 0 {
		return f, nil
	}
	ctx, cancel := context.WithTimeout(ctx, temporalTimeout)
	defer cancel()
	schedule, err := s.Temporal.ScheduleClient().GetHandle(ctx, workflows.RetentionSchedule).Describe(ctx)
	var none *serviceerror.NotFound
	switch {
	case errors.As(err, &none):
		f.IsWrong, f.Count, f.Command = true, 1, "mathub-webhooks doctor"
		f.Summary = "The schedule " + workflows.RetentionSchedule + ", which removes expired events, is missing; a worker sets it when it starts"
		return f, nil
	case err != nil:
		f.noTemporal()
		return f, nil
	}
	f.Summary = "Expired events are removed each hour"
	if why := stopped(schedule, now); why != "" {
		f.IsWrong, f.Count, f.Summary = true, 1, why
		f.Command = "temporal schedule describe --schedule-id " + workflows.RetentionSchedule
	}
	return f, nil
}

// stopped says why nothing is removed; "": it is.
func stopped(schedule *client.ScheduleDescription, now time.Time) string {
	if state := schedule.Schedule.State; state != nil && state.Paused {
		return "The removal of expired events is paused"
	}
	last := schedule.Info.CreatedAt
	if n := len(schedule.Info.RecentActions); n > 0 {
		last = schedule.Info.RecentActions[n-1].ActualTime
	}
	if len(schedule.Info.RunningWorkflows) == 0 && now.Sub(last) > removalOverdue {
		return "Expired events have not been removed since " + webhook.FormatTime(last)
	}
	return ""
}
