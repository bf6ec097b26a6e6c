package worker

import (
	"context"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.temporal.io/sdk/client"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/searchattr"
	"github.com/mathub/webhooks/internal/telemetry/instrument"
	"github.com/mathub/webhooks/workflows"
)

const (
	// backlogAge is how old a count may be that a gauge shows: each costs Temporal or Postgres a look at many rows.
	backlogAge = 30 * time.Second
	// backlogTimeout bounds what a scrape waits for it.
	backlogTimeout = 2 * time.Second
)

// MeasureBacklog measures on m what waits in the whole installation: every worker shows the same. What cannot be counted
// is left out.
func MeasureBacklog(m metric.Meter, pool *pgxpool.Pool, log *slog.Logger) {
	rows := instrument.Gauge(m, "mathub_queue_rows", "Deliveries in webhooks' queues, of the whole installation, counted up to 100,000. At most 30 s old.")
	webhooks := instrument.Gauge(m, "mathub_webhooks", "Webhooks of the whole installation, by state: direct, queued or disabled. At most 30 s old.")
	bots := instrument.Gauge(m, "mathub_bots", "Bots with webhooks, of the whole installation, by state: failing (a webhook of it does, or was disabled by failures within the hour) or healthy. At most 30 s old.")
	fuses := instrument.Gauge(m, "mathub_fuses_blown", "Failure classes whose fuse has blown: they disable no webhook. At most 30 s old.")
	paused := instrument.Gauge(m, "mathub_deliveries_paused", "Pauses of operators, by what they cover: all, bot or host. At most 30 s old.")
	ofAll, ofBots, ofHosts := instrument.With(attribute.String("scope", "all")), instrument.With(attribute.String("scope", "bot")), instrument.With(attribute.String("scope", "host"))
	direct, queued, disabled := instrument.With(attribute.String("state", "direct")), instrument.With(attribute.String("state", "queued")), instrument.With(attribute.String("state", "disabled"))
	failing, healthy := instrument.With(attribute.String("state", "failing")), instrument.With(attribute.String("state", "healthy"))
	states := &count[db.WebhookStatesRow]{log: log, what: "webhooks", read: func(ctx context.Context) (db.WebhookStatesRow, error) {
		return db.New().WebhookStates(ctx, pool)
	}}
	pauses := &count[db.PausesByScopeRow]{log: log, what: "pauses", read: func(ctx context.Context) (db.PausesByScopeRow, error) {
		return db.New().PausesByScope(ctx, pool)
	}}
	instrument.Observe(m, func(ctx context.Context, o metric.Observer) {
		if p, ok := pauses.get(ctx); ok {
			o.ObserveInt64(paused, p.OfAll, ofAll)
			o.ObserveInt64(paused, p.OfBots, ofBots)
			o.ObserveInt64(paused, p.OfHosts, ofHosts)
		}
		if s, ok := states.get(ctx); ok {
			o.ObserveInt64(rows, s.QueueRows)
			o.ObserveInt64(webhooks, s.Direct, direct)
			o.ObserveInt64(webhooks, s.Queued, queued)
			o.ObserveInt64(webhooks, s.Disabled, disabled)
			o.ObserveInt64(bots, s.BotsFailing, failing)
			o.ObserveInt64(bots, s.BotsHealthy, healthy)
			o.ObserveInt64(fuses, s.FusesBlown)
		}
	}, rows, webhooks, bots, fuses, paused)
}

// MeasureStuck measures on m the events whose workflows no worker seems to take.
func MeasureStuck(m metric.Meter, c client.Client, log *slog.Logger) {
	stuck := instrument.Gauge(m, "mathub_events_stuck", "Workflows in the namespace that no worker seems to take: an event's that has run for more than 10 minutes, or one of an unknown type. At most 30 s old.")
	counted := &count[int64]{log: log, what: "stuck events", read: func(ctx context.Context) (int64, error) {
		return searchattr.Stuck(ctx, c, workflows.StuckQuery(time.Now()))
	}}
	instrument.Observe(m, func(ctx context.Context, o metric.Observer) {
		if n, ok := counted.get(ctx); ok {
			o.ObserveInt64(stuck, n)
		}
	}, stuck)
}

// count keeps what was read for backlogAge, also that it could not be read.
type count[T any] struct {
	read func(context.Context) (T, error)
	log  *slog.Logger
	what string

	// Of the scrapes, of which there is one at a time.
	at    time.Time
	value T
	ok    bool
}

// get reads in a goroutine, and waits for it no longer than backlogTimeout: a call to Temporal that makes its SDK's
// instruments waits for the scrape to end.
func (c *count[T]) get(ctx context.Context) (T, bool) {
	if c.at.IsZero() || time.Since(c.at) > backlogAge {
		ctx, cancel := context.WithTimeout(ctx, backlogTimeout)
		defer cancel()
		done := make(chan count[T], 1)
		go func() {
			value, err := c.read(ctx)
			if err != nil {
				c.log.Warn("could not read a gauge", "of", c.what, "error", err)
			}
			done <- count[T]{value: value, ok: err == nil}
		}()
		var read count[T]
		select {
		case read = <-done:
		case <-ctx.Done():
		}
		c.value, c.ok, c.at = read.value, read.ok, time.Now()
	}
	return c.value, c.ok
}
