package api

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/jackc/pgx/v5"

	"github.com/mathub/webhooks/emit"
	"github.com/mathub/webhooks/webhook"
	"github.com/mathub/webhooks/workflows"
)

// emitTimeout bounds the wait for Temporal, whose client would go on trying for a minute. It leaves room for a burst.
const emitTimeout = 15 * time.Second

// EmitEvent serves POST /events.
func (s *server) EmitEvent(c *gin.Context) {
	s.answer(c, func() (reply, error) {
		raw, err := readJSON(c, webhook.MaxEventBytes)
		if err != nil {
			return reply{}, err
		}
		event, err := webhook.ParseEvent(raw)
		if err != nil {
			return reply{}, err
		}
		ctx, cancel := context.WithTimeout(c, emitTimeout)
		defer cancel()
		if event.ID == "" {
			event.ID = webhook.NewID() // which an error can name
		} else if workflowID, err := s.accepter(ctx, event.ID); err != nil || workflowID != "" {
			return accepted(Receipt{ID: event.ID, WorkflowID: workflowID, Duplicate: true}), err
		}
		receipt, err := emit.Event(ctx, s.cfg.Temporal, event, emit.Searchable(s.cfg.Attributes))
		if err != nil {
			return reply{}, notAcknowledged(event.ID, err)
		}
		return accepted(Receipt{ID: receipt.ID, WorkflowID: receipt.WorkflowID, Duplicate: receipt.Duplicate}), nil
	})
}

// accepter is the workflow that has accepted an event, or "" when none has, or when it was ended before its work was done:
// another then takes over. Postgres remembers an event for longer than Temporal remembers its workflow.
func (s *server) accepter(ctx context.Context, eventID string) (workflowID string, err error) {
	stored, err := s.queries.GetEvent(ctx, s.cfg.Pool, eventID)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	// While Temporal is away, it is taken for what nearly every event is.
	if ended, err := workflows.HasEnded(ctx, s.cfg.Temporal, stored.WorkflowID, stored.RunID); err == nil && ended {
		return "", nil
	}
	return stored.WorkflowID, nil
}

// notAcknowledged is the error of an emit that Temporal may have taken all the same.
func notAcknowledged(eventID string, err error) error {
	var unavailable *Error
	if err = temporalError(err); errors.As(err, &unavailable) {
		unavailable.Detail = fmt.Sprintf("The workflow engine does not answer, so that it is not known whether the event was accepted. Emit it again with the id %s: it is accepted once.", eventID)
	}
	return err
}
