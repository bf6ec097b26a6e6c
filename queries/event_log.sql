-- The log of events, for those who poll: db/event_log.go says how it keeps its order.

-- name: EventLogState :one
-- How far the log goes, and whether there are events without a position: of the last minute, or any at all.
SELECT last, removed, EXISTS (
    SELECT FROM events
    WHERE position IS NULL
      AND accepted_at >= (CASE WHEN @ever::boolean THEN '-infinity' ELSE now() - interval '1 minute' END)::timestamptz
) AS unnumbered
FROM event_log;

-- name: LockEventLog :exec
SELECT last FROM event_log FOR UPDATE;

-- name: NumberEvents :execrows
-- Gives positions to events that have none, oldest first. SKIP LOCKED: to what is being removed, none.
WITH unnumbered AS MATERIALIZED (
    SELECT id, accepted_at
    FROM events
    WHERE position IS NULL
      AND accepted_at >= (CASE WHEN @ever::boolean THEN '-infinity' ELSE now() - interval '1 minute' END)::timestamptz
    ORDER BY accepted_at, id
    LIMIT @most
    FOR NO KEY UPDATE SKIP LOCKED
), log AS (
    UPDATE event_log SET last = last + (SELECT count(*) FROM unnumbered) RETURNING last
)
UPDATE events e
SET position = (SELECT last FROM log) - u.after_it
FROM (SELECT id, row_number() OVER (ORDER BY accepted_at DESC, id DESC) - 1 AS after_it FROM unnumbered) AS u
WHERE e.id = u.id;

-- name: MarkOf :one
-- What tells the event at a position from others that had it or may get it: within which microsecond of a second it was accepted.
SELECT to_char(accepted_at, 'US') AS mark FROM events WHERE position = @position::bigint;

-- name: ReadEvents :many
-- The events of a span of positions that concern a bot, at most @most and, as JSON in a list, @bytes, or one; matching
-- says how many there would be, up to @most. What was for an earlier bot of its id alone does not concern it.
SELECT e.id, e.payload, e.position::bigint AS position, e.matching
FROM (
    SELECT m.id, m.payload, m.position, count(*) OVER () AS matching,
           sum(octet_length(m.payload) + octet_length(m.id) + 9) OVER (ORDER BY m.position) AS bytes,
           row_number() OVER (ORDER BY m.position) AS n
    FROM (
        SELECT id, payload, position
        FROM events
        WHERE position > @after::bigint AND position <= @upto::bigint
          AND type NOT IN ('test', 'webhook.verify') -- they go to one webhook
          AND (bot_ids IS NULL OR bot_ids @> ARRAY[@bot_id::text]
              AND accepted_at >= coalesce((SELECT b.created_at FROM bots b WHERE b.id = @bot_id), '-infinity'))
          AND (sqlc.narg('types')::text[] IS NULL OR type = ANY (sqlc.narg('types')::text[]))
        ORDER BY position
        LIMIT @most
    ) AS m
) AS e
WHERE e.n = 1 OR e.bytes <= @bytes::bigint
ORDER BY e.position;

-- name: ReadAudiences :many
-- Whom the events of a span of positions concern.
SELECT position::bigint AS position, type, bot_ids
FROM events
WHERE position > @after::bigint AND position <= @upto::bigint AND type NOT IN ('test', 'webhook.verify')
ORDER BY position
LIMIT @most;
