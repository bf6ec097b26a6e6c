package api

import (
	"github.com/gin-gonic/gin"

	"github.com/mathub/webhooks/internal/bots"
	"github.com/mathub/webhooks/internal/ops"
	"github.com/mathub/webhooks/webhook"
)

func toBot(b bots.Bot) Bot {
	return Bot{
		ID: b.ID, Name: b.Name, IsActive: b.IsActive, SuspendedAt: (*timestamp)(b.SuspendedAt), SuspendedReason: b.SuspendedReason,
		CreatedAt: timestamp(b.CreatedAt), NotifyURL: b.NotifyURL, Unreadable: orAbsent(b.Unreadable), NotifySecret: b.NotifySecret,
	}
}

func toBotDetail(b ops.Bot) BotDetail {
	return BotDetail{
		ID: b.ID, Name: b.Name, IsActive: b.IsActive, SuspendedAt: (*timestamp)(b.SuspendedAt), SuspendedReason: b.SuspendedReason,
		CreatedAt: timestamp(b.CreatedAt), NotifyURL: b.NotifyURL, Unreadable: orAbsent(b.Unreadable),
		Webhooks: b.Webhooks, ActiveWebhooks: b.ActiveWebhooks, DisabledByFailures: b.DisabledByFailures,
	}
}

// ListBots serves GET /bots.
func (s *server) ListBots(c *gin.Context, _ ListBotsParams) {
	s.answer(c, func() (reply, error) {
		q, err := readQuery(c, "search", "state", "after", "limit")
		if err != nil {
			return reply{}, err
		}
		filter := ops.BotFilter{
			Search: q.values.Get("search"), State: q.oneOf("state", ops.BotStates...), After: q.values.Get("after"),
			Limit: q.integer("limit", ops.MaxListed, ops.DefaultListed),
		}
		if err := q.Err(); err != nil {
			return reply{}, err
		}
		page, next, err := s.ops.ListBots(c, filter)
		if err != nil {
			return reply{}, err
		}
		list := make([]BotDetail, len(page))
		for i, b := range page {
			list[i] = toBotDetail(b)
		}
		s.linkAfter(c, q, next)
		return ok(list), nil
	})
}

// DeleteBot serves DELETE /bots/:id.
func (s *server) DeleteBot(c *gin.Context, id BotID) {
	s.answer(c, func() (reply, error) {
		return noContent(), s.bots.Delete(c, id)
	})
}

// notifyChange reads {notifyUrl?, notifySecret?}; mayRemove: the URL may be null.
func notifyChange(m *members, mayRemove bool) bots.NotifyChange {
	n := bots.NotifyChange{SetURL: mayRemove && m.isNull("notifyUrl")}
	if rawURL, given := m.text("notifyUrl", false); given {
		n.SetURL, n.URL = true, &rawURL
	}
	if secret, given := m.text("notifySecret", false); given {
		n.Secret = &secret
	}
	return n
}

// CreateBot serves POST /bots.
func (s *server) CreateBot(c *gin.Context) {
	s.answer(c, func() (reply, error) {
		raw, err := readJSON(c, webhook.MaxRequestBytes)
		if err != nil {
			return reply{}, err
		}
		values, err := webhook.ParseObject(raw, "id", "name", "notifyUrl", "notifySecret")
		if err != nil {
			return reply{}, err
		}
		m := &members{values: values}
		id, given := m.text("id", false)
		if given && id == "" {
			m.Add("id", "must not be empty; leave it out")
		}
		name, _ := m.text("name", true)
		notify := notifyChange(m, false)
		if err := m.Err(); err != nil {
			return reply{}, err
		}
		bot, err := s.bots.Create(c, bots.New{ID: id, Name: name, NotifyChange: notify})
		if err != nil {
			return reply{}, err
		}
		return created("", toBot(bot)), nil
	})
}

// GetBot serves GET /bots/:id.
func (s *server) GetBot(c *gin.Context, id BotID) {
	s.answer(c, func() (reply, error) {
		bot, err := s.ops.Bot(c, id)
		return ok(toBotDetail(bot)), err
	})
}

// UpdateBot serves PATCH /bots/:id.
func (s *server) UpdateBot(c *gin.Context, id BotID) {
	s.updateBot(c, id, "notifyUrl", "notifySecret", "isActive", "suspendedReason")
}
