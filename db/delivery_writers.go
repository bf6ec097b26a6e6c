package db

import (
	"context"

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
