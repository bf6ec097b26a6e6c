package worker

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/telemetry/measure"
)

const (
	// backlogAge is how old a count may be that a gauge shows: each costs Temporal or Postgres a look at many rows.
	backlogAge = 30 * time.Second
	// backlogTimeout bounds what a scrape waits for it.
	backlogTimeout = 2 * time.Second
)

// waitingRetries are the RetryDelivery workflows that have not ended.
const waitingRetries = "WorkflowType = 'RetryDelivery' AND ExecutionStatus = 'Running'"

// MeasureBacklog measures on m what waits in the whole installation: every worker shows the same. What cannot be counted
// is left out. A nil m measures nothing.
func MeasureBacklog(m metric.Meter, c client.Client, pool *pgxpool.Pool, log *slog.Logger) {
	if m == nil {
		return
	}
	retries := measure.Gauge(m, "mathub_retries_waiting", "Deliveries that wait to be attempted again, in the whole installation; at most 30 s old.")
	webhooks := measure.Gauge(m, "mathub_webhooks", "Webhooks by state, active or disabled, in the whole installation; at most 30 s old.")
	active, disabled := measure.With(attribute.String("state", "active")), measure.With(attribute.String("state", "disabled"))
	waiting := &count[int64]{log: log, what: "waiting retries", read: func(ctx context.Context) (int64, error) {
		answer, err := c.CountWorkflow(ctx, &workflowservice.CountWorkflowExecutionsRequest{Query: waitingRetries})
		return answer.GetCount(), err
	}}
	states := &count[db.WebhookStatesRow]{log: log, what: "webhooks", read: func(ctx context.Context) (db.WebhookStatesRow, error) {
		return db.New().WebhookStates(ctx, pool)
	}}
	measure.Observe(m, func(ctx context.Context, o metric.Observer) {
		if n, ok := waiting.get(ctx); ok {
			o.ObserveInt64(retries, n)
		}
		if s, ok := states.get(ctx); ok {
			o.ObserveInt64(webhooks, s.Active, active)
			o.ObserveInt64(webhooks, s.Disabled, disabled)
		}
	}, retries, webhooks)
}

// count keeps what was read for backlogAge, also that it could not be read.
type count[T any] struct {
	read func(context.Context) (T, error)
	log  *slog.Logger
	what string

	mu    sync.Mutex
	at    time.Time
	value T
	ok    bool
}

func (c *count[T]) get(ctx context.Context) (T, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.at.IsZero() || time.Since(c.at) > backlogAge {
		ctx, cancel := context.WithTimeout(ctx, backlogTimeout)
		defer cancel()
		value, err := c.read(ctx)
		if err != nil {
			c.log.Warn("a gauge is missing", "of", c.what, "error", err)
		}
		c.value, c.ok, c.at = value, err == nil, time.Now()
	}
	return c.value, c.ok
}
