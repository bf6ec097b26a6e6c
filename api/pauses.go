package api

import (
	"github.com/gin-gonic/gin"

	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/internal/ops"
	"github.com/mathub/webhooks/webhook"
)

// ListPauses serves GET /pauses.
func (s *server) ListPauses(c *gin.Context, _ ListPausesParams) {
	s.answer(c, func() (reply, error) {
		q, err := readQuery(c, "after", "limit")
		if err != nil {
			return reply{}, err
		}
		after, _ := q.text("after")
		limit := q.integer("limit", ops.MaxListed, ops.DefaultListed)
		if err := q.Err(); err != nil {
			return reply{}, err
		}
		pauses, next, err := s.webhooks.Pauses().List(c, after, limit)
		if err != nil {
			return reply{}, err
		}
		s.linkAfter(c, q, next)
		list := make([]Pause, len(pauses))
		for i, p := range pauses {
			list[i] = toPause(p)
		}
		return ok(list), nil
	})
}

// PauseDeliveries serves PUT /pauses.
func (s *server) PauseDeliveries(c *gin.Context) {
	s.answer(c, func() (reply, error) {
		raw, err := readJSON(c, webhook.MaxRequestBytes)
		if err != nil {
			return reply{}, err
		}
		values, err := webhook.ParseObject(raw, "scope", "value", "reason")
		if err != nil {
			return reply{}, err
		}
		m := &members{values: values}
		scope, _ := m.text("scope", false)
		value, _ := m.text("value", false)
		reason, _ := m.text("reason", false)
		if err := m.Err(); err != nil {
			return reply{}, err
		}
		p, err := s.webhooks.Pauses().Begin(c.Request.Context(), history.PauseScope(scope), value, reason)
		return ok(toPause(p)), err
	})
}

// ResumeDeliveries serves DELETE /pauses.
func (s *server) ResumeDeliveries(c *gin.Context, _ ResumeDeliveriesParams) {
	s.answer(c, func() (reply, error) {
		q, err := readQuery(c, "scope", "value")
		if err != nil {
			return reply{}, err
		}
		scope, _ := q.text("scope")
		value, _ := q.text("value")
		if err := q.Err(); err != nil {
			return reply{}, err
		}
		return noContent(), s.webhooks.Pauses().End(c.Request.Context(), history.PauseScope(scope), value)
	})
}

func toPause(p history.Pause) Pause {
	return Pause{Scope: string(p.Scope), Value: orNull(p.Value), Reason: p.Reason, By: p.By, Since: timestamp(p.Since)}
}
