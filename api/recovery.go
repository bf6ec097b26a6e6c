package api

import (
	"net/url"

	"github.com/gin-gonic/gin"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/history"
)

// RecoverWebhook serves POST /webhooks/:id/recover.
func (s *server) RecoverWebhook(c *gin.Context, id WebhookID) { s.recoverWebhook(c, id, s.owned) }

// RecoverWebhookOfAny serves the same of the service API.
func (s *server) RecoverWebhookOfAny(c *gin.Context, id WebhookID) {
	s.recoverWebhook(c, id, s.anyWebhook)
}

// findWebhook reads a webhook that the caller may name.
type findWebhook func(c *gin.Context, id string) (db.Webhook, error)

func (s *server) recoverWebhook(c *gin.Context, id string, find findWebhook) {
	s.answer(c, func() (reply, error) {
		w, err := find(c, id)
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
		return accepted(toRecovery(recovery, 0)), nil
	})
}

// GetRecovery serves GET /webhooks/:id/recover.
func (s *server) GetRecovery(c *gin.Context, id WebhookID) { s.getRecovery(c, id, s.owned) }

// GetRecoveryOfAny serves the same of the service API.
func (s *server) GetRecoveryOfAny(c *gin.Context, id WebhookID) { s.getRecovery(c, id, s.anyWebhook) }

func (s *server) getRecovery(c *gin.Context, id string, find findWebhook) {
	s.answer(c, func() (reply, error) {
		w, err := find(c, id)
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
func (s *server) CancelRecovery(c *gin.Context, id WebhookID) { s.cancelRecovery(c, id, s.owned) }

// CancelRecoveryOfAny serves the same of the service API.
func (s *server) CancelRecoveryOfAny(c *gin.Context, id WebhookID) {
	s.cancelRecovery(c, id, s.anyWebhook)
}

func (s *server) cancelRecovery(c *gin.Context, id string, find findWebhook) {
	s.answer(c, func() (reply, error) {
		w, err := find(c, id)
		if err != nil {
			return reply{}, err
		}
		if err := s.webhooks.CancelRecovery(c, w); err != nil {
			return reply{}, err
		}
		return noContent(), nil
	})
}

// GetMissed serves GET /webhooks/:id/missed.
func (s *server) GetMissed(c *gin.Context, id WebhookID, _ GetMissedParams) {
	s.answer(c, func() (reply, error) {
		w, err := s.owned(c, id)
		if err != nil {
			return reply{}, err
		}
		q, err := readQuery(c, "since", "until", "eventType", "statusClass", "error")
		if err != nil {
			return reply{}, err
		}
		eventType, failure := q.eventType("eventType"), q.failure()
		span, err := s.webhooks.Span(c, w, q.time("since"), q.time("until"), &q.Faults)
		if err != nil {
			return reply{}, err
		}
		if span.Failure = failure; eventType != nil {
			span.EventType = *eventType
		}
		missed, err := s.webhooks.Missed(c, w, span)
		return ok(toMissed(span, missed)), err
	})
}

func toMissed(span history.Span, m history.Missed) Missed {
	view := Missed{Count: m.Count, AtLeast: m.More, Since: timestamp(span.Since), Until: timestamp(span.Until), Events: make([]MissedEvent, len(m.Events))}
	for i, e := range m.Events {
		view.Events[i] = MissedEvent{EventID: e.ID, EventType: e.Type, AcceptedAt: timestamp(e.AcceptedAt), Attempts: int(e.Attempt) - 1}
	}
	return view
}

// readSpan reads {since?, until?, eventType?, error?, statusClass?}; no body at all is as good as an empty object.
func (s *server) readSpan(c *gin.Context, w db.Webhook) (history.Span, error) {
	m, err := readOptionalMembers(c, "since", "until", "eventType", "error", "statusClass")
	if err != nil {
		return history.Span{}, err
	}
	// The same rules as of a query.
	q := &query{Faults: m.Faults, values: url.Values{}}
	for _, name := range []string{"eventType", "error", "statusClass"} {
		if text, given := m.text(name, false); given {
			q.values.Set(name, text)
		}
	}
	eventType, failure := q.eventType("eventType"), q.failure()
	since, until := m.time("since"), m.time("until")
	m.CheckOthers(q.Err())
	span, err := s.webhooks.Span(c, w, since, until, &m.Faults)
	if span.Failure = failure; eventType != nil {
		span.EventType = *eventType
	}
	return span, err
}

func toRecovery(r db.Recovery, remaining int64) Recovery {
	return Recovery{
		State: r.State, Found: int(r.Found), Delivered: int(r.Delivered), Failed: int(r.Failed), Remaining: int(remaining),
		LookedThrough: r.LookedThrough, LastError: r.LastError, Since: timestamp(r.Since), Until: timestamp(r.Until),
		EventType: orNull(r.EventType), Error: orNull(r.Error), StatusClass: orNull(history.StatusText(int(r.StatusClass))),
		StartedAt: timestamp(r.CreatedAt), EndedAt: (*timestamp)(r.EndedAt),
	}
}

// orNull is null for "".
func orNull(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}
