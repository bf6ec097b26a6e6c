package api

import (
	"github.com/gin-gonic/gin"

	"github.com/mathub/webhooks/internal/bots"
	"github.com/mathub/webhooks/webhook"
)

func toBot(b bots.Bot) Bot {
	return Bot{ID: b.ID, Name: b.Name, IsActive: b.IsActive, CreatedAt: timestamp(b.CreatedAt), NotifyURL: b.NotifyURL, NotifySecret: b.NotifySecret}
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
		bot, err := s.bots.Get(c, id)
		return ok(toBot(bot)), err
	})
}

// UpdateBot serves PATCH /bots/:id.
func (s *server) UpdateBot(c *gin.Context, id BotID) {
	s.updateBot(c, id, "notifyUrl", "notifySecret", "isActive")
}
