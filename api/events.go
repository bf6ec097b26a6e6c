package api

import (
	"context"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/mathub/webhooks/emit"
	"github.com/mathub/webhooks/webhook"
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
		if event.ID != "" {
			// Postgres remembers an event for longer than Temporal remembers its workflow.
			known, err := s.queries.EventExists(c, s.cfg.Pool, event.ID)
			if err != nil {
				return reply{}, err
			}
			if known {
				return accepted(Receipt{ID: event.ID, WorkflowID: emit.WorkflowID(event.ID), Duplicate: true}), nil
			}
		}
		ctx, cancel := context.WithTimeout(c, emitTimeout)
		defer cancel()
		receipt, err := emit.Event(ctx, s.cfg.Temporal, event, emit.Searchable(s.cfg.Attributes))
		if err != nil {
			return reply{}, temporalError(err)
		}
		return accepted(Receipt{ID: receipt.ID, WorkflowID: receipt.WorkflowID, Duplicate: receipt.Duplicate}), nil
	})
}
