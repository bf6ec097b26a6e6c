package api

import (
	"github.com/gin-gonic/gin"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/web"
	"github.com/mathub/webhooks/webhook"
)

// ListWebhooksOfBot serves GET /webhooks of the service API.
func (s *server) ListWebhooksOfBot(c *gin.Context, _ ListWebhooksOfBotParams) {
	s.answer(c, func() (reply, error) {
		q, err := readQuery(c, "botId", "after")
		if err != nil {
			return reply{}, err
		}
		id, given := q.text("botId")
		if !given || !webhook.ValidID(id) {
			q.Add("botId", "must be the id of a bot")
		}
		id = webhook.CanonicalID(id)
		if err := q.Err(); err != nil {
			return reply{}, err
		}
		if _, err := s.bots.Get(c, id); err != nil {
			return reply{}, err
		}
		list, err := s.webhooksOf(c, q, id)
		return ok(list), err
	})
}

// GetWebhookOfAny serves GET /webhooks/:id of the service API.
func (s *server) GetWebhookOfAny(c *gin.Context, id WebhookID) {
	s.answer(c, func() (reply, error) {
		w, err := s.anyWebhook(c, id)
		if err != nil {
			return reply{}, err
		}
		details, err := s.details(c, []db.Webhook{w})
		if err != nil {
			return reply{}, err
		}
		return ok(details[0]), nil
	})
}

// UpdateWebhookOfAny serves PATCH /webhooks/:id of the service API.
func (s *server) UpdateWebhookOfAny(c *gin.Context, id WebhookID) {
	s.answer(c, func() (reply, error) {
		before, err := s.anyWebhook(c, id)
		if err != nil {
			return reply{}, err
		}
		raw, err := readJSON(c, webhook.MaxRequestBytes)
		if err != nil {
			return reply{}, err
		}
		values, err := webhook.ParseObject(raw, "isActive")
		if err != nil {
			return reply{}, err
		}
		m := &members{values: values}
		active := m.boolean("isActive")
		if _, given := m.given("isActive"); !given {
			m.Add("isActive", "is required")
		}
		if err := m.Err(); err != nil {
			return reply{}, err
		}
		w, err := s.webhooks.SetActive(c.Request.Context(), before, *active, nil)
		if err != nil {
			return reply{}, err
		}
		view, err := s.viewNow(c, w)
		return ok(view), err
	})
}

// DeleteWebhookOfAny serves DELETE /webhooks/:id of the service API.
func (s *server) DeleteWebhookOfAny(c *gin.Context, id WebhookID) {
	s.answer(c, func() (reply, error) {
		w, err := s.anyWebhook(c, id)
		if err != nil {
			return reply{}, err
		}
		return noContent(), s.webhooks.Delete(c, w)
	})
}

// anyWebhook reads a webhook whosesoever it is.
func (s *server) anyWebhook(c *gin.Context, id string) (db.Webhook, error) {
	webhookID, err := web.ParseID(id)
	if err != nil {
		return db.Webhook{}, err
	}
	return s.webhooks.GetOfAny(c, webhookID)
}
