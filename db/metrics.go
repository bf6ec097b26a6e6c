package db

import (
	"context"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/mathub/webhooks/internal/telemetry/instrument"
)

// Measure measures the pool on m, for as long as the process runs.
func Measure(m metric.Meter, pool *pgxpool.Pool) {
	connections := instrument.Gauge(m, "mathub_db_connections", "Connections to Postgres, by state: acquired (in use), idle or constructing.")
	limit := instrument.Gauge(m, "mathub_db_connections_limit", "The most connections that the process opens.")
	acquired := instrument.CounterRead(m, "mathub_db_acquires", "Connections taken from the pool.")
	waits := instrument.CounterRead(m, "mathub_db_acquire_waits", "Connections that had to be waited for, because none was idle.")
	waited := instrument.SecondsRead(m, "mathub_db_acquire_wait", "Total wait for connections.")
	inUse, idle, opening := instrument.With(attribute.String("state", "acquired")), instrument.With(attribute.String("state", "idle")), instrument.With(attribute.String("state", "constructing"))
	instrument.Observe(m, func(_ context.Context, o metric.Observer) {
		s := pool.Stat()
		o.ObserveInt64(connections, int64(s.AcquiredConns()), inUse)
		o.ObserveInt64(connections, int64(s.IdleConns()), idle)
		o.ObserveInt64(connections, int64(s.ConstructingConns()), opening)
		o.ObserveInt64(limit, int64(s.MaxConns()))
		o.ObserveInt64(acquired, s.AcquireCount())
		o.ObserveInt64(waits, s.EmptyAcquireCount())
		o.ObserveFloat64(waited, s.EmptyAcquireWaitTime().Seconds())
	}, connections, limit, acquired, waits, waited)
}
