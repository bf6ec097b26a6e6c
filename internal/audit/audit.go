// Package audit keeps who changed what: each change is written in the transaction that makes it, and logged once that is
// committed.
package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mathub/webhooks/db"
)

// Kind is what an actor is.
type Kind string

// The kinds.
const (
	Key      Kind = "key"      // a key of the bot, over the bot API
	Portal   Kind = "portal"   // who is signed in to the portal
	Service  Kind = "service"  // the service token
	Operator Kind = "operator" // who runs the command line, on the operator's side
	System   Kind = "system"   // the product itself, as when failures disable a webhook
)

// Actor is who makes a change.
type Actor struct {
	Kind Kind
	// ID is the key's, or the portal session's.
	ID string
	// Name is who stands behind it: the key's name or beginning, the session's label or what opened it, the operator's user, or
	// whom a trusted proxy names.
	Name string
	// KeyID and LinkID are what opened a portal session: a key, a link, or a link that a key made; else uuid.Nil.
	KeyID, LinkID uuid.UUID
	// Client is the address that the request came from, and Request the request's id; empty where there was none.
	Client, Request string
}

type actorKey struct{}

// As returns a context whose changes are made by the actor, and of which db.HasCommitted knows.
func As(ctx context.Context, a Actor) context.Context {
	return db.TrackCommits(context.WithValue(ctx, actorKey{}, a))
}

// By is who makes changes in a context; the product itself where it does not say.
func By(ctx context.Context) Actor {
	if a, ok := ctx.Value(actorKey{}).(Actor); ok {
		return a
	}
	return Actor{Kind: System}
}

// Action is what was done, as noun.verb.
type Action string

// The actions.
const (
	WebhookCreated    Action = "webhook.created"
	WebhookUpdated    Action = "webhook.updated"
	WebhookEnabled    Action = "webhook.enabled" // and what else the same call changed
	WebhookDisabled   Action = "webhook.disabled"
	WebhookDeleted    Action = "webhook.deleted"
	RecoveryStarted   Action = "recovery.started"
	RecoveryCancelled Action = "recovery.cancelled"
	IncidentStarted   Action = "incident.started" // of no bot, as what follows
	IncidentPaused    Action = "incident.paused"
	IncidentResumed   Action = "incident.resumed"
	IncidentCancelled Action = "incident.cancelled"
	BotCreated        Action = "bot.created"
	BotUpdated        Action = "bot.updated"
	BotSuspended      Action = "bot.suspended"
	BotReactivated    Action = "bot.reactivated"
	BotDeleted        Action = "bot.deleted"
	KeyCreated        Action = "key.created"
	KeyRevoked        Action = "key.revoked"
	RetriesRequested  Action = "retries.requested" // what waited was made due
	LinkCreated       Action = "portal_link.created"
	SessionStarted    Action = "portal_session.started"
	SessionEnded      Action = "portal_session.ended"
	DeliveriesPaused  Action = "deliveries.paused" // all, a bot's or a host's
	DeliveriesResumed Action = "deliveries.resumed"
	FuseReset         Action = "fuse.reset"
)

// Fields are the fields of a thing that a change is about, by their names in the API. None holds a secret: of a URL, which may
// hold a token, there is the origin.
type Fields map[string]any

// Change is one change.
type Change struct {
	Action Action
	BotID  string
	// Subject is the id of what was changed: of a webhook, a recovery's webhook, an incident, a key, a portal link or a portal
	// session; empty where that is the bot.
	Subject string
	// Actor made it; nil: the context's did.
	Actor *Actor
	// Before and After have the fields that differ. Of what was created there is no Before, of what was deleted no After.
	Before, After Fields
}

// Between is a change from one state to another, with the fields that differ; nothing, where none does. A field that one of
// them has not is null there.
func (c Change) Between(before, after Fields) (changed Change, something bool) {
	c.Before, c.After = Fields{}, Fields{}
	for _, side := range []Fields{before, after} {
		for name := range side {
			if was, is := before[name], after[name]; !reflect.DeepEqual(was, is) {
				c.Before[name], c.After[name] = was, is
			}
		}
	}
	return c, len(c.After) > 0
}

func (c Change) by(ctx context.Context) Actor {
	if c.Actor != nil {
		return *c.Actor
	}
	return By(ctx)
}

// Write writes changes in the transaction that makes them.
func Write(ctx context.Context, tx pgx.Tx, changes ...Change) error {
	for _, c := range changes {
		by := c.by(ctx)
		before, err := encode(c.Before)
		if err != nil {
			return err
		}
		after, err := encode(c.After)
		if err != nil {
			return err
		}
		if err := db.New().WriteAudit(ctx, tx, db.WriteAuditParams{
			ID: uuid.Must(uuid.NewV7()), BotID: c.BotID, Action: string(c.Action), Subject: c.Subject, Before: before, After: after,
			ActorKind: string(by.Kind), ActorID: by.ID, ActorName: by.Name, ActorKeyID: db.IDOrNull(by.KeyID), ActorLinkID: db.IDOrNull(by.LinkID), Client: by.Client, Request: by.Request,
		}); err != nil {
			return fmt.Errorf("write the audit log: %w", err)
		}
	}
	return nil
}

func encode(f Fields) ([]byte, error) {
	if f == nil {
		return nil, nil
	}
	return json.Marshal(f)
}

// Record writes and logs a change that was made already, or by another transaction.
func Record(ctx context.Context, pool *pgxpool.Pool, log *slog.Logger, c Change) error {
	return Tx(ctx, pool, log, func(_ pgx.Tx, note func(Change) error) error { return note(c) })
}

// Tx runs f in a transaction, and logs the changes that f notes once they are committed.
func Tx(ctx context.Context, pool *pgxpool.Pool, log *slog.Logger, f func(tx pgx.Tx, note func(Change) error) error) error {
	var noted []Change
	err := db.WithTx(ctx, pool, func(tx pgx.Tx) error {
		return f(tx, func(c Change) error {
			noted = append(noted, c)
			return Write(ctx, tx, c)
		})
	})
	if err != nil {
		return err
	}
	trim(ctx, pool, noted)
	if log == nil {
		return nil
	}
	for _, c := range noted {
		by := c.by(ctx)
		log.InfoContext(ctx, string(c.Action), "bot", c.BotID, "subject", c.Subject, "before", c.Before, "after", c.After,
			"by", by.Kind, "actor", by.ID, "name", by.Name, "request", by.Request, "client", by.Client)
	}
	return nil
}

const (
	// MaxKept is how many entries are kept of what a bot's keys, sessions and webhooks did: a bot fills no disk by changes. What
	// operators did is kept beside it.
	MaxKept = 10_000
	// trimTimeout bounds what a change waits for the removal of entries; the next one removes what is left.
	trimTimeout = time.Second
)

// trim removes the entries that changes of a bot's own are too many by. They are committed, whatever comes of it.
func trim(ctx context.Context, pool *pgxpool.Pool, noted []Change) {
	ctx, cancel := context.WithTimeout(ctx, trimTimeout)
	defer cancel()
	for _, c := range noted {
		if kind := c.by(ctx).Kind; kind == Key || kind == Portal {
			_ = db.New().TrimAudit(ctx, pool, db.TrimAuditParams{BotID: c.BotID, Kept: MaxKept})
		}
	}
}
