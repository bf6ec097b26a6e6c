package db

import (
	"context"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
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

// LookUpEvents is StoredEvents and, where there are bots, UnknownBots.
func (q *Queries) LookUpEvents(ctx context.Context, pool *pgxpool.Pool, ids, botIDs []string) (stored []StoredEventsRow, unknown []string, err error) {
	b := new(pgx.Batch)
	b.Queue(storedEvents, ids).Query(func(answer pgx.Rows) (err error) {
		stored, err = pgx.CollectRows(answer, pgx.RowToStructByPos[StoredEventsRow])
		return err
	})
	if len(botIDs) > 0 {
		b.Queue(unknownBots, botIDs).Query(func(answer pgx.Rows) (err error) {
			unknown, err = pgx.CollectRows(answer, pgx.RowTo[string])
			return err
		})
	}
	return stored, unknown, pool.SendBatch(ctx, b).Close()
}

// AcceptEvents is InsertEvents and AddressEvents.
func (q *Queries) AcceptEvents(ctx context.Context, pool *pgxpool.Pool, e InsertEventsParams, a AddressEventsParams) (inserted []InsertEventsRow, subscribers []AddressEventsRow, err error) {
	b := new(pgx.Batch)
	b.Queue(insertEvents, e.RunID, e.WorkflowID, e.Ids, e.Types, e.Payloads, e.Bots, e.Places).Query(func(answer pgx.Rows) (err error) {
		inserted, err = pgx.CollectRows(answer, pgx.RowToStructByPos[InsertEventsRow])
		return err
	})
	b.Queue(addressEvents, a.After, a.Upto, a.Lists, a.ListTypes, a.ListBots, a.PageSize, a.Whole, a.EventIds, a.EventLists, a.EventPlaces, a.RunID).Query(func(answer pgx.Rows) (err error) {
		subscribers, err = pgx.CollectRows(answer, pgx.RowToStructByPos[AddressEventsRow])
		return err
	})
	return inserted, subscribers, pool.SendBatch(ctx, b).Close()
}
