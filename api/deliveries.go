package api

import (
	"github.com/gin-gonic/gin"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/web"
	"github.com/mathub/webhooks/webhook"
)

// TestWebhook serves POST /webhooks/:id/test.
func (s *server) TestWebhook(c *gin.Context, id WebhookID) {
	s.answer(c, func() (reply, error) {
		w, err := s.owned(c, id)
		if err != nil {
			return reply{}, err
		}
		m, err := readOptionalMembers(c, "eventType")
		if err != nil {
			return reply{}, err
		}
		eventType, _ := m.text("eventType", false)
		if err := m.Err(); err != nil {
			return reply{}, err
		}
		return sent(s.webhooks.SendTest(c.Request.Context(), w, webhook.EventType(eventType)))
	})
}

// VerifyWebhook serves POST /webhooks/:id/verify.
func (s *server) VerifyWebhook(c *gin.Context, id WebhookID) {
	s.answer(c, func() (reply, error) {
		w, err := s.owned(c, id)
		if err != nil {
			return reply{}, err
		}
		return sent(s.webhooks.Verify(c.Request.Context(), w))
	})
}

// RedeliverDelivery serves POST /webhooks/:id/deliveries/:deliveryId/redeliver.
func (s *server) RedeliverDelivery(c *gin.Context, id WebhookID, deliveryID string) {
	s.answer(c, func() (reply, error) {
		w, err := s.owned(c, id)
		if err != nil {
			return reply{}, err
		}
		old, err := web.ParseID(deliveryID)
		if err != nil {
			return reply{}, err
		}
		return sent(s.webhooks.Redeliver(c.Request.Context(), w, old))
	})
}

// RetryNow serves POST /webhooks/:id/retry-now.
func (s *server) RetryNow(c *gin.Context, id WebhookID) { s.retryNow(c, id, s.owned) }

// RetryNowOfAny serves the same of the service API.
func (s *server) RetryNowOfAny(c *gin.Context, id WebhookID) { s.retryNow(c, id, s.anyWebhook) }

func (s *server) retryNow(c *gin.Context, id string, find findWebhook) {
	s.answer(c, func() (reply, error) {
		w, err := find(c, id)
		if err != nil {
			return reply{}, err
		}
		m, err := readOptionalMembers(c, "eventId")
		if err != nil {
			return reply{}, err
		}
		eventID, given := m.text("eventId", false)
		if given && !webhook.ValidID(eventID) {
			m.Add("eventId", "must be 1 to 128 of the characters A-Z a-z 0-9 _ -")
		}
		if err := m.Err(); err != nil {
			return reply{}, err
		}
		n, err := s.webhooks.RetryNow(c.Request.Context(), w, eventID)
		if err != nil {
			return reply{}, err
		}
		return accepted(RetryResult{Attempts: n}), nil
	})
}

// ListWaiting serves GET /webhooks/:id/waiting.
func (s *server) ListWaiting(c *gin.Context, id WebhookID) { s.listWaiting(c, id, s.owned) }

// ListWaitingOfAny serves the same of the service API.
func (s *server) ListWaitingOfAny(c *gin.Context, id WebhookID) { s.listWaiting(c, id, s.anyWebhook) }

func (s *server) listWaiting(c *gin.Context, id string, find findWebhook) {
	s.answer(c, func() (reply, error) {
		w, err := find(c, id)
		if err != nil {
			return reply{}, err
		}
		waiting, err := s.webhooks.Waiting(c.Request.Context(), w)
		if err != nil {
			return reply{}, err
		}
		list := make([]WaitingDelivery, len(waiting))
		for i, d := range waiting {
			list[i] = WaitingDelivery{
				Position: d.Position, EventID: d.EventID, EventType: d.EventType, AcceptedAt: timestamp(d.AcceptedAt), Attempt: d.Attempt, Trigger: string(d.Trigger),
				NextAttemptAt: (*timestamp)(d.NextAttemptAt),
			}
		}
		return ok(list), nil
	})
}

// sent answers with a delivery that was just made.
func sent(row db.GetDeliveriesRow, err error) (reply, error) {
	if err != nil {
		return reply{}, err
	}
	return ok(toDelivery(row)), nil
}
