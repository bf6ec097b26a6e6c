package ops

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/emit"
	"github.com/mathub/webhooks/webhook"
)

// Resume delivers accepted events that a restored database holds and that no workflow delivers any more.
type Resume struct {
	Pool     *pgxpool.Pool
	Temporal client.Client
	// Options are those of each event's emit.
	Options []emit.Option
	// DryRun counts, and starts nothing.
	DryRun bool
}

// Resumed counts events.
type Resumed struct {
	// Unfinished are those that a webhook of their audience was neither sent nor is to be sent. A workflow that Temporal runs
	// delivers Running of them. Started of them are delivered again, to the webhooks that lack them.
	Unfinished, Running, Started int
}

// resumePage is how many events are read at once.
const resumePage = 100

// Run goes through the events that were accepted since a time. To repeat it is safe.
func (r Resume) Run(ctx context.Context, since time.Time) (n Resumed, err error) {
	page := db.UnfinishedEventsParams{After: since, Most: resumePage}
	for {
		events, err := db.New().UnfinishedEvents(ctx, r.Pool, page)
		if err != nil {
			return n, fmt.Errorf("read the unfinished events: %w", err)
		}
		for _, e := range events {
			if !isWanted(e) {
				continue
			}
			if err := r.resume(ctx, e, &n); err != nil {
				return n, fmt.Errorf("event %s: %w", e.ID, err)
			}
		}
		if len(events) < resumePage {
			return n, nil
		}
		last := events[len(events)-1]
		page.After, page.AfterID = last.AcceptedAt, last.ID
	}
}

// isWanted says that one of the webhooks that lack an event is to get it.
func isWanted(e db.UnfinishedEventsRow) bool {
	if len(e.Filters) == 0 { // one has none
		return true
	}
	fields := webhook.FieldsOf(e.Payload)
	return slices.ContainsFunc(e.Filters, func(text string) bool {
		filter, err := webhook.StoredFilter([]byte(text))
		return err != nil || filter.Match(fields)
	})
}

func (r Resume) resume(ctx context.Context, e db.UnfinishedEventsRow, n *Resumed) error {
	n.Unfinished++
	switch running, err := isRunning(ctx, r.Temporal, e.WorkflowID, e.RunID); {
	case err != nil:
		return err
	case running:
		n.Running++
		return nil
	case r.DryRun:
		return nil
	}
	event, err := webhook.ParseAccepted(e.Payload)
	if err != nil {
		return err
	}
	event.ID, event.BotIDs = e.ID, e.BotIds
	if _, err := db.New().DisownEvent(ctx, r.Pool, db.DisownEventParams{ID: e.ID, RunID: e.RunID}); err != nil {
		return err
	}
	if _, err := emit.Event(ctx, r.Temporal, event, r.Options...); err != nil {
		return err
	}
	n.Started++
	return nil
}

// isRunning says whether a workflow runs: that run or, where it is empty, the last.
func isRunning(ctx context.Context, c client.Client, workflowID, runID string) (bool, error) {
	var none *serviceerror.NotFound
	run, err := c.DescribeWorkflowExecution(ctx, workflowID, runID)
	if errors.As(err, &none) {
		return false, nil
	}
	return run.GetWorkflowExecutionInfo().GetStatus() == enums.WORKFLOW_EXECUTION_STATUS_RUNNING, err
}
