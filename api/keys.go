package api

import (
	"github.com/gin-gonic/gin"

	"github.com/mathub/webhooks/internal/bots"
	"github.com/mathub/webhooks/internal/web"
	"github.com/mathub/webhooks/webhook"
)

// CreateKey serves POST /bots/:id/keys.
func (s *server) CreateKey(c *gin.Context, id BotID) { s.createKey(c, id) }

// CreateOwnKey serves POST /keys.
func (s *server) CreateOwnKey(c *gin.Context) { s.createKey(c, botID(c)) }

func (s *server) createKey(c *gin.Context, ofBot string) {
	s.answer(c, func() (reply, error) {
		m, err := readOptionalMembers(c, "name")
		if err != nil {
			return reply{}, err
		}
		name, _ := m.text("name", false)
		if err := m.Err(); err != nil {
			return reply{}, err
		}
		key, secret, err := s.bots.CreateKey(c, ofBot, name)
		if err != nil {
			return reply{}, err
		}
		return created("", Key{
			ID: key.ID, BotID: key.BotID, Name: key.Name, Prefix: key.Prefix, Key: secret, CreatedAt: timestamp(key.CreatedAt),
		}), nil
	})
}

// ListKeys serves GET /bots/:id/keys.
func (s *server) ListKeys(c *gin.Context, id BotID) { s.listKeys(c, id) }

// ListOwnKeys serves GET /keys.
func (s *server) ListOwnKeys(c *gin.Context) { s.listKeys(c, botID(c)) }

func (s *server) listKeys(c *gin.Context, ofBot string) {
	s.answer(c, func() (reply, error) {
		keys, err := s.bots.Keys(c, ofBot)
		return ok(toKeys(keys, botID(c) != "")), err
	})
}

// FindKeys serves POST /keys/find.
func (s *server) FindKeys(c *gin.Context) {
	s.answer(c, func() (reply, error) {
		raw, err := readJSON(c, webhook.MaxRequestBytes)
		if err != nil {
			return reply{}, err
		}
		values, err := webhook.ParseObject(raw, "key")
		if err != nil {
			return reply{}, err
		}
		m := &members{values: values}
		text, _ := m.text("key", true)
		if err := m.Err(); err != nil {
			return reply{}, err
		}
		keys, err := s.bots.FindKeys(c, text)
		return ok(toKeys(keys, false)), err
	})
}

// toKeys are keys as their reader may see them: as in the audit log, who of the operator's side made one is not for the bot.
func toKeys(keys []bots.Key, forBot bool) []KeyInfo {
	list := make([]KeyInfo, len(keys))
	for i, key := range keys {
		by := seenBy(key.CreatedBy, forBot)
		list[i] = KeyInfo{
			ID: key.ID, BotID: key.BotID, Name: key.Name, Prefix: key.Prefix, CreatedAt: timestamp(key.CreatedAt),
			CreatedBy: KeyCreator{Kind: string(by.Kind), Name: orNull(by.Name)}, LastUsedAt: (*timestamp)(key.LastUsedAt),
		}
	}
	return list
}

// DeleteKey serves DELETE /bots/:id/keys/:keyId.
func (s *server) DeleteKey(c *gin.Context, id BotID, keyID string) { s.deleteKey(c, id, keyID) }

// DeleteOwnKey serves DELETE /keys/:keyId.
func (s *server) DeleteOwnKey(c *gin.Context, keyID string) { s.deleteKey(c, botID(c), keyID) }

func (s *server) deleteKey(c *gin.Context, ofBot, keyID string) {
	s.answer(c, func() (reply, error) {
		parsed, err := web.ParseID(keyID)
		if err != nil {
			return reply{}, err
		}
		if err := s.bots.RevokeKey(c, ofBot, parsed); err != nil {
			return reply{}, err
		}
		return noContent(), nil
	})
}
