package api

import (
	"maps"
	"slices"

	"github.com/gin-gonic/gin"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/ops"
	"github.com/mathub/webhooks/internal/web"
	"github.com/mathub/webhooks/webhook"
)

// ListWebhooksOfAny serves GET /webhooks of the service API.
func (s *server) ListWebhooksOfAny(c *gin.Context, _ ListWebhooksOfAnyParams) {
	s.answer(c, func() (reply, error) {
		q, err := readQuery(c, "state", "disabledReason", "botId", "host", "errorClass", "sort", "after", "limit")
		if err != nil {
			return reply{}, err
		}
		limit := q.integer("limit", ops.MaxListed, ops.DefaultListed)
		for _, name := range slices.Sorted(maps.Keys(q.values)) { // the service takes an empty text for none
			if text, given := q.text(name); given && text == "" {
				q.Add(name, "must not be empty; leave it out")
			}
		}
		if err := q.Err(); err != nil {
			return reply{}, err
		}
		page, next, err := s.ops.ListWebhooks(c, ops.WebhookFilter{
			State: q.values.Get("state"), DisabledReason: q.values.Get("disabledReason"), BotID: q.values.Get("botId"), Host: q.values.Get("host"),
			ErrorClass: q.values.Get("errorClass"), Sort: q.values.Get("sort"), After: q.values.Get("after"), Limit: limit,
		})
		if err != nil {
			return reply{}, err
		}
		s.linkAfter(c, q, next)
		return ok(toOperatorWebhooks(page)), nil
	})
}

func toOperatorWebhooks(page []ops.Webhook) []OperatorWebhook {
	list := make([]OperatorWebhook, len(page))
	for i, w := range page {
		list[i] = OperatorWebhook{
			ID: w.ID, BotID: w.BotID, Host: w.Host, Name: w.Name, State: string(w.State), FailureCount: w.FailureCount, Waiting: w.Waiting,
			OldestDueAt: (*timestamp)(w.OldestDueAt), LastError: w.LastError, ErrorClass: orNull(w.ErrorClass), DisabledAt: (*timestamp)(w.DisabledAt),
			DisabledReason: w.DisabledReason, DisabledNote: w.DisabledNote, CreatedAt: timestamp(w.CreatedAt),
		}
	}
	return list
}

// GetWebhookOfAny serves GET /webhooks/:id of the service API.
func (s *server) GetWebhookOfAny(c *gin.Context, id WebhookID) {
	s.answer(c, func() (reply, error) {
		w, err := s.anyWebhook(c, id)
		if err != nil {
			return reply{}, err
		}
		return s.detail(c, w)
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
		values, err := webhook.ParseObject(raw, "isActive", "disabledNote")
		if err != nil {
			return reply{}, err
		}
		m := &members{values: values}
		active := m.boolean("isActive")
		if _, given := m.given("isActive"); !given {
			m.Add("isActive", "is required")
		}
		var note *string
		if text, given := m.text("disabledNote", false); given {
			note = &text
		}
		if err := m.Err(); err != nil {
			return reply{}, err
		}
		w, err := s.webhooks.SetActive(c.Request.Context(), before, *active, note)
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
