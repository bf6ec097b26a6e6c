package db

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/otel/metric"

	"github.com/mathub/webhooks/internal/sleep"
	"github.com/mathub/webhooks/internal/telemetry/instrument"
)

const (
	// clockFresh is how long a reading of Postgres's clock is used.
	clockFresh = 10 * time.Second
	// clockTimeout bounds a reading, and so how wrong it may be.
	clockTimeout = time.Second
	// clocksApart is by how much two clocks differ that nobody synchronizes.
	clocksApart = 30 * time.Second
	// clocksInDoubt is half of what receivers allow a signed time to be off (Standard Webhooks: five minutes). If this machine's clock and
	// Postgres's differ by more, nobody here knows which of them receivers would agree with.
	clocksInDoubt = 150 * time.Second
)

// ReadClock reads Postgres's clock.
func ReadClock(ctx context.Context, q DBTX) (now time.Time, err error) {
	err = q.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&now)
	return now, err
}

// Earlier is the earlier of a time by Postgres's clock, read just now, and this machine's. What is expired by that may be removed for
// good: where one of the clocks is wrong, nobody here knows which.
func Earlier(postgres time.Time) time.Time {
	if own := time.Now(); own.Before(postgres) {
		return own
	}
	return postgres
}

// Clock tells the time by Postgres's clock, which all processes share, as this machine's may be wrong. Between two readings it
// counts by the monotonic clock, so that nobody who sets the machine's clock changes it. A nil one, and one that was not read yet, tells the
// machine's time. It is safe for concurrent use.
type Clock struct {
	pool    *pgxpool.Pool
	log     *slog.Logger
	own     func() time.Time // this machine's
	last    atomic.Pointer[clockReading]
	isApart bool // and that was logged; of Run
}

// clockReading is what the two clocks showed at one moment.
type clockReading struct{ own, postgres time.Time }

// NewClock returns a clock that Run keeps. A nil meter measures nothing.
func NewClock(pool *pgxpool.Pool, log *slog.Logger, m metric.Meter) *Clock {
	return newClock(pool, log, m, time.Now)
}

func newClock(pool *pgxpool.Pool, log *slog.Logger, m metric.Meter, own func() time.Time) *Clock {
	c := &Clock{pool: pool, log: log, own: own}
	if m != nil {
		offset := instrument.GaugeSeconds(m, "mathub_clock_offset", "By how many seconds Postgres's clock is ahead of this machine's.")
		instrument.Observe(m, func(_ context.Context, o metric.Observer) { o.ObserveFloat64(offset, c.Offset().Seconds()) }, offset)
	}
	return c
}

// Now is the time by Postgres's clock.
func (c *Clock) Now() time.Time {
	if c == nil {
		return time.Now()
	}
	return c.at(c.own())
}

// At is what Postgres's clock showed when this machine's showed a time, since the process began.
func (c *Clock) At(own time.Time) time.Time {
	if c == nil {
		return own
	}
	return c.at(own)
}

func (c *Clock) at(own time.Time) time.Time {
	last := c.last.Load()
	if last == nil {
		return own
	}
	return last.postgres.Add(own.Sub(last.own))
}

// Offset is by how much Postgres's clock is ahead of this machine's.
func (c *Clock) Offset() time.Duration {
	if c == nil {
		return 0
	}
	own := c.own()
	return c.at(own).Round(0).Sub(own.Round(0)) // Round: by the clocks that can be set
}

// InDoubt says that the two clocks differ by so much that receivers may not agree with the one that deliveries are signed by.
func (c *Clock) InDoubt() bool { return c.Offset().Abs() > clocksInDoubt }

// Read reads Postgres's clock now.
func (c *Clock) Read(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, clockTimeout)
	defer cancel()
	began := c.own()
	now, err := ReadClock(ctx, c.pool)
	if err == nil {
		c.last.Store(&clockReading{own: began.Add(c.own().Sub(began) / 2), postgres: now})
	}
	return err
}

// Run reads Postgres's clock time and again, until ctx ends. What cannot be read leaves the last reading in use.
func (c *Clock) Run(ctx context.Context) {
	for sleep.For(ctx, time.Second) {
		if !c.isOld() || c.Read(ctx) != nil {
			continue
		}
		offset := c.Offset()
		switch apart := offset.Abs() > clocksApart; {
		case apart && !c.isApart:
			c.log.Warn("this machine's clock and Postgres's differ; deliveries are signed by Postgres's; synchronize both with NTP", "ahead", offset.Round(time.Second))
		case !apart && c.isApart:
			c.log.Info("this machine's clock and Postgres's agree again")
		default:
			continue
		}
		c.isApart = !c.isApart
	}
}

// isOld says that the clock has to be read again: it is time, or the machine slept, as its two clocks tell.
func (c *Clock) isOld() bool {
	last, own := c.last.Load(), c.own()
	if last == nil {
		return true
	}
	elapsed := own.Sub(last.own)
	return elapsed > clockFresh || (own.Round(0).Sub(last.own.Round(0))-elapsed).Abs() > time.Second
}
