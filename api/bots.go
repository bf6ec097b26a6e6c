package api

import (
	"context"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/webhook"
)

// maxNameLength bounds a bot's name, in characters, as the API's document counts.
const maxNameLength = 200

// CreateBot makes a bot; id is Mathub's id of it, or "" for a UUIDv7, and notify where its owner is told of disabled
// webhooks; the zero value: nowhere. The error is an *Error that a person can read.
func CreateBot(ctx context.Context, pool *pgxpool.Pool, id, name string, notify NotifyChange) (Bot, error) {
	m := &members{}
	if id != "" && !webhook.ValidID(id) {
		m.fault("id", "must be 1 to 128 of the characters A-Z a-z 0-9 _ -")
	}
	if strings.TrimSpace(name) == "" || utf8.RuneCountInString(name) > maxNameLength || strings.ContainsRune(name, 0) {
		m.fault("name", fmt.Sprintf("must have 1 to %d characters, none of them NUL", maxNameLength))
	}
	notify.check(m)
	if err := m.err(); err != nil {
		return Bot{}, asError(err)
	}
	if id = webhook.CanonicalID(id); id == "" {
		id = webhook.NewID()
	}
	row, made, err := notify.of(db.Bot{ID: id})
	if err != nil {
		return Bot{}, asError(err)
	}
	row, err = db.New().CreateBot(ctx, pool, db.CreateBotParams{ID: id, Name: name, NotifyURL: row.NotifyURL, NotifySecret: row.NotifySecret})
	if db.IsUniqueViolation(err) {
		return Bot{}, &Error{code: conflict, Detail: "There is a bot of this id already."}
	}
	if err != nil {
		return Bot{}, err
	}
	return toBot(row, made, notify.Keyset)
}

// FindBot returns the id of the bot with that id or, where only one has it, that name.
func FindBot(ctx context.Context, pool *pgxpool.Pool, nameOrID string) (string, error) {
	rows, err := db.New().FindBots(ctx, pool, nameOrID)
	if id := webhook.CanonicalID(nameOrID); id != nameOrID && err == nil && len(rows) == 0 {
		nameOrID = id
		rows, err = db.New().FindBots(ctx, pool, nameOrID)
	}
	switch {
	case err != nil:
		return "", err
	case len(rows) == 0:
		return "", &Error{code: notFound, Detail: fmt.Sprintf("There is no bot of the name or id %q.", nameOrID)}
	case len(rows) > 1 && rows[0].ID != nameOrID:
		return "", &Error{code: conflict, Detail: fmt.Sprintf("Several bots have the name %q: give the id.", nameOrID)}
	}
	return rows[0].ID, nil
}

// CreateKey makes a key for a bot: 224 random bits, of which only the SHA-256 is kept. A bot has webhook.MaxKeysPerBot at
// most.
func CreateKey(ctx context.Context, pool *pgxpool.Pool, botID string) (Key, error) {
	key := newKey()
	q := db.New()
	var row db.CreateKeyRow
	err := db.WithTx(ctx, pool, func(tx pgx.Tx) error {
		// One at a time for each bot, so that two calls at once do not both take the last place.
		if err := q.LockBot(ctx, tx, botID); err != nil {
			return err
		}
		if _, err := q.GetBot(ctx, tx, botID); err != nil {
			return orNotFound(err)
		}
		n, err := q.CountKeys(ctx, tx, botID)
		if err != nil {
			return err
		}
		if n >= webhook.MaxKeysPerBot {
			return &Error{code: conflict, Detail: fmt.Sprintf("A bot may have at most %d keys: revoke one first.", webhook.MaxKeysPerBot)}
		}
		row, err = q.CreateKey(ctx, tx, db.CreateKeyParams{ID: uuid.Must(uuid.NewV7()), BotID: botID, KeyHash: hashKey(key)})
		return err
	})
	if err != nil {
		return Key{}, err
	}
	return Key{ID: row.ID, BotID: row.BotID, Key: key, CreatedAt: timestamp(row.CreatedAt)}, nil
}

// ListKeys returns the keys of a bot, oldest first.
func ListKeys(ctx context.Context, pool *pgxpool.Pool, botID string) ([]KeyInfo, error) {
	q := db.New()
	if _, err := q.GetBot(ctx, pool, botID); err != nil {
		return nil, orNotFound(err)
	}
	rows, err := q.ListKeys(ctx, pool, botID)
	if err != nil {
		return nil, err
	}
	keys := make([]KeyInfo, len(rows))
	for i, row := range rows {
		keys[i] = KeyInfo{ID: row.ID, CreatedAt: timestamp(row.CreatedAt)}
	}
	return keys, nil
}

// RevokeKey revokes a bot's key, from the next request on.
func RevokeKey(ctx context.Context, pool *pgxpool.Pool, botID string, keyID uuid.UUID) error {
	n, err := db.New().DeleteKey(ctx, pool, db.DeleteKeyParams{ID: keyID, BotID: botID})
	if err == nil && n == 0 {
		err = errNotFound
	}
	return err
}

// storedBot is the id that a bot of that id is stored under.
func storedBot(id string) (string, error) {
	if !webhook.ValidID(id) {
		return "", errNotFound
	}
	return webhook.CanonicalID(id), nil
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
			m.fault("id", "must not be empty; leave it out instead")
		}
		name, _ := m.text("name", true)
		notify := s.notifyChange(m, false)
		if err := m.err(); err != nil {
			return reply{}, err
		}
		bot, err := CreateBot(c, s.cfg.Pool, id, name, notify)
		if err != nil {
			return reply{}, err
		}
		s.changed(c, "bot created", bot.ID)
		return created("", bot), nil
	})
}

// CreateKey serves POST /bots/:id/keys.
func (s *server) CreateKey(c *gin.Context, id BotID) {
	s.answer(c, func() (reply, error) {
		id, err := storedBot(id)
		if err != nil {
			return reply{}, err
		}
		key, err := CreateKey(c, s.cfg.Pool, id)
		if err != nil {
			return reply{}, err
		}
		s.changed(c, "key created", id, "changedKey", key.ID)
		return created("", key), nil
	})
}

// ListKeys serves GET /bots/:id/keys.
func (s *server) ListKeys(c *gin.Context, id BotID) {
	s.answer(c, func() (reply, error) {
		id, err := storedBot(id)
		if err != nil {
			return reply{}, err
		}
		keys, err := ListKeys(c, s.cfg.Pool, id)
		return ok(keys), err
	})
}

// DeleteKey serves DELETE /bots/:id/keys/:keyId.
func (s *server) DeleteKey(c *gin.Context, id BotID, keyID string) {
	s.answer(c, func() (reply, error) {
		parsed, err := parseID(keyID)
		if err != nil {
			return reply{}, err
		}
		if id, err = storedBot(id); err != nil {
			return reply{}, err
		}
		if err := RevokeKey(c, s.cfg.Pool, id, parsed); err != nil {
			return reply{}, err
		}
		s.changed(c, "key revoked", id, "changedKey", parsed)
		return noContent(), nil
	})
}
