package db

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// writeInterval is how often a WriteCheck writes at most: anyone may ask whether the service is ready.
const writeInterval = time.Second

// WriteCheck finds out whether Postgres takes writes. Safe for concurrent use.
type WriteCheck struct {
	pool *pgxpool.Pool

	turn chan struct{} // holds one while nobody checks; whoever has it owns what follows
	last time.Time
	err  error
}

// NewWriteCheck returns a check of pool's database.
func NewWriteCheck(pool *pgxpool.Pool) *WriteCheck {
	c := &WriteCheck{pool: pool, turn: make(chan struct{}, 1)}
	c.turn <- struct{}{}
	return c
}

// Check commits a few bytes to the log of the database, in no table, and so waits for what every write waits for: a disk, a
// synchronous standby. Within a second it answers what it found before.
func (c *WriteCheck) Check(ctx context.Context) error {
	select {
	case <-c.turn:
		defer func() { c.turn <- struct{}{} }()
	case <-ctx.Done():
		return fmt.Errorf("a write did not end in time: %w", ctx.Err())
	}
	if time.Since(c.last) < writeInterval {
		return c.err
	}
	err := CheckWrites(ctx, c.pool)
	if ctx.Err() == nil { // else who asked did not wait
		c.last, c.err = time.Now(), err
	}
	return err
}

// CheckWrites is WriteCheck's check, made once and now.
func CheckWrites(ctx context.Context, pool *pgxpool.Pool) error {
	var readOnly bool
	err := pool.QueryRow(ctx, "SELECT current_setting('transaction_read_only')::boolean").Scan(&readOnly)
	if err == nil && readOnly {
		pool.Reset() // the next connection is made to one that can be written to
		return ErrReadOnly
	}
	if err == nil {
		_, err = pool.Exec(ctx, "SELECT pg_logical_emit_message(true, 'mathub-webhooks', 'ready')")
	}
	return err
}
