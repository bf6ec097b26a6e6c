package db

import (
	"context"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// What follows are queries that every event makes, sent together: one round trip, and one transaction, as Postgres
// makes of what comes before a Sync (its manual, "Pipelining" in the message flow of its protocol). Each statement sees
// what was committed before it began, as in any transaction that is read committed.

// RecordSuccesses is LockWebhooks and InsertSuccesses.
func (q *Queries) RecordSuccesses(ctx context.Context, pool *pgxpool.Pool, locks LockWebhooksParams, rows InsertSuccessesParams) (recorded []uuid.UUID, err error) {
	b := new(pgx.Batch)
	b.Queue(lockWebhooks, locks.Exclusive, locks.Shared)
	b.Queue(insertSuccesses, rows.Ids, rows.WebhookIds, rows.EventIds, rows.StatusCodes, rows.ResponseBodies, rows.DurationsMs,
		rows.AttemptedAts, rows.Exchanges).Query(func(answer pgx.Rows) (err error) {
		recorded, err = pgx.CollectRows(answer, pgx.RowTo[uuid.UUID])
		return err
	})
	return recorded, pool.SendBatch(ctx, b).Close()
}

// AcceptEvent is InsertEvent and AddressEvent. inserted is 0 when the event is there already.
func (q *Queries) AcceptEvent(ctx context.Context, pool *pgxpool.Pool, e InsertEventParams, a AddressEventParams) (inserted int64, subscribers []AddressEventRow, err error) {
	b := new(pgx.Batch)
	b.Queue(insertEvent, e.ID, e.Type, e.Payload, e.BotIds, e.RunID, e.WorkflowID).Exec(func(done pgconn.CommandTag) error {
		inserted = done.RowsAffected()
		return nil
	})
	b.Queue(addressEvent, a.BotIds, a.EventType, a.After, a.Upto, a.PageSize, a.EventID, a.RunID).Query(func(answer pgx.Rows) (err error) {
		subscribers, err = pgx.CollectRows(answer, pgx.RowToStructByPos[AddressEventRow])
		return err
	})
	return inserted, subscribers, pool.SendBatch(ctx, b).Close()
}
