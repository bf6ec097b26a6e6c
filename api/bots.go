package api

import (
	"maps"
	"slices"

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
		s.changed(c, "bot created", bot.ID)
		return created("", toBot(bot)), nil
	})
}

// CreateKey serves POST /bots/:id/keys.
func (s *server) CreateKey(c *gin.Context, id BotID) {
	s.answer(c, func() (reply, error) {
		key, secret, err := s.bots.CreateKey(c, id)
		if err != nil {
			return reply{}, err
		}
		s.changed(c, "key created", key.BotID, "changedKey", key.ID)
		return created("", Key{ID: key.ID, BotID: key.BotID, Key: secret, CreatedAt: timestamp(key.CreatedAt)}), nil
	})
}

// ListKeys serves GET /bots/:id/keys.
func (s *server) ListKeys(c *gin.Context, id BotID) {
	s.answer(c, func() (reply, error) {
		keys, err := s.bots.Keys(c, id)
		list := make([]KeyInfo, len(keys))
		for i, key := range keys {
			list[i] = KeyInfo{ID: key.ID, CreatedAt: timestamp(key.CreatedAt)}
		}
		return ok(list), err
	})
}

// DeleteKey serves DELETE /bots/:id/keys/:keyId.
func (s *server) DeleteKey(c *gin.Context, id BotID, keyID string) {
	s.answer(c, func() (reply, error) {
		parsed, err := parseID(keyID)
		if err != nil {
			return reply{}, err
		}
		if err := s.bots.RevokeKey(c, id, parsed); err != nil {
			return reply{}, err
		}
		s.changed(c, "key revoked", webhook.CanonicalID(id), "changedKey", parsed)
		return noContent(), nil
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
	s.answer(c, func() (reply, error) {
		raw, err := readJSON(c, webhook.MaxRequestBytes)
		if err != nil {
			return reply{}, err
		}
		values, err := webhook.ParseObject(raw, "notifyUrl", "notifySecret", "isActive")
		if err != nil {
			return reply{}, err
		}
		m := &members{values: values}
		change := bots.Change{NotifyChange: notifyChange(m, true), IsActive: m.boolean("isActive")}
		if err := m.Err(); err != nil {
			return reply{}, err
		}
		bot, err := s.bots.Update(c, id, change)
		if err != nil {
			return reply{}, err
		}
		s.changed(c, "bot changed", bot.ID, "fields", slices.Sorted(maps.Keys(values)), "isActive", bot.IsActive)
		return ok(toBot(bot)), nil
	})
}
