package api

import (
	"github.com/gin-gonic/gin"

	"github.com/mathub/webhooks/internal/bots"
	"github.com/mathub/webhooks/internal/delivery"
	"github.com/mathub/webhooks/webhook"
)

// GetOwnBot serves GET /bot.
func (s *server) GetOwnBot(c *gin.Context) {
	s.answer(c, func() (reply, error) {
		bot, err := s.bots.Get(c, botID(c))
		return ok(toBot(bot)), err
	})
}

// UpdateOwnBot serves PATCH /bot.
func (s *server) UpdateOwnBot(c *gin.Context) {
	s.updateBot(c, botID(c), "notifyUrl", "notifySecret")
}

// TestNotification serves POST /bot/notification-test.
func (s *server) TestNotification(c *gin.Context) {
	s.answer(c, func() (reply, error) {
		r, err := s.webhooks.TestNotification(c.Request.Context(), botID(c))
		if err != nil {
			return reply{}, err
		}
		test := NotificationTest{Delivered: r.Status == delivery.Delivered, Error: orNull(r.Error)}
		if r.StatusCode != 0 {
			test.StatusCode = &r.StatusCode
		}
		return ok(test), nil
	})
}

// updateBot changes those of a bot's fields that the caller may change.
func (s *server) updateBot(c *gin.Context, id string, fields ...string) {
	s.answer(c, func() (reply, error) {
		raw, err := readJSON(c, webhook.MaxRequestBytes)
		if err != nil {
			return reply{}, err
		}
		values, err := webhook.ParseObject(raw, fields...)
		if err != nil {
			return reply{}, err
		}
		m := &members{values: values}
		change := bots.Change{NotifyChange: notifyChange(m, true), IsActive: m.boolean("isActive")}
		if reason, given := m.text("suspendedReason", false); given {
			change.SuspendedReason = &reason
		}
		if err := m.Err(); err != nil {
			return reply{}, err
		}
		bot, err := s.bots.Update(c, id, change)
		if err != nil {
			return reply{}, err
		}
		return ok(toBot(bot)), nil
	})
}

// ListEventTypes serves GET /event-types.
func (s *server) ListEventTypes(c *gin.Context) {
	s.answer(c, func() (reply, error) {
		list := []EventTypeInfo{}
		for _, spec := range webhook.Catalog() {
			if spec.Audience != webhook.Direct {
				list = append(list, EventTypeInfo{Type: string(spec.Type), Audience: spec.Audience.String(), Description: spec.Description, Sample: spec.ExampleData()})
			}
		}
		return ok(list), nil
	})
}
