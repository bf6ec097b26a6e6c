package bots

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/audit"
	"github.com/mathub/webhooks/internal/problem"
	"github.com/mathub/webhooks/webhook"
)

// keyPrefixShown is how much of a key's beginning is kept, bot_ included.
const keyPrefixShown = 10

// Key is a key of a bot.
type Key struct {
	ID        uuid.UUID
	BotID     string
	Name      string // may be empty
	Prefix    string // how the key begins
	CreatedAt time.Time
	// CreatedBy has the kind and the name of who made it; the name may be empty.
	CreatedBy audit.Actor
	// LastUsedAt is to the minute; nil: it was not used.
	LastUsedAt *time.Time
}

// Label is what a key is known by: its name, or else how it begins.
func (k Key) Label() string { return KeyLabel(k.Name, k.Prefix) }

// KeyLabel is the Label of a key with that name and prefix.
func KeyLabel(name, prefix string) string {
	if name != "" {
		return name
	}
	return prefix + "…"
}

func keyOf(row db.ApiKey) Key {
	return Key{
		ID: row.ID, BotID: row.BotID, Name: row.Name, Prefix: row.Prefix, CreatedAt: row.CreatedAt,
		CreatedBy: audit.Actor{Kind: audit.Kind(row.CreatorKind), Name: row.CreatorName}, LastUsedAt: row.LastUsedAt,
	}
}

// CreateKey makes a key for a bot: 224 random bits, of which only the SHA-256 is kept. A bot has webhook.MaxKeysPerBot at
// most. name may be empty. secret is the key itself, and is not shown again.
func (s *Service) CreateKey(ctx context.Context, botID, name string) (key Key, secret string, err error) {
	if !webhook.ValidID(botID) {
		return Key{}, "", problem.ErrNotFound
	}
	if err := webhook.CheckOptionalName("name", name, maxNameLength); err != nil {
		return Key{}, "", err
	}
	botID, secret = webhook.CanonicalID(botID), newKey()
	q := db.New()
	var row db.ApiKey
	err = audit.Tx(ctx, s.Pool, s.Log, func(tx pgx.Tx, note func(audit.Change) error) error {
		// One at a time for each bot, so that two calls at once do not both take the last place.
		if err := q.LockBot(ctx, tx, botID); err != nil {
			return err
		}
		if _, err := q.GetBot(ctx, tx, botID); err != nil {
			return problem.OrNotFound(err)
		}
		n, err := q.CountKeys(ctx, tx, botID)
		if err != nil {
			return err
		}
		if n >= webhook.MaxKeysPerBot {
			return &problem.Error{Kind: problem.Conflict, Detail: fmt.Sprintf("A bot can have at most %d keys. Revoke one first.", webhook.MaxKeysPerBot)}
		}
		by := audit.By(ctx)
		row, err = q.CreateKey(ctx, tx, db.CreateKeyParams{
			ID: uuid.Must(uuid.NewV7()), BotID: botID, KeyHash: HashKey(secret), Name: name, Prefix: secret[:keyPrefixShown],
			CreatorKind: string(by.Kind), CreatorName: by.Name,
		})
		if err != nil {
			return err
		}
		return note(audit.Change{Action: audit.KeyCreated, BotID: botID, Subject: row.ID.String(), After: audit.Fields{"name": row.Name, "prefix": row.Prefix}})
	})
	if err != nil {
		return Key{}, "", err
	}
	return keyOf(row), secret, nil
}

// Keys are the keys of a bot, oldest first.
func (s *Service) Keys(ctx context.Context, botID string) ([]Key, error) {
	bot, err := s.row(ctx, botID)
	if err != nil {
		return nil, err
	}
	rows, err := db.New().ListKeys(ctx, s.Pool, bot.ID)
	if err != nil {
		return nil, err
	}
	return keysOf(rows), nil
}

func keysOf(rows []db.ApiKey) []Key {
	keys := make([]Key, len(rows))
	for i, row := range rows {
		keys[i] = keyOf(row)
	}
	return keys
}

const (
	// minKeyBeginning is the least of a key, bot_ included, by which it is looked for.
	minKeyBeginning = len(keyPrefix) + 2
	// maxKeysFound is how many are found.
	maxKeysFound = 100
)

// FindKeys finds keys of any bot by what is known of a leaked one: the whole key, or how it begins, of which the first ten
// characters are compared. A whole key that is none, or no more, is not found, whatever begins alike. A beginning of more than 100
// keys finds none of them. No error holds the text.
func (s *Service) FindKeys(ctx context.Context, text string) (keys []Key, err error) {
	var rows []db.ApiKey
	switch {
	case IsKey(text):
		rows, err = db.New().KeyByHash(ctx, s.Pool, HashKey(text))
	case len(text) < minKeyBeginning || len(text) > maxKeyText || !isKeyText(text):
		return nil, webhook.Invalid("key", fmt.Sprintf("must be a key, or its first %d characters or more, such as bot_x7Kq", minKeyBeginning))
	default:
		beginning := text[:min(len(text), keyPrefixShown)]
		rows, err = db.New().KeysByPrefix(ctx, s.Pool, db.KeysByPrefixParams{Beginning: beginning, Most: maxKeysFound + 1})
		if len(rows) > maxKeysFound {
			return nil, webhook.Invalid("key", fmt.Sprintf("must have more of the key, up to its first %d characters: more than %d keys begin so", keyPrefixShown, maxKeysFound))
		}
	}
	return keysOf(rows), err
}

// maxKeyText is how long a key is.
const maxKeyText = len(keyPrefix) + 43

// isKeyText says whether a text may be how a key begins.
func isKeyText(text string) bool {
	rest, ok := strings.CutPrefix(text, keyPrefix)
	return ok && webhook.ValidID(rest) // base64url is of its characters
}

// RevokeKey revokes a bot's key, from the next request on.
func (s *Service) RevokeKey(ctx context.Context, botID string, keyID uuid.UUID) error {
	if !webhook.ValidID(botID) {
		return problem.ErrNotFound
	}
	botID = webhook.CanonicalID(botID)
	return s.remove(ctx, audit.Change{Action: audit.KeyRevoked, BotID: botID, Subject: keyID.String()}, func(tx pgx.Tx) (audit.Fields, error) {
		key, err := db.New().DeleteKey(ctx, tx, db.DeleteKeyParams{ID: keyID, BotID: botID})
		return audit.Fields{"name": key.Name, "prefix": key.Prefix}, err
	})
}

// remove removes what a change is about, by a statement that returns what it was, or pgx.ErrNoRows, which is not found.
func (s *Service) remove(ctx context.Context, change audit.Change, row func(tx pgx.Tx) (was audit.Fields, err error)) error {
	return audit.Tx(ctx, s.Pool, s.Log, func(tx pgx.Tx, note func(audit.Change) error) (err error) {
		if change.Before, err = row(tx); err != nil {
			return problem.OrNotFound(err)
		}
		return note(change)
	})
}

const (
	// keyUseEvery is how often a key's last use is written at most, and keyUseTimeout bounds that.
	keyUseEvery   = time.Minute
	keyUseTimeout = 5 * time.Second
	// manyKeyUses is from how many on uses that need no keeping are forgotten.
	manyKeyUses = 10_000
)

// KeyUse writes when keys were last used, beside the calls that use them.
type KeyUse struct {
	Service *Service

	mu sync.Mutex
	at map[uuid.UUID]time.Time // when a key's use was last written by this process
}

// Note notes that a key is used.
func (u *KeyUse) Note(id uuid.UUID) {
	if !u.due(id, time.Now()) {
		return
	}
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), keyUseTimeout)
		defer cancel()
		_ = db.New().TouchKey(ctx, u.Service.Pool, id) // the next use writes it
	}()
}

func (u *KeyUse) due(id uuid.UUID, now time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if now.Sub(u.at[id]) < keyUseEvery {
		return false
	}
	if u.at == nil || len(u.at) >= manyKeyUses {
		u.at = map[uuid.UUID]time.Time{}
	}
	u.at[id] = now
	return true
}
