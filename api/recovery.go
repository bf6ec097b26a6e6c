package api

import (
	"github.com/gin-gonic/gin"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/webhook"
)

// RecoverWebhook serves POST /webhooks/:id/recover.
func (s *server) RecoverWebhook(c *gin.Context, id WebhookID) {
	s.answer(c, func() (reply, error) {
		w, err := s.owned(c, id)
		if err != nil {
			return reply{}, err
		}
		span, err := s.readSpan(c, w)
		if err != nil {
			return reply{}, err
		}
		recovery, err := s.webhooks.Recover(c.Request.Context(), w, span)
		if err != nil {
			return reply{}, err
		}
		s.changed(c, "recovery started", w.BotID, "webhook", w.ID)
		return accepted(toRecovery(recovery, 0)), nil
	})
}

// GetRecovery serves GET /webhooks/:id/recover.
func (s *server) GetRecovery(c *gin.Context, id WebhookID) {
	s.answer(c, func() (reply, error) {
		w, err := s.owned(c, id)
		if err != nil {
			return reply{}, err
		}
		r, err := s.webhooks.LatestRecovery(c, w)
		if err != nil {
			return reply{}, err
		}
		return ok(toRecovery(r.Recovery, r.Remaining)), nil
	})
}

// ListRecoveries serves GET /webhooks/:id/recoveries.
func (s *server) ListRecoveries(c *gin.Context, id WebhookID) {
	s.answer(c, func() (reply, error) {
		w, err := s.owned(c, id)
		if err != nil {
			return reply{}, err
		}
		rows, err := s.webhooks.Recoveries(c, w)
		if err != nil {
			return reply{}, err
		}
		list := make([]Recovery, len(rows))
		for i, r := range rows {
			list[i] = toRecovery(r.Recovery, r.Remaining)
		}
		return ok(list), nil
	})
}

// CancelRecovery serves DELETE /webhooks/:id/recover.
func (s *server) CancelRecovery(c *gin.Context, id WebhookID) {
	s.answer(c, func() (reply, error) {
		w, err := s.owned(c, id)
		if err != nil {
			return reply{}, err
		}
		if err := s.webhooks.CancelRecovery(c, w); err != nil {
			return reply{}, err
		}
		s.changed(c, "recovery cancelled", w.BotID, "webhook", w.ID)
		return noContent(), nil
	})
}

// readSpan reads {since?, until?}; no body at all is as good as an empty object.
func (s *server) readSpan(c *gin.Context, w db.Webhook) (history.Span, error) {
	m := &members{}
	raw, err := readOptionalJSON(c, webhook.MaxRequestBytes)
	if err != nil {
		return history.Span{}, err
	}
	if raw != nil {
		if m.values, err = webhook.ParseObject(raw, "since", "until"); err != nil {
			return history.Span{}, err
		}
	}
	since, until := m.time("since"), m.time("until")
	return s.webhooks.Span(c, w, since, until, &m.Faults)
}

func toRecovery(r db.Recovery, remaining int64) Recovery {
	return Recovery{
		State: r.State, Found: int(r.Found), Delivered: int(r.Delivered), Failed: int(r.Failed), Remaining: int(remaining),
		LookedThrough: r.LookedThrough, LastError: r.LastError, Since: timestamp(r.Since), Until: timestamp(r.Until),
		StartedAt: timestamp(r.CreatedAt), EndedAt: (*timestamp)(r.EndedAt),
	}
}
