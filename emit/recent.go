package emit

import (
	"context"
	"maps"
	"sync"
	"time"

	"go.temporal.io/api/enums/v1"
	"golang.org/x/sync/errgroup"
)

const (
	// rememberedFor and mostRemembered bound what a Batcher knows by itself of what was accepted: Postgres may not yet.
	rememberedFor  = time.Minute
	mostRemembered = 20_000
	// describesAtOnce is how many workflows a start asks for at once.
	describesAtOnce = 16

	statusCompleted = enums.WORKFLOW_EXECUTION_STATUS_COMPLETED
)

// recent is what was accepted lately, oldest first, and the last of each id.
type recent struct {
	all  []accepted
	last map[string]accepted
}

type accepted struct {
	id, workflowID string
	content        content
	at             time.Time
}

func (r *recent) add(started []accepted, workflowID string, now time.Time) {
	if r.last == nil {
		r.last = map[string]accepted{}
	}
	for _, a := range started {
		a.workflowID, a.at = workflowID, now
		r.all = append(r.all, a)
		r.last[a.id] = a
	}
	old := 0
	for ; old < len(r.all) && (len(r.all)-old > mostRemembered || now.Sub(r.all[old].at) > rememberedFor); old++ {
		if a := r.all[old]; r.last[a.id] == a { // else it was accepted again since
			delete(r.last, a.id)
		}
	}
	r.all = r.all[old:]
}

// remembered is what was accepted lately under an id; without a workflow's id for nothing.
func (b *Batcher) remembered(id string) accepted {
	b.mu.Lock()
	defer b.mu.Unlock()
	a := b.recent.last[id]
	if time.Since(a.at) > rememberedFor {
		return accepted{}
	}
	return a
}

// statuses are those of the workflows of what was accepted. Many are asked for at once, as all that is emitted meanwhile waits.
func (b *Batcher) statuses(ctx context.Context, lately []accepted) map[string]enums.WorkflowExecutionStatus {
	statuses := map[string]enums.WorkflowExecutionStatus{}
	for _, a := range lately {
		if a.workflowID != "" {
			statuses[a.workflowID] = enums.WORKFLOW_EXECUTION_STATUS_UNSPECIFIED
		}
	}
	var mu sync.Mutex
	var asked errgroup.Group
	asked.SetLimit(describesAtOnce)
	for id := range maps.Clone(statuses) {
		asked.Go(func() error {
			status := b.status(ctx, id)
			mu.Lock()
			defer mu.Unlock()
			statuses[id] = status
			return nil
		})
	}
	_ = asked.Wait() // none fails
	return statuses
}

// status is a workflow's. One that was deleted, as by an operator, counts as terminated. While Temporal is away, each is taken
// for what nearly every one is, one that runs.
func (b *Batcher) status(ctx context.Context, workflowID string) enums.WorkflowExecutionStatus {
	run, err := b.client.DescribeWorkflowExecution(ctx, workflowID, "")
	switch {
	case isNotFound(err):
		return enums.WORKFLOW_EXECUTION_STATUS_TERMINATED
	case err != nil:
		return enums.WORKFLOW_EXECUTION_STATUS_RUNNING
	}
	return run.GetWorkflowExecutionInfo().GetStatus()
}

// WasEnded says whether a workflow of that status was ended otherwise than by its work's end.
func WasEnded(status enums.WorkflowExecutionStatus) bool {
	switch status {
	case enums.WORKFLOW_EXECUTION_STATUS_TERMINATED, enums.WORKFLOW_EXECUTION_STATUS_CANCELED, enums.WORKFLOW_EXECUTION_STATUS_FAILED,
		enums.WORKFLOW_EXECUTION_STATUS_TIMED_OUT:
		return true
	}
	return false
}
