package history

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/audit"
	"github.com/mathub/webhooks/internal/problem"
	"github.com/mathub/webhooks/webhook"
)

// A pause is an operator's: of all deliveries, of those of a bot, or of those to a host. No attempt is made at a webhook that
// one covers, whatever asks for it. What is to be sent waits in the webhook's queue: nothing counts, nothing is removed, and the
// retry schedule stands. The table pauses is the only place that says so, and its function pauses_of the only rule. So each who
// is about to send reads it: AddressEvents, GetTarget and QueueState. Nobody wakes the queue of a webhook that is paused; the
// sweep does so when the pause is over.

// PauseScope is what a pause covers.
type PauseScope string

// The scopes.
const (
	PauseAll  PauseScope = "all"
	PauseBot  PauseScope = "bot"
	PauseHost PauseScope = "host"
)

const (
	// maxReason bounds a pause's reason, in characters.
	maxReason = 200
	// keptAfterPause is for how long after a pause what has waited in the queues is kept beyond the retention.
	keptAfterPause = 24 * time.Hour
)

// Pause is one that lasts.
type Pause struct {
	Scope PauseScope `json:"scope"`
	// Value is the bot's id, or the host; empty: all.
	Value  string `json:"value,omitempty"`
	Reason string `json:"reason"`
	// By is who made it, or gave it its reason later; empty: that is not known.
	By    string    `json:"by,omitempty"`
	Since time.Time `json:"since"`
}

// Of says what it covers, such as "deliveries to host example.com".
func (p Pause) Of() string {
	switch p.Scope {
	case PauseBot:
		return "deliveries of bot " + p.Value
	case PauseHost:
		return "deliveries to host " + p.Value
	}
	return "all deliveries"
}

// Pauses are the pauses that there are. Log has a line for each change; nil: none.
type Pauses struct {
	Pool *pgxpool.Pool
	Log  *slog.Logger
}

// List returns so many of the pauses that last: all, bots, hosts, each by value. after is where the list goes on, as next was;
// "": from the first, and to the last.
func (s *Pauses) List(ctx context.Context, after string, most int) (list []Pause, next string, err error) {
	scope, value, ok := strings.Cut(after, pauseSeparator)
	if after != "" && !ok {
		return nil, "", webhook.Invalid("after", "must be as the Link of the page before has it")
	}
	rows, err := db.New().ListPauses(ctx, s.Pool, db.ListPausesParams{AfterScope: scope, AfterValue: value, Most: int32(most) + 1})
	if len(rows) > most {
		rows = rows[:most]
		next = rows[most-1].Scope + pauseSeparator + rows[most-1].Value
	}
	return pausesOf(rows), next, err
}

// pauseSeparator stands between a pause's scope and value where a list goes on.
const pauseSeparator = ":"

func pausesOf(rows []db.Pause) []Pause {
	list := make([]Pause, len(rows))
	for i, row := range rows {
		list[i] = pauseOf(row)
	}
	return list
}

func pauseOf(row db.Pause) Pause {
	return Pause{Scope: PauseScope(row.Scope), Value: row.Value, Reason: row.Reason, By: row.CreatedBy, Since: row.CreatedAt}
}

// Covering returns, of some webhooks, those that are paused, each with the pause that has covered it the longest.
func (s *Pauses) Covering(ctx context.Context, webhookIDs []uuid.UUID) (map[uuid.UUID]Pause, error) {
	rows, err := db.New().PausedWebhooks(ctx, s.Pool, webhookIDs)
	paused := make(map[uuid.UUID]Pause, len(rows))
	for _, row := range rows {
		paused[row.ID] = Pause{Scope: PauseScope(row.Scope), Value: row.Value, Reason: row.Reason, By: row.CreatedBy, Since: row.CreatedAt}
	}
	return paused, err
}

// OfBot returns the pauses that cover any of a bot's webhooks, oldest first.
func (s *Pauses) OfBot(ctx context.Context, botID string) ([]Pause, error) {
	rows, err := db.New().PausesOfBot(ctx, s.Pool, botID)
	return pausesOf(rows), err
}

// Begin begins a pause, or gives the one that there is another reason. A bot that does not exist is not found.
func (s *Pauses) Begin(ctx context.Context, scope PauseScope, value, reason string) (p Pause, err error) {
	faults := &problem.Faults{}
	value = checkScope(scope, value, faults)
	reason = strings.TrimSpace(reason)
	if reason == "" {
		faults.Add("reason", "is required: the owners of the webhooks read it")
	} else {
		faults.Check(webhook.CheckName("reason", reason, maxReason))
	}
	if err := faults.Err(); err != nil {
		return p, err
	}
	err = audit.Tx(ctx, s.Pool, s.Log, func(tx pgx.Tx, note func(audit.Change) error) error {
		before, err := db.New().GetPause(ctx, tx, db.GetPauseParams{Scope: string(scope), Value: value})
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		by := audit.By(ctx)
		row, err := db.New().SetPause(ctx, tx, db.SetPauseParams{Scope: string(scope), Value: value, Reason: reason, CreatedBy: cmp.Or(by.Name, string(by.Kind))})
		if db.IsForeignKeyViolation(err) {
			return &problem.Error{Kind: problem.NotFound, Detail: "No bot has this id."}
		}
		if err != nil {
			return err
		}
		p = pauseOf(row)
		change := pauseChange(p)
		change.Action, change.After = audit.DeliveriesPaused, pauseFields(p)
		if before.Scope != "" {
			if before.Reason == reason {
				return nil
			}
			change.Before = pauseFields(pauseOf(before))
		}
		return note(change)
	})
	return p, err
}

// End ends a pause: the next sweep, which comes within seconds, wakes the queues.
func (s *Pauses) End(ctx context.Context, scope PauseScope, value string) error {
	faults := &problem.Faults{}
	value = checkScope(scope, value, faults)
	if err := faults.Err(); err != nil {
		return err
	}
	return audit.Tx(ctx, s.Pool, s.Log, func(tx pgx.Tx, note func(audit.Change) error) error {
		q := db.New()
		row, err := q.EndPause(ctx, tx, db.EndPauseParams{Scope: string(scope), Value: value})
		if err != nil {
			return problem.OrNotFound(err)
		}
		if err := q.SweepSoon(ctx, tx); err != nil {
			return err
		}
		p := pauseOf(row)
		change := pauseChange(p)
		change.Action, change.Before = audit.DeliveriesResumed, pauseFields(p)
		return note(change)
	})
}

// KeepQueued says whether what stands in the queues is kept, and attempted, beyond the retention: it had to wait for a pause,
// which lasts or has ended in the last 24 h.
func (s *Pauses) KeepQueued(ctx context.Context) (bool, error) {
	return db.New().KeepsQueued(ctx, s.Pool, keptAfterPause.Seconds())
}

// checkScope returns the value as it is stored.
func checkScope(scope PauseScope, value string, faults *problem.Faults) string {
	switch scope {
	case PauseAll:
		if value != "" {
			faults.Add("value", "must be empty for the scope all")
		}
	case PauseBot:
		if !webhook.ValidID(value) {
			faults.Add("value", "must be the id of a bot")
		}
		return webhook.CanonicalID(value)
	case PauseHost:
		host, ok := webhook.CanonicalHost(value)
		switch bare, isHost := webhook.CanonicalHost(webhook.Hostname(value)); {
		case ok:
		case isHost:
			faults.Add("value", "must not have a port: a pause covers all ports of "+bare)
		default:
			faults.Add("value", "must be a host name or an IP address, without a port")
		}
		return host
	default:
		faults.Add("scope", "must be all, bot or host")
	}
	return ""
}

// pauseChange is what the audit log says a pause is about. Of a bot's pause, its owner reads it too.
func pauseChange(p Pause) audit.Change {
	if p.Scope == PauseBot {
		return audit.Change{BotID: p.Value}
	}
	return audit.Change{Subject: p.Value}
}

func pauseFields(p Pause) audit.Fields {
	return audit.Fields{"scope": p.Scope, "value": p.Value, "reason": p.Reason, "since": webhook.FormatTime(p.Since)}
}
