package api

import (
	"context"
	"maps"
	"slices"

	"github.com/gin-gonic/gin"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/webhook"
)

// NotifyChange is what is to become of where a bot's owner is told of disabled webhooks.
type NotifyChange struct {
	// SetURL says that URL is to take the place of the present one; a nil URL is that nobody is told any more.
	SetURL bool
	URL    *string
	// Secret signs from now on. When it is nil the present one stays; where there is none, one is made.
	Secret *string
	// Rules are what the URL is held against, and Keyset seals it and the secret.
	Rules  webhook.URLRules
	Keyset *db.Keyset
}

// notifyChange reads {notifyUrl?, notifySecret?}; mayRemove: the URL may be null.
func (s *server) notifyChange(m *members, mayRemove bool) NotifyChange {
	n := NotifyChange{Rules: s.cfg.URLRules, Keyset: s.cfg.Keyset, SetURL: mayRemove && m.isNull("notifyUrl")}
	if rawURL, given := m.text("notifyUrl", false); given {
		n.SetURL, n.URL = true, &rawURL
	}
	if secret, given := m.text("notifySecret", false); given {
		n.Secret = &secret
	}
	return n
}

// check completes the URL's form and names what is wrong with it or with the secret.
func (n *NotifyChange) check(m *members) {
	if n.URL != nil {
		url, err := n.Rules.Check(*n.URL)
		m.checkAs("notifyUrl", err)
		n.URL = &url
	}
	switch {
	case n.Secret == nil:
	case *n.Secret == "": // unlike a webhook's, it cannot be removed: notices are always signed
		m.fault("notifySecret", "must not be empty; leave it out instead")
	default:
		m.checkAs("notifySecret", webhook.ValidateSecret(*n.Secret))
		if n.SetURL && n.URL == nil {
			m.fault("notifySecret", "must come without a notifyUrl of null, which removes it")
		}
	}
}

// of is the change applied to a bot. made is a secret that had to be made.
func (n *NotifyChange) of(bot db.Bot) (changed db.Bot, made *string, err error) {
	if n.SetURL && n.URL == nil {
		bot.NotifyURL = nil
	} else if n.SetURL {
		if bot.NotifyURL, err = n.Keyset.SealNotifyURL(bot.ID, *n.URL); err != nil {
			return bot, nil, err
		}
	}
	if bot.NotifyURL == nil {
		bot.NotifySecret = nil
		if n.Secret != nil {
			m := &members{}
			m.fault("notifySecret", "must come with a notifyUrl, as the bot has none")
			return bot, nil, m.err()
		}
		return bot, nil, nil
	}
	secret := n.Secret
	if secret == nil && bot.NotifySecret == nil {
		text := webhook.NewSecret()
		secret, made = &text, &text
	}
	if secret != nil {
		bot.NotifySecret, err = n.Keyset.SealNotify(bot.ID, *secret)
	}
	return bot, made, err
}

// BotUpdate is what is to become of a bot.
type BotUpdate struct {
	NotifyChange
	// IsActive, if not nil, suspends the bot or ends its suspension.
	IsActive *bool
}

// UpdateBot changes a bot. The error is an *Error that a person can read.
func UpdateBot(ctx context.Context, pool *pgxpool.Pool, botID string, n BotUpdate) (Bot, error) {
	m := &members{}
	if n.check(m); len(m.faults) > 0 {
		return Bot{}, asError(m.err())
	}
	var made *string
	var row db.Bot
	err := db.WithTx(ctx, pool, func(tx pgx.Tx) (err error) {
		q := db.New()
		if err := q.LockBot(ctx, tx, botID); err != nil {
			return err
		}
		if row, err = q.GetBot(ctx, tx, botID); err != nil {
			return orNotFound(err)
		}
		if row, made, err = n.of(row); err != nil {
			return err
		}
		row, err = q.SetNotify(ctx, tx, db.SetNotifyParams{ID: botID, NotifyURL: row.NotifyURL, NotifySecret: row.NotifySecret})
		if err != nil || n.IsActive == nil || *n.IsActive == row.IsActive {
			return err
		}
		row.IsActive = *n.IsActive
		return setActive(ctx, tx, botID, row.IsActive)
	})
	if err != nil {
		return Bot{}, asError(err)
	}
	return toBot(row, made, n.Keyset)
}

// setActive suspends a bot or ends its suspension. What is planned for a suspended bot is removed, as it is for a disabled
// webhook: what it misses can be recovered afterwards. The bot is locked.
func setActive(ctx context.Context, tx pgx.Tx, botID string, active bool) error {
	q := db.New()
	if err := q.SetBotActive(ctx, tx, db.SetBotActiveParams{ID: botID, IsActive: active}); err != nil {
		return err
	}
	ids, err := q.WebhooksOfBot(ctx, tx, botID)
	if err != nil {
		return err
	}
	// No attempt is recorded and none is planned meanwhile.
	if err := q.LockWebhooks(ctx, tx, db.LockWebhooksParams{Exclusive: ids}); err != nil {
		return err
	}
	if active {
		return q.ResumeWebhooks(ctx, tx, botID)
	}
	if err := q.SuspendWebhooks(ctx, tx, botID); err != nil {
		return err
	}
	return history.SuspendWebhooks(ctx, tx, ids)
}

// toBot needs the keyset only of a bot with a notify URL.
func toBot(row db.Bot, made *string, keyset *db.Keyset) (Bot, error) {
	bot := Bot{ID: row.ID, Name: row.Name, IsActive: row.IsActive, CreatedAt: timestamp(row.CreatedAt), NotifySecret: made}
	if row.NotifyURL != nil {
		url, err := keyset.OpenNotifyURL(row.ID, row.NotifyURL)
		if err != nil {
			return Bot{}, err
		}
		bot.NotifyURL = &url
	}
	return bot, nil
}

// GetBot serves GET /bots/:id.
func (s *server) GetBot(c *gin.Context, id BotID) {
	s.answer(c, func() (reply, error) {
		id, err := storedBot(id)
		if err != nil {
			return reply{}, err
		}
		row, err := s.queries.GetBot(c, s.cfg.Pool, id)
		if err != nil {
			return reply{}, orNotFound(err)
		}
		bot, err := toBot(row, nil, s.cfg.Keyset)
		return ok(bot), err
	})
}

// UpdateBot serves PATCH /bots/:id.
func (s *server) UpdateBot(c *gin.Context, id BotID) {
	s.answer(c, func() (reply, error) {
		id, err := storedBot(id)
		if err != nil {
			return reply{}, err
		}
		raw, err := readJSON(c, webhook.MaxRequestBytes)
		if err != nil {
			return reply{}, err
		}
		values, err := webhook.ParseObject(raw, "notifyUrl", "notifySecret", "isActive")
		if err != nil {
			return reply{}, err
		}
		m := &members{values: values}
		change := BotUpdate{NotifyChange: s.notifyChange(m, true), IsActive: m.boolean("isActive")}
		if err := m.err(); err != nil {
			return reply{}, err
		}
		bot, err := UpdateBot(c, s.cfg.Pool, id, change)
		if err != nil {
			return reply{}, err
		}
		s.changed(c, "bot changed", id, "fields", slices.Sorted(maps.Keys(values)), "isActive", bot.IsActive)
		return ok(bot), nil
	})
}
