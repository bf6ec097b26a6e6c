// Package outbox is a transactional outbox: a backend stores its events in the transaction that makes them true, and a
// [Relay] emits them once that is committed. So an event is emitted if and only if its transaction was committed,
// whatever crashes.
//
// Rows are emitted at least once and accepted once, by their id. See docs/emitting.md for how to use it.
package outbox

import (
	"context"
	_ "embed" // for Schema
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/mathub/webhooks/webhook"
)

// Schema is the SQL of the outbox table, for the backend's own migrations. It can be run again.
//
//go:embed outbox.sql
var Schema string

// DB is what Insert writes through: a pgx transaction, usually.
type DB interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

var _ DB = pgx.Tx(nil)

// Insert stores an event, such as one of emit.New, to be emitted once tx is committed. The error is a
// *webhook.InvalidError where e is at fault, so that no such row waits for an operator.
func Insert(ctx context.Context, tx DB, e webhook.Event) error {
	if err := e.Validate(); err != nil {
		return err
	}
	e = e.Complete(time.Now())
	_, err := tx.Exec(ctx, "INSERT INTO mathub_outbox (id, event, data, bot_ids, occurred_at) VALUES ($1, $2, $3, $4, $5::text::timestamptz)",
		e.ID, string(e.Type), string(e.Data), e.BotIDs, e.Timestamp)
	if err != nil {
		return fmt.Errorf("outbox: %w", err)
	}
	return nil
}
