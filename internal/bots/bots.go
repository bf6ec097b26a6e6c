// Package bots holds the rules about bots and their keys, behind the service API and the command line.
package bots

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/audit"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/internal/problem"
	"github.com/mathub/webhooks/webhook"
)

// maxNameLength bounds the names of bots and keys and the labels of links, in characters.
const maxNameLength = 200

// Service reads and changes bots. Its errors are of package problem, or of the database.
type Service struct {
	Pool *pgxpool.Pool
	// Keyset seals notify URLs and secrets. Without one, none can be set, and Bot has none.
	Keyset *db.Keyset
	// URLRules are what a notify URL is held against.
	URLRules webhook.URLRules
	// Log has a line for each change; nil: none.
	Log *slog.Logger
}

// Bot is a bot as its operator sees it.
type Bot struct {
	ID        string
	Name      string
	IsActive  bool // false: it is suspended
	CreatedAt time.Time
	// SuspendedAt and SuspendedReason are of a suspended bot. The reason is nil where the operator gave none.
	SuspendedAt     *time.Time
	SuspendedReason *string
	// NotifyURL is where its owner is notified of webhooks that fail; nil: nowhere.
	NotifyURL *string
	// Unreadable: it has a notification URL, which no key of the keyset opens.
	Unreadable bool
	// NotifySecret is one that was made by this very call, and is not shown again.
	NotifySecret *string
}

// New is a bot to be made.
type New struct {
	ID   string // Mathub's id of it; "": a UUIDv7 is made
	Name string
	NotifyChange
}

// Create makes a bot.
func (s *Service) Create(ctx context.Context, in New) (Bot, error) {
	faults := &problem.Faults{}
	if in.ID != "" && !webhook.ValidID(in.ID) {
		faults.Add("id", "must be 1 to 128 of the characters A-Z a-z 0-9 _ -")
	}
	faults.Check(webhook.CheckName("name", in.Name, maxNameLength))
	in.check(s.URLRules, faults)
	if err := faults.Err(); err != nil {
		return Bot{}, problem.Of(err)
	}
	id := webhook.CanonicalID(in.ID)
	if id == "" {
		id = webhook.NewID()
	}
	row, made, err := in.of(db.Bot{ID: id}, s.Keyset)
	if err != nil {
		return Bot{}, problem.Of(err)
	}
	err = audit.Tx(ctx, s.Pool, s.Log, func(tx pgx.Tx, note func(audit.Change) error) error {
		row, err = db.New().CreateBot(ctx, tx, db.CreateBotParams{ID: id, Name: in.Name, NotifyURL: row.NotifyURL, NotifySecret: row.NotifySecret})
		if err != nil {
			return err
		}
		return note(audit.Change{Action: audit.BotCreated, BotID: id, After: auditFields(row)})
	})
	if db.IsUniqueViolation(err) {
		return Bot{}, &problem.Error{Kind: problem.Conflict, Detail: "A bot with this id exists."}
	}
	if err != nil {
		return Bot{}, err
	}
	return s.bot(row, made), nil
}

// Get reads the bot of that id.
func (s *Service) Get(ctx context.Context, id string) (Bot, error) {
	row, err := s.row(ctx, id)
	if err != nil {
		return Bot{}, err
	}
	return s.bot(row, nil), nil
}

// row reads the bot of that id, in either spelling of a UUID.
func (s *Service) row(ctx context.Context, id string) (db.Bot, error) {
	if !webhook.ValidID(id) {
		return db.Bot{}, problem.ErrNotFound
	}
	row, err := db.New().GetBot(ctx, s.Pool, webhook.CanonicalID(id))
	return row, problem.OrNotFound(err)
}

// Find returns the id of the bot with that id, in either spelling of a UUID, or, where only one has it, that name.
func (s *Service) Find(ctx context.Context, nameOrID string) (string, error) {
	id := webhook.CanonicalID(nameOrID)
	rows, err := db.New().FindBots(ctx, s.Pool, db.FindBotsParams{ID: id, Name: nameOrID})
	switch {
	case err != nil:
		return "", err
	case len(rows) == 0:
		return "", &problem.Error{Kind: problem.NotFound, Detail: fmt.Sprintf("No bot has the name or id %q.", nameOrID)}
	case len(rows) > 1 && rows[0].ID != id:
		return "", &problem.Error{Kind: problem.Conflict, Detail: fmt.Sprintf("Several bots have the name %q. Use the id.", nameOrID)}
	}
	return rows[0].ID, nil
}

// Change is what is to become of a bot.
type Change struct {
	NotifyChange
	// IsActive, if not nil, suspends the bot or ends its suspension.
	IsActive *bool
	// SuspendedReason, if not nil, is why: the bot's developers see it.
	SuspendedReason *string
}

// maxReasonLength bounds what an operator says about a suspension, in characters.
const maxReasonLength = 200

func (c *Change) check(rules webhook.URLRules, faults *problem.Faults) {
	c.NotifyChange.check(rules, faults)
	if c.SuspendedReason == nil {
		return
	}
	faults.Check(webhook.CheckName("suspendedReason", *c.SuspendedReason, maxReasonLength))
	if c.IsActive == nil || *c.IsActive {
		faults.Add("suspendedReason", "requires isActive: false")
	}
}

// Update changes a bot.
func (s *Service) Update(ctx context.Context, id string, change Change) (Bot, error) {
	faults := &problem.Faults{}
	if change.check(s.URLRules, faults); faults.Any() {
		return Bot{}, problem.Of(faults.Err())
	}
	if !webhook.ValidID(id) {
		return Bot{}, problem.ErrNotFound
	}
	id = webhook.CanonicalID(id)
	var made *string
	var row db.Bot
	err := audit.Tx(ctx, s.Pool, s.Log, func(tx pgx.Tx, note func(audit.Change) error) (err error) {
		q := db.New()
		if err := q.LockBot(ctx, tx, id); err != nil {
			return err
		}
		if row, err = q.GetBot(ctx, tx, id); err != nil {
			return problem.OrNotFound(err)
		}
		before := row
		if row, made, err = change.of(row, s.Keyset); err != nil {
			return err
		}
		row, err = q.SetNotify(ctx, tx, db.SetNotifyParams{ID: id, NotifyURL: row.NotifyURL, NotifySecret: row.NotifySecret})
		if err != nil {
			return err
		}
		if change.IsActive != nil {
			if row, err = setActive(ctx, tx, row, *change.IsActive, change.SuspendedReason); err != nil {
				return err
			}
		}
		return noteUpdate(note, before, row)
	})
	if err != nil {
		return Bot{}, problem.Of(err)
	}
	return s.bot(row, made), nil
}

// setActive suspends a bot or ends its suspension. What is planned for a suspended bot is removed, as it is for a disabled
// webhook: what it misses can be recovered afterwards. The bot is locked.
func setActive(ctx context.Context, tx pgx.Tx, before db.Bot, active bool, reason *string) (row db.Bot, err error) {
	q := db.New()
	if active {
		row, err = q.ReactivateBot(ctx, tx, before.ID)
	} else {
		row, err = q.SuspendBot(ctx, tx, db.SuspendBotParams{ID: before.ID, Reason: reason})
	}
	if err != nil || before.IsActive == active {
		return row, err
	}
	ids, err := lockWebhooks(ctx, tx, before.ID)
	if err != nil {
		return row, err
	}
	if active {
		// Until now they were answered that the bot is suspended; they do not come back with it. Links do, for the minutes that
		// they last.
		if err := q.EndPortalSessions(ctx, tx, before.ID); err != nil {
			return row, err
		}
		return row, q.ResumeWebhooks(ctx, tx, before.ID)
	}
	if err := q.SuspendWebhooks(ctx, tx, before.ID); err != nil {
		return row, err
	}
	return row, history.SuspendWebhooks(ctx, tx, ids)
}

// lockWebhooks locks the webhooks of a bot that is locked: no attempt is recorded and none is planned meanwhile.
func lockWebhooks(ctx context.Context, tx pgx.Tx, botID string) ([]uuid.UUID, error) {
	ids, err := db.New().WebhooksOfBot(ctx, tx, botID)
	if err != nil {
		return nil, err
	}
	return ids, db.New().LockWebhooks(ctx, tx, db.LockWebhooksParams{Exclusive: ids})
}

// Delete deletes a bot with its webhooks and all that is kept of them. Workers remove the deliveries, which nobody can read
// any more. Its entries of the audit log stay.
func (s *Service) Delete(ctx context.Context, id string) error {
	if !webhook.ValidID(id) {
		return problem.ErrNotFound
	}
	id = webhook.CanonicalID(id)
	return audit.Tx(ctx, s.Pool, s.Log, func(tx pgx.Tx, note func(audit.Change) error) error {
		q := db.New()
		if err := q.LockBot(ctx, tx, id); err != nil {
			return err
		}
		row, err := q.GetBot(ctx, tx, id)
		if err != nil {
			return problem.OrNotFound(err)
		}
		ids, err := lockWebhooks(ctx, tx, id)
		if err != nil {
			return err
		}
		if err := q.ClearAllQueues(ctx, tx, ids); err != nil {
			return err
		}
		if err := q.LeaveHistory(ctx, tx, ids); err != nil {
			return err
		}
		if _, err := q.DeleteBot(ctx, tx, id); err != nil {
			return err
		}
		before := auditFields(row)
		before["webhooks"] = len(ids)
		return note(audit.Change{Action: audit.BotDeleted, BotID: id, Before: before})
	})
}

// Of is a row as the operator sees it.
func (s *Service) Of(row db.Bot) Bot { return s.bot(row, nil) }

// bot is the same. made is a secret that had to be made. What does not open hides no bot, in a list least of all.
func (s *Service) bot(row db.Bot, made *string) Bot {
	bot := Bot{
		ID: row.ID, Name: row.Name, IsActive: row.IsActive, CreatedAt: row.CreatedAt,
		SuspendedAt: row.SuspendedAt, SuspendedReason: row.SuspendedReason, NotifySecret: made,
	}
	if row.NotifyURL != nil && s.Keyset != nil {
		url, err := s.Keyset.OpenNotifyURL(row.ID, row.NotifyURL)
		if bot.Unreadable = err != nil; err == nil {
			bot.NotifyURL = &url
		}
	}
	return bot
}
