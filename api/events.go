package api

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gin-gonic/gin"
	"golang.org/x/sync/errgroup"

	"github.com/mathub/webhooks/emit"
	"github.com/mathub/webhooks/internal/failpoint"
	"github.com/mathub/webhooks/webhook"
	"github.com/mathub/webhooks/workflows"
)

// describesAtOnce is how many of Temporal's workflows one call asks for at once.
const describesAtOnce = 8

// emitTimeout bounds the wait for an emit's answer, beyond the time that a start has.
const emitTimeout = 16 * time.Second

// EmitEvent serves POST /events.
func (s *server) EmitEvent(c *gin.Context) {
	s.answer(c, func() (reply, error) {
		raw, err := readJSON(c, webhook.MaxEventBytes)
		if err != nil {
			return reply{}, err
		}
		event, err := webhook.ReadEvent(raw)
		if err != nil {
			return reply{}, err
		}
		receipts, err := s.emit(c, event)
		if err != nil {
			return reply{}, err
		}
		return accepted(receipts[0]), nil
	})
}

// EmitEvents serves POST /events/batch.
func (s *server) EmitEvents(c *gin.Context) {
	s.answer(c, func() (reply, error) {
		raw, err := readJSON(c, webhook.MaxBatchBytes)
		if err != nil {
			return reply{}, err
		}
		events, err := webhook.ReadBatch(raw)
		if err != nil {
			return reply{}, err
		}
		receipts, err := s.emit(c, events)
		return accepted(receipts), err
	})
}

// emit has events accepted, all or none. An error names the ids to emit them again with.
func (s *server) emit(c *gin.Context, events webhook.Batch) ([]Receipt, error) {
	events = events.Complete(time.Now())
	var ids []string
	for _, e := range events.Events() {
		ids = append(ids, e.ID)
	}
	ctx, cancel := context.WithTimeout(c, emitTimeout)
	defer cancel()
	accepted, err := s.batcher.Batch(ctx, events)
	switch {
	case errors.Is(err, emit.ErrBusy):
		c.Header("Retry-After", "1")
		return nil, &Error{code: unavailable, eventIDs: ids, Detail: "More events are emitted than can be taken in. Nothing was accepted. Try again in a second, with the same id."}
	case err != nil:
		return nil, notAcknowledged(ids, err)
	}
	failpoint.Here("started")
	receipts := make([]Receipt, len(accepted))
	for i, r := range accepted {
		receipts[i] = Receipt{ID: r.ID, WorkflowID: r.WorkflowID, Duplicate: r.Duplicate}
	}
	return receipts, nil
}

// accepters are the workflows that have accepted events, by event id; "" where that was ended before its work was done:
// another then takes over. Postgres remembers an event for longer than Temporal remembers its workflow.
func (s *server) accepters(ctx context.Context, eventIDs []string) (map[string]string, error) {
	owners, err := s.queries.EventOwners(ctx, s.cfg.Pool, eventIDs)
	if err != nil {
		return nil, notLookedUpError{err}
	}
	type run struct{ workflowID, runID string }
	ended := map[run]*bool{}
	var asked errgroup.Group
	asked.SetLimit(describesAtOnce)
	for _, o := range owners {
		if owner := (run{o.WorkflowID, o.RunID}); ended[owner] == nil {
			has := new(bool)
			ended[owner] = has
			asked.Go(func() error {
				// While Temporal is away, it is taken for what nearly every event is.
				is, err := workflows.HasEnded(ctx, s.cfg.Temporal, owner.workflowID, owner.runID)
				*has = err == nil && is
				return nil
			})
		}
	}
	_ = asked.Wait() // none fails
	workflowIDs := make(map[string]string, len(owners))
	for _, o := range owners {
		if workflowIDs[o.ID] = o.WorkflowID; *ended[run{o.WorkflowID, o.RunID}] {
			workflowIDs[o.ID] = ""
		}
	}
	failpoint.Here("before-start")
	return workflowIDs, nil
}

// notLookedUpError is what kept accepters from an answer, so that nothing was started.
type notLookedUpError struct{ error }

func (e notLookedUpError) Unwrap() error { return e.error }

// notAcknowledged is the error of an emit that Temporal may have taken all the same, unless it is a notLookedUpError.
func notAcknowledged(eventIDs []string, err error) error {
	var known *Error
	var before notLookedUpError
	if errors.As(err, &before) {
		known = asError(before.error)
		known.eventIDs = eventIDs
		return known
	}
	if err = temporalError(err); errors.As(err, &known) && known.code == unavailable {
		known.eventIDs = eventIDs
		known.Detail = "The workflow engine does not answer, so that it is not known whether the event was accepted. Emit it again with the same id, %s: it is accepted once."
		if known.Detail = fmt.Sprintf(known.Detail, eventIDs[0]); len(eventIDs) > 1 {
			known.Detail = "The workflow engine does not answer, so that it is not known whether the events were accepted. Emit them again with the same ids: each is accepted once."
		}
	}
	return err
}
