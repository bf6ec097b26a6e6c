package db

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// AllowanceRequest asks for the allowances of pairs of bot and endpoint. Pairs are unique and sorted, which prevents deadlocks.
type AllowanceRequest struct {
	BotIDs    []string
	Endpoints []string
	Wanted    []int32
	Burst     int32
	PerSecond float64
}

// AllowanceGrant is what a pair gets. PaidFor is the time until the bucket is full again, and TurnIn the time until a refused
// queue should ask again, both in seconds.
type AllowanceGrant struct {
	BotID, Endpoint string
	Granted         int32
	PaidFor, TurnIn float64
}

// takeAllowances grants as much as is free, up to what is wanted. The turns of queues follow each other as what they want
// comes free, so that of many none comes in vain. sqlc does not know "excluded" in an expression.
const takeAllowances = `
WITH asked AS (
    SELECT unnest($1::text[]) AS bot_id, unnest($2::text[]) AS endpoint, least(unnest($3::integer[]), $4::integer) AS wanted
)
INSERT INTO allowances AS a (bot_id, endpoint, paid_until, turn, granted)
SELECT bot_id, endpoint, now() + make_interval(secs => wanted / $5::float8), now(), wanted FROM asked ORDER BY bot_id, endpoint
ON CONFLICT (bot_id, endpoint) DO UPDATE SET (granted, paid_until, turn) = (
    SELECT f.granted,
           f.paid_until + make_interval(secs => f.granted / $5::float8),
           CASE
               WHEN f.granted = excluded.granted THEN a.turn
               ELSE least(now() + interval '5 minutes', greatest(now() + interval '250 milliseconds',
                   greatest(a.turn, now()) + make_interval(secs => least(excluded.granted - f.granted, $4::integer / 2.0) / $5::float8)))
           END
    -- The little that is added is for what floating-point numbers lose. Of what is owed far beyond the burst, the clock went back; a
    -- statement that waited for the row has a now() that is up to its time limit older than what others wrote meanwhile.
    FROM (
        SELECT p.paid_until, least(excluded.granted,
                   greatest(0, floor(0.000001 + $4::integer - extract(epoch FROM p.paid_until - now()) * $5::float8)))::integer AS granted
        FROM (
            SELECT CASE
                WHEN a.paid_until > full_at + interval '5 seconds' THEN full_at
                ELSE greatest(a.paid_until, now())
            END AS paid_until
            FROM (SELECT now() + make_interval(secs => $4::integer / $5::float8) AS full_at) AS b
        ) AS p
    ) AS f
)
RETURNING a.bot_id, a.endpoint, a.granted,
          extract(epoch FROM a.paid_until - now())::float8, extract(epoch FROM a.turn - now())::float8`

// TakeAllowances takes what is asked for, as far as it is there.
func (q *Queries) TakeAllowances(ctx context.Context, db DBTX, in AllowanceRequest) ([]AllowanceGrant, error) {
	rows, err := db.Query(ctx, takeAllowances, in.BotIDs, in.Endpoints, in.Wanted, in.Burst, in.PerSecond)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (a AllowanceGrant, err error) {
		err = row.Scan(&a.BotID, &a.Endpoint, &a.Granted, &a.PaidFor, &a.TurnIn)
		return a, err
	})
}
