package api

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"golang.org/x/sync/errgroup"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/emit"
	"github.com/mathub/webhooks/internal/failpoint"
	"github.com/mathub/webhooks/internal/problem"
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
		receipts, err := s.emit(c, event, func(int) string { return "" })
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
		receipts, err := s.emit(c, events, func(i int) string { return fmt.Sprintf("events[%d].", i) })
		return accepted(receipts), err
	})
}

// emit has events accepted, all or none. An error names the ids to emit them again with. place begins the names of an event's
// fields.
func (s *server) emit(c *gin.Context, events webhook.Batch, place func(i int) string) ([]Receipt, error) {
	unfit, err := s.holdAgainstSchemas(events, place)
	if err != nil {
		return nil, err
	}
	events = events.Identify()
	var ids []string
	for _, e := range events.Events() {
		ids = append(ids, e.ID)
	}
	ctx, cancel := context.WithTimeout(c.Request.Context(), emitTimeout)
	defer cancel()
	accepted, err := s.batcher.Batch(ctx, events)
	var taken *emit.TakenError
	switch {
	case errors.Is(err, emit.ErrBusy):
		c.Header("Retry-After", "1")
		return nil, &problem.Error{Kind: problem.Unavailable, EventIDs: ids, Detail: "Too many events are being emitted. Nothing was accepted. Try again in a second with the same ids."}
	case errors.As(err, &taken) && slices.Contains(ids, taken.EventID()):
		return nil, &problem.Error{Kind: problem.Conflict, EventIDs: ids, Detail: fmt.Sprintf("Nothing was accepted: %v. Terminate it, then emit again.", taken)}
	case err != nil:
		return nil, notAcknowledged(ids, err)
	}
	failpoint.Here("started")
	receipts := make([]Receipt, len(accepted))
	for i, r := range accepted {
		receipts[i] = s.receipt(c, r)
		if unfit != nil && unfit[i] != nil {
			receipts[i].SchemaFaults = &unfit[i]
			s.emitted.unfit(c, r)
		}
	}
	return receipts, nil
}

// receipt is an answer's, and counted where the emitter is at fault.
func (s *server) receipt(ctx context.Context, r emit.Receipt) Receipt {
	receipt := Receipt{ID: r.ID, WorkflowID: r.WorkflowID, Duplicate: r.Duplicate}
	if r.Conflict {
		receipt.Conflict = &r.Conflict
	}
	if len(r.UnknownBotIDs) > 0 {
		receipt.UnknownBotIds = &r.UnknownBotIDs
	}
	s.emitted.count(ctx, r)
	return receipt
}

// maxUnknownBots is how many of an event's unknown bots its receipt names.
const maxUnknownBots = 20

// lookUp is emit.BatcherOptions' Lookup. Postgres remembers an event for longer than Temporal remembers its workflow.
func (s *server) lookUp(ctx context.Context, events []webhook.Event) ([]emit.Known, error) {
	ids, botIDs := make([]string, len(events)), map[string]bool{}
	for i, e := range events {
		ids[i] = e.ID
		for _, id := range e.BotIDs {
			botIDs[id] = true
		}
	}
	stored, unknownBots, err := s.history.LookUpEvents(ctx, ids, slices.Collect(maps.Keys(botIDs)))
	if err != nil {
		return nil, notLookedUpError{err}
	}
	isUnknown := make(map[string]bool, len(unknownBots))
	for _, id := range unknownBots {
		isUnknown[id] = true
	}
	ended := s.endedOwners(ctx, stored)
	known := make([]emit.Known, len(events))
	for i, e := range events {
		for _, id := range e.BotIDs {
			if isUnknown[id] && len(known[i].UnknownBotIDs) < maxUnknownBots {
				known[i].UnknownBotIDs = append(known[i].UnknownBotIDs, id)
			}
		}
		n := slices.IndexFunc(stored, func(row db.StoredEventsRow) bool { return row.ID == e.ID })
		if n < 0 {
			continue
		}
		row := stored[n]
		known[i].Stored, known[i].Conflict = true, !e.IsStored(row.Head, row.Digest, row.BotIds)
		if !ended[owner{row.WorkflowID, row.RunID}] {
			known[i].WorkflowID = row.WorkflowID
		}
	}
	failpoint.Here("before-start")
	return known, nil
}

// owner is a workflow run that owns events.
type owner struct{ workflowID, runID string }

// endedOwners are those that were ended before their work was done: another then takes over.
func (s *server) endedOwners(ctx context.Context, stored []db.StoredEventsRow) map[owner]bool {
	owners := map[owner]bool{}
	for _, row := range stored {
		owners[owner{row.WorkflowID, row.RunID}] = false
	}
	var mu sync.Mutex
	var asked errgroup.Group
	asked.SetLimit(describesAtOnce)
	for o := range maps.Clone(owners) {
		asked.Go(func() error {
			// While Temporal is away, it is taken for what nearly every event is.
			ended, err := workflows.HasEnded(ctx, s.cfg.Temporal, o.workflowID, o.runID)
			mu.Lock()
			defer mu.Unlock()
			owners[o] = err == nil && ended
			return nil
		})
	}
	_ = asked.Wait() // none fails
	return owners
}

// notLookedUpError is what kept lookUp from an answer, so that nothing was started.
type notLookedUpError struct{ error }

func (e notLookedUpError) Unwrap() error { return e.error }

// notAcknowledged is the error of an emit that Temporal may have taken all the same, unless it is a notLookedUpError.
func notAcknowledged(eventIDs []string, err error) error {
	var known *problem.Error
	var before notLookedUpError
	if errors.As(err, &before) {
		known = problem.Of(before.error)
		known.EventIDs = eventIDs
		if known.Kind == problem.Unavailable {
			known.Detail = "The database does not answer; nothing was accepted. Emit again with the same ids."
		}
		return known
	}
	if err = problem.OfTemporal(err); errors.As(err, &known) && known.Kind == problem.Unavailable {
		known.EventIDs = eventIDs
		known.Detail = "Temporal does not answer. The event may have been accepted. Emit it again with the same id, %s; it is accepted once."
		if known.Detail = fmt.Sprintf(known.Detail, eventIDs[0]); len(eventIDs) > 1 {
			known.Detail = "Temporal does not answer. The events may have been accepted. Emit them again with the same ids; each is accepted once."
		}
	}
	return err
}
