package audit

import (
	"context"
	"encoding/json"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mathub/webhooks/db"
)

// MaxListed is how many entries one call lists.
const MaxListed = 50

// Reader reads the audit log.
type Reader struct{ Pool *pgxpool.Pool }

// Entry is a change, when it was made, and by whom.
type Entry struct {
	Change
	ID uuid.UUID
	At time.Time
	By Actor
}

// List returns up to MaxListed of a bot's entries, or of all bots' where botID is empty: newest first, from the one before
// `before` on, or from the newest. more: there are older ones. Before an entry that is not there, or another bot's, there is none.
func (r *Reader) List(ctx context.Context, botID string, before uuid.UUID) (entries []Entry, more bool, err error) {
	return r.list(ctx, botID, false, before)
}

// ListOwn is List as the bot itself may read it: without what was written of an earlier bot that had its id.
func (r *Reader) ListOwn(ctx context.Context, botID string, before uuid.UUID) (entries []Entry, more bool, err error) {
	return r.list(ctx, botID, true, before)
}

func (r *Reader) list(ctx context.Context, botID string, own bool, before uuid.UUID) (entries []Entry, more bool, err error) {
	q, from := db.New(), db.IDOrNull(before)
	var rows []db.AuditLog
	if botID == "" {
		rows, err = q.ListAudit(ctx, r.Pool, db.ListAuditParams{BeforeID: from, Most: MaxListed + 1})
	} else {
		rows, err = q.ListAuditOfBot(ctx, r.Pool, db.ListAuditOfBotParams{BotID: botID, Own: own, BeforeID: from, Most: MaxListed + 1})
	}
	if err != nil {
		return nil, false, err
	}
	if len(rows) > MaxListed {
		rows, more = rows[:MaxListed], true
	}
	entries = make([]Entry, len(rows))
	for i, row := range rows {
		if entries[i], err = entry(row); err != nil {
			return nil, false, err
		}
	}
	return entries, more, nil
}

func entry(row db.AuditLog) (Entry, error) {
	e := Entry{
		ID: row.ID, At: row.At, Change: Change{Action: Action(row.Action), BotID: row.BotID, Subject: row.Subject},
		By: Actor{Kind: Kind(row.ActorKind), ID: row.ActorID, Name: row.ActorName, KeyID: row.ActorKeyID.UUID, LinkID: row.ActorLinkID.UUID, Client: row.Client, Request: row.Request},
	}
	for _, side := range []struct {
		stored []byte
		fields *Fields
	}{{row.Before, &e.Before}, {row.After, &e.After}} {
		if side.stored == nil {
			continue
		}
		if err := json.Unmarshal(side.stored, side.fields); err != nil {
			return Entry{}, err
		}
	}
	return e, nil
}

// removedAtOnce is how many entries one statement removes.
const removedAtOnce = 10_000

// Remove removes what was written before a time, for as long as ctx lasts.
func Remove(ctx context.Context, pool *pgxpool.Pool, before time.Time) error {
	for n := int64(removedAtOnce); n == removedAtOnce; {
		var err error
		if n, err = db.New().RemoveAudit(ctx, pool, db.RemoveAuditParams{Before: before, Most: removedAtOnce}); err != nil {
			return err
		}
	}
	return nil
}
