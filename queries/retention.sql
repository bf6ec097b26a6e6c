-- Removing what is expired: internal/history/retention.go says in which order and why.

-- name: ListExpired :many
-- A page of the events accepted before a time, oldest first. is_used: with @keep_queued, an attempt that is planned holds the
-- event back. By a scalar subquery, as of EXISTS Postgres may make one scan of all: see TestWhatIsOverAgeIsFoundByIndexes.
SELECT e.id, e.accepted_at,
       (@keep_queued::boolean AND coalesce((SELECT true FROM queue q WHERE q.event_id = e.id LIMIT 1), false))::boolean AS is_used
FROM events e
WHERE e.accepted_at < @before
  AND (e.accepted_at, e.id) > (@after_time::timestamptz, @after_id::text)
ORDER BY e.accepted_at, e.id
LIMIT @page_size;

-- name: RemoveDeliveriesOf :one
-- Some of the deliveries of events that no partition is dropped with. A webhook's deletion may be removing the same rows in
-- another order: it is not waited for, so that neither waits for the other in a circle. They count no longer against their
-- bots' budgets.
WITH removed AS (
    DELETE FROM deliveries_default
    WHERE id IN (
        SELECT d.id FROM deliveries_default d WHERE d.event_id = ANY (@event_ids::text[]) LIMIT @most FOR UPDATE SKIP LOCKED
    )
    RETURNING webhook_id, span_of(id) AS span, seq, delivery_bytes(response_body, exchange) AS bytes
), locked AS MATERIALIZED (
    SELECT u.webhook_id, u.counted_upto FROM history_usage u WHERE u.webhook_id IN (SELECT r.webhook_id FROM removed r)
    ORDER BY u.webhook_id FOR UPDATE
), changed AS (
    UPDATE history_sizes h
    SET deliveries = greatest(h.deliveries - s.deliveries, 0), bytes = greatest(h.bytes - s.bytes, 0)
    FROM (
        SELECT r.webhook_id, r.span, count(*) AS deliveries, sum(r.bytes) AS bytes
        FROM removed r
        JOIN locked l ON l.webhook_id = r.webhook_id AND r.seq <= l.counted_upto
        GROUP BY r.webhook_id, r.span
    ) AS s
    WHERE h.webhook_id = s.webhook_id AND h.span = s.span
)
SELECT count(*)::bigint FROM removed;

-- name: OrderedQueuesOf :many
-- The ordered webhooks in whose queues some events stand.
SELECT DISTINCT q.webhook_id FROM queue q JOIN webhooks w ON w.id = q.webhook_id AND w.ordered WHERE q.event_id = ANY (@event_ids::text[]);

-- name: RemoveQueuedAt :exec
DELETE FROM queue WHERE webhook_id = @webhook_id AND event_id = ANY (@event_ids::text[]);

-- name: RemoveQueuedOf :exec
-- What is planned of events: at their age it would not be sent any more.
DELETE FROM queue WHERE event_id = ANY (@event_ids::text[]);

-- name: RemoveExpiredEvents :execrows
-- Events that have no deliveries but those that are dropped with a partition.
DELETE FROM events e
WHERE e.id = ANY (@ids::text[]) AND (SELECT d.id FROM deliveries_default d WHERE d.event_id = e.id LIMIT 1) IS NULL;

-- name: RemoveEvents :execrows
-- Events that have no deliveries.
DELETE FROM events e
WHERE e.id = ANY (@ids::text[]) AND (SELECT d.id FROM deliveries d WHERE d.event_id = e.id LIMIT 1) IS NULL;

-- name: DropPartition :one
-- Drops the oldest partition of deliveries, if all of its events were accepted before a time. '': it has younger ones. It fails
-- with SQLSTATE 55P03 where others read or write for longer than a moment.
SELECT coalesce(drop_partition(@before), '')::text AS name;

-- name: MakePartitions :exec
-- Makes the partitions of deliveries that are missing, if they are wanted; else it removes what making them has left half done.
SELECT make_partitions(@are_wanted);
