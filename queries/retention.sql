-- Removing what is expired: internal/history/retention.go says in which order and why. The deliveries of each event are looked
-- up by scalar subqueries, as of EXISTS Postgres may make one scan of all deliveries: see
-- TestWhatIsOverAgeIsFoundByIndexes.

-- name: ListExpired :many
-- A page of the events accepted before a time, oldest first. is_used: a later delivery holds the event back, or, with
-- @keep_queued, an attempt that is planned.
SELECT e.id, e.accepted_at,
       (coalesce((SELECT true FROM deliveries d WHERE d.event_id = e.id AND d.attempted_at >= @before LIMIT 1), false)
           OR @keep_queued::boolean AND coalesce((SELECT true FROM queue q WHERE q.event_id = e.id LIMIT 1), false))::boolean AS is_used
FROM events e
WHERE e.accepted_at < @before
  AND (e.accepted_at, e.id) > (@after_time::timestamptz, @after_id::text)
ORDER BY e.accepted_at, e.id
LIMIT @page_size;

-- name: RemoveDeliveriesOf :one
-- Some of the deliveries of events. A webhook's deletion may be removing the same rows in another order: it is not waited
-- for, so that neither waits for the other in a circle.
-- They count no longer against their bots' budgets.
WITH removed AS (
    DELETE FROM deliveries
    WHERE id IN (
        SELECT d.id FROM deliveries d WHERE d.event_id = ANY (@event_ids::text[]) LIMIT @most FOR UPDATE SKIP LOCKED
    )
    RETURNING webhook_id, seq, delivery_bytes(response_body, exchange) AS bytes
), locked AS MATERIALIZED (
    SELECT u.webhook_id, u.counted_upto FROM history_usage u WHERE u.webhook_id IN (SELECT r.webhook_id FROM removed r) ORDER BY u.webhook_id FOR UPDATE
), changed AS (
    UPDATE history_usage u
    SET deliveries = greatest(u.deliveries - s.deliveries, 0), bytes = greatest(u.bytes - s.bytes, 0)
    FROM (
        SELECT r.webhook_id, count(*) AS deliveries, sum(r.bytes) AS bytes
        FROM removed r
        JOIN locked l ON l.webhook_id = r.webhook_id AND r.seq <= l.counted_upto
        GROUP BY r.webhook_id
    ) AS s
    WHERE u.webhook_id = s.webhook_id
)
SELECT count(*)::bigint FROM removed;

-- name: RemoveQueuedOf :exec
-- What is planned of events: at their age it would not be sent any more.
DELETE FROM queue WHERE event_id = ANY (@event_ids::text[]);

-- name: RemoveEvents :execrows
-- Events that have no deliveries.
DELETE FROM events e
WHERE e.id = ANY (@ids::text[]) AND (SELECT d.id FROM deliveries d WHERE d.event_id = e.id LIMIT 1) IS NULL;
