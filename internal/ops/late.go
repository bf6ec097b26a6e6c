package ops

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/api/workflowservice/v1"

	"github.com/mathub/webhooks/emit"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/internal/problem"
	"github.com/mathub/webhooks/webhook"
)

const (
	// DefaultLate is after how long something is late, by default.
	DefaultLate = 5 * time.Minute
	// MaxLate is the most that can be asked for.
	MaxLate = 7 * 24 * time.Hour
	// maxLateListed is how many queues and workflows are listed.
	maxLateListed = 50
	// mostLatePages is how many pages of queues are looked at for them.
	mostLatePages = 10
	// temporalTimeout bounds what is asked of Temporal.
	temporalTimeout = 3 * time.Second
)

// Late is what is late.
type Late struct {
	// Since: what was due, or began, before it and is not done is late.
	Since time.Time
	// Queues are the webhooks with the oldest due deliveries, oldest first, and MoreQueues says that there are others.
	Queues     []Webhook
	MoreQueues bool
	// Workflows are workflows of events that still run, oldest first, and MoreWorkflows says that there are others.
	Workflows     []Workflow
	MoreWorkflows bool
	// TemporalAway: it does not answer, so that the workflows are not known.
	TemporalAway bool
}

// Workflow is a workflow of one event or several that runs.
type Workflow struct {
	ID, RunID, Type string
	StartedAt       time.Time
	EventID         string // "": it is of several events
	URL             *string
}

// Late lists what was due, or was accepted, longer ago than `age` and is not done.
func (s *Service) Late(ctx context.Context, age time.Duration) (Late, error) {
	if age < time.Minute || age > MaxLate {
		return Late{}, webhook.Invalid("minutes", fmt.Sprintf("must be from 1 to %d", int(MaxLate/time.Minute)))
	}
	late := Late{Since: time.Now().UTC().Add(-age)}
	var err error
	if late.Queues, late.MoreQueues, err = s.lateQueues(ctx, late.Since, maxLateListed); err != nil {
		return Late{}, err
	}
	late.Workflows, late.MoreWorkflows, err = s.lateWorkflows(ctx, late.Since, maxLateListed)
	late.TemporalAway = err != nil // which is when one asks
	return late, ctx.Err()
}

// lateQueues are the webhooks whose queues have something that was due before a time. What operators have paused is not late. Of
// that, some pages are passed over.
func (s *Service) lateQueues(ctx context.Context, since time.Time, most int) (queues []Webhook, more bool, err error) {
	filter := WebhookFilter{Sort: ByOldest, Limit: most}
	for range mostLatePages {
		found, next, err := s.ListWebhooks(ctx, filter)
		if err != nil {
			return nil, false, err
		}
		paused, err := (&history.Pauses{Pool: s.Pool}).Covering(ctx, idsOf(found))
		if err != nil {
			return nil, false, err
		}
		for _, w := range found {
			if w.OldestDueAt == nil || !w.OldestDueAt.Before(since) {
				return queues, false, nil
			}
			if _, is := paused[w.ID]; is {
				continue
			}
			if len(queues) == most {
				return queues, true, nil
			}
			queues = append(queues, w)
		}
		if next == "" || len(queues) == most {
			return queues, next != "", nil
		}
		filter.After = next
	}
	return queues, true, nil
}

func idsOf(webhooks []Webhook) []uuid.UUID {
	ids := make([]uuid.UUID, len(webhooks))
	for i, w := range webhooks {
		ids[i] = w.ID
	}
	return ids
}

// lateWorkflows are the workflows of events that began before a time and run. Temporal gives a page of them in no order that
// could be asked for.
func (s *Service) lateWorkflows(ctx context.Context, since time.Time, most int) (running []Workflow, more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, temporalTimeout)
	defer cancel()
	page, err := s.Temporal.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{
		Query:    fmt.Sprintf(`WorkflowType STARTS_WITH "DeliverEvent" AND ExecutionStatus = "Running" AND StartTime < %q`, since.Format(time.RFC3339Nano)),
		PageSize: int32(most),
	})
	if err != nil {
		return nil, false, problem.OfTemporal(err)
	}
	for _, e := range page.GetExecutions() {
		w := Workflow{ID: e.GetExecution().GetWorkflowId(), RunID: e.GetExecution().GetRunId(), Type: e.GetType().GetName(), StartedAt: e.GetStartTime().AsTime()}
		w.EventID = eventOf(w.ID)
		w.URL = s.UI.Workflow(w.ID, w.RunID)
		running = append(running, w)
	}
	slices.SortFunc(running, func(a, b Workflow) int { return a.StartedAt.Compare(b.StartedAt) })
	return running, len(page.GetNextPageToken()) > 0, nil
}

// eventOf is the event of a workflow that has one.
func eventOf(workflowID string) string {
	id, ok := strings.CutPrefix(workflowID, emit.WorkflowID(""))
	if !ok {
		return ""
	}
	return id
}
