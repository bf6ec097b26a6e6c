package linearizable_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/db/dbtest"
	"github.com/mathub/webhooks/internal/bots"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/internal/problem"
	"github.com/mathub/webhooks/internal/subscriptions"
	"github.com/mathub/webhooks/webhook"
)

// product is what does the operations: the real services on a database, and two recorders, as two workers have them.
type product struct {
	pool          *pgxpool.Pool
	keyset        *db.Keyset
	subscriptions *subscriptions.Service
	bots          *bots.Service
	queue         *history.Queue
	recorders     [2]*history.Recorder
}

func newProduct(t *testing.T) *product {
	t.Helper()
	text, err := db.NewKeyset()
	require.NoError(t, err)
	keyset, err := db.ParseKeyset(text)
	require.NoError(t, err)
	pool, log := dbtest.New(t), slog.New(slog.DiscardHandler)
	p := &product{
		pool: pool, keyset: keyset,
		subscriptions: &subscriptions.Service{Pool: pool, Keyset: keyset, Logger: log},
		bots:          &bots.Service{Pool: pool, Keyset: keyset},
		queue:         &history.Queue{Pool: pool, Log: log},
	}
	for i := range p.recorders {
		p.recorders[i] = history.NewRecorder(pool, log, nil, func(history.Webhook) {})
		t.Cleanup(func() { p.recorders[i].Close(context.Background()) })
	}
	return p
}

// subject is a webhook, of a bot of its own, that a schedule is about.
type subject struct {
	id  uuid.UUID
	bot string
}

// add adds the subjects of schedules, each as its schedule says.
func (p *product) add(ctx context.Context, all []*schedule) error {
	bots, webhooks := make([][]any, len(all)), make([][]any, len(all))
	for i, s := range all {
		url, err := p.keyset.SealURL(s.id, s.first.URL)
		if err != nil {
			return err
		}
		bots[i] = []any{s.bot, "bot"}
		webhooks[i] = []any{
			s.id, s.bot, url, webhook.OriginOf(s.first.URL), strings.Split(s.first.Events, " "),
			s.first.Queued, s.first.Count, s.first.Early, s.first.Generation, s.first.Run,
		}
	}
	if _, err := p.pool.CopyFrom(ctx, pgx.Identifier{"bots"}, []string{"id", "name"}, pgx.CopyFromRows(bots)); err != nil {
		return err
	}
	_, err := p.pool.CopyFrom(ctx, pgx.Identifier{"webhooks"},
		[]string{"id", "bot_id", "url", "origin", "events", "queued", "failure_count", "early_failures", "generation", "failure_run"}, pgx.CopyFromRows(webhooks))
	return err
}

// clear removes all that schedules left.
func (p *product) clear(ctx context.Context) error {
	_, err := p.pool.Exec(ctx, "TRUNCATE bots, deliveries, queue, audit_log CASCADE")
	return err
}

// do does one operation. An error is one that no operation may meet.
func (p *product) do(ctx context.Context, on subject, op operation, recorder int) (out result, err error) {
	switch op.Kind {
	case get:
		w, err := p.subscriptions.Get(ctx, on.bot, on.id)
		return p.shown(w, err)
	case prepare:
		return p.prepare(ctx, on)
	case record:
		out.Recorded, err = p.recorders[recorder].Record(ctx, op.Attempt.of(on.id))
		return out, err
	case update:
		w, err := p.update(ctx, on, op.Change)
		return p.shown(w, err)
	case remove:
		return found(p.subscriptions.Delete(ctx, db.Webhook{ID: on.id, BotID: on.bot}))
	case suspend, resume:
		active := op.Kind == resume
		_, err := p.bots.Update(ctx, on.bot, bots.Change{IsActive: &active})
		return found(err)
	case recoverMissed:
		return p.recover(ctx, on)
	case cancelRecovery:
		return found(p.subscriptions.CancelRecovery(ctx, db.Webhook{ID: on.id, BotID: on.bot}))
	}
	panic(op.Kind)
}

func found(err error) (result, error) {
	if isNotFound(err) {
		return result{}, nil
	}
	return result{Found: true}, err
}

func isNotFound(err error) bool {
	return errors.Is(err, problem.ErrNotFound)
}

func (p *product) prepare(ctx context.Context, on subject) (result, error) {
	t, err := db.New().GetTarget(ctx, p.pool, db.GetTargetParams{ID: on.id, EventType: string(webhook.PostCreated)})
	if errors.Is(err, pgx.ErrNoRows) {
		return result{}, nil
	}
	return result{Found: true, View: view{
		Active: t.IsActive, Suspended: t.Suspended, Queued: t.Queued,
		Count: t.FailureCount, Generation: t.Generation, Run: t.FailureRun, URLVersion: t.URLVersion,
	}}, err
}

// of is the attempt as the recorder takes it.
func (a attempt) of(webhookID uuid.UUID) history.Attempt {
	out := history.Attempt{
		DeliveryID: a.Delivery, WebhookID: webhookID, EventID: a.Event, Number: 1, Trigger: webhook.TriggerEvent, Step: 1,
		Generation: a.Generation, FailureRun: a.Run, Success: a.Success, StatusCode: 200, ResponseBody: []byte("ok"),
		Duration: time.Millisecond, StartedAt: time.Now(), Queued: a.InQueue,
	}
	if !a.Success {
		out.StatusCode, out.Error, out.Class = 500, "HTTP 500", "http_5xx"
	}
	if a.Retried {
		out.RetryIn = time.Hour
	}
	return out
}

func (p *product) update(ctx context.Context, on subject, c change) (db.Webhook, error) {
	before := db.Webhook{ID: on.id, BotID: on.bot, Events: strings.Split(allEvents, " ")}
	if c.By == "operator" {
		var note *string
		if c.Note != "" {
			note = &c.Note
		}
		return p.subscriptions.SetActive(ctx, before, c.Enable, note)
	}
	var in subscriptions.Input
	if c.URL != "" {
		in.URL = &c.URL
	}
	if c.Events != "" {
		in.Events = strings.Split(c.Events, " ")
	}
	if c.Secret != "" {
		in.SetSecret, in.Secret = true, &c.Secret
	}
	if c.Enable || c.Disable {
		in.IsActive = &c.Enable
	}
	w, _, err := p.subscriptions.Update(ctx, before, in)
	return w, err
}

func (p *product) recover(ctx context.Context, on subject) (result, error) {
	_, err := p.queue.StartRecovery(ctx, history.Span{WebhookID: on.id, Since: time.Now().Add(-time.Hour), Until: time.Now()})
	var running history.RecoveryRunningError
	switch {
	case err == nil:
		return result{Recovery: "started"}, nil
	case errors.Is(err, pgx.ErrNoRows):
		return result{Recovery: "not found"}, nil
	case errors.Is(err, history.ErrNotServed):
		return result{Recovery: "not served"}, nil
	case errors.As(err, &running):
		return result{Recovery: "running already"}, nil
	}
	return result{}, err
}

// shown is a webhook as the model has it.
func (p *product) shown(w db.Webhook, err error) (result, error) {
	if isNotFound(err) {
		return result{}, nil
	}
	if err != nil {
		return result{}, err
	}
	v := view{
		Active: w.IsActive, Suspended: w.Suspended, Queued: w.Queued,
		Count: w.FailureCount, Early: w.EarlyFailures, Generation: w.Generation, Run: w.FailureRun,
		Events: strings.Join(w.Events, " "), URLVersion: w.URLVersion, DisabledBy: w.DisabledBy.UUID,
	}
	if w.DisabledReason != nil {
		v.Reason = *w.DisabledReason
	}
	if w.DisabledNote != nil {
		v.Note = *w.DisabledNote
	}
	if v.URL, err = p.subscriptions.URL(w); err != nil {
		return result{}, fmt.Errorf("the URL: %w", err)
	}
	if w.Secret != nil {
		v.Secret, err = p.keyset.Open(w.ID, w.Secret)
	}
	return result{Found: true, View: v}, err
}
