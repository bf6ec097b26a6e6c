package api

import (
	"github.com/gin-gonic/gin"

	"github.com/mathub/webhooks/db"
)

// TestWebhook serves POST /webhooks/:id/test.
func (s *server) TestWebhook(c *gin.Context, id WebhookID) {
	s.answer(c, func() (reply, error) {
		w, err := s.owned(c, id)
		if err != nil {
			return reply{}, err
		}
		return sent(s.webhooks.SendTest(c.Request.Context(), w))
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
		old, err := parseID(deliveryID)
		if err != nil {
			return reply{}, err
		}
		return sent(s.webhooks.Redeliver(c.Request.Context(), w, old))
	})
}

// sent answers with a delivery that was just made.
func sent(row db.GetDeliveriesRow, err error) (reply, error) {
	if err != nil {
		return reply{}, err
	}
	return ok(toDelivery(row)), nil
}
