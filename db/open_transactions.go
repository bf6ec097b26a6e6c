package db

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// An insert takes the table's lock before a seq, so that who holds a seq without being listed has ended. sqlc does not know
// pg_locks.
const deliveryWriters = `
SELECT DISTINCT virtualtransaction
FROM pg_locks
WHERE locktype = 'relation' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND relation = 'deliveries'::regclass AND mode = 'RowExclusiveLock' AND granted`

// DeliveryWriters are the open transactions that write to deliveries.
func (q *Queries) DeliveryWriters(ctx context.Context, db DBTX) ([]string, error) {
	rows, err := db.Query(ctx, deliveryWriters)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

const accepting = `
SELECT EXISTS (
    SELECT FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
    WHERE l.locktype = 'relation' AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND l.relation = 'events'::regclass AND l.mode = 'RowExclusiveLock' AND l.granted AND a.xact_start <= $1
)`

// Accepting says whether a transaction that writes to events has been open since before a time: what it accepts is of before that too.
func (q *Queries) Accepting(ctx context.Context, db DBTX, before time.Time) (open bool, err error) {
	err = db.QueryRow(ctx, accepting, before).Scan(&open)
	return open, err
}
