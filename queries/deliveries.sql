-- name: PageOfDeliveries :many
-- The deliveries of a webhook recorded before @before (a seq), newest first, that are wanted; and, wanted or not, the
-- one numbered @most_read: no more than so many are looked at. NULL wants any. The two branches are for the index of the
-- failures.
SELECT looked_at.id, looked_at.n, looked_at.wanted
FROM (
    SELECT d.id, d.seq, row_number() OVER (ORDER BY d.seq DESC) AS n,
           (coalesce(d.success = sqlc.narg('success')::boolean, true)
               AND coalesce(sqlc.narg('event_type')::text IS NULL OR (SELECT e.type FROM events e WHERE e.id = d.event_id) = sqlc.narg('event_type')::text, false))::boolean AS wanted
    FROM (
        (SELECT o.id, o.seq, o.event_id, o.success
         FROM deliveries o
         WHERE coalesce(sqlc.narg('success')::boolean, true) AND o.webhook_id = @webhook_id AND o.seq < @before::bigint
         ORDER BY o.seq DESC
         LIMIT @most_read::bigint)
        UNION ALL
        (SELECT o.id, o.seq, o.event_id, o.success
         FROM deliveries o
         WHERE NOT sqlc.narg('success')::boolean AND NOT o.success AND o.webhook_id = @webhook_id AND o.seq < @before::bigint
         ORDER BY o.seq DESC
         LIMIT @most_read::bigint)
    ) AS d
) AS looked_at
WHERE looked_at.wanted OR looked_at.n = @most_read::bigint
ORDER BY looked_at.seq DESC -- not n: Postgres would not see that they come in that order, and read all
LIMIT @most;

-- name: GetDeliveries :many
-- Of some deliveries of a webhook, newest first, as many as have @bytes of payload and response, or one. What is large is
-- read of those only.
SELECT s.id, s.webhook_id, s.event_id, s.event_type, s.payload, s.attempt, s.status_code, s.response_body,
       s.error, s.success, s.duration_ms, s.attempted_at, s.trigger, s.exchange
FROM (
    SELECT d.*, e.type AS event_type, e.payload,
           sum(octet_length(e.payload) + coalesce(octet_length(d.response_body), 0)) OVER (ORDER BY d.seq DESC) AS bytes,
           row_number() OVER (ORDER BY d.seq DESC) AS n
    FROM deliveries d
    JOIN events e ON e.id = d.event_id
    WHERE d.id = ANY (@ids::uuid[]) AND d.webhook_id = @webhook_id
) AS s
WHERE s.n = 1 OR s.bytes <= @bytes::bigint
ORDER BY s.seq DESC;

-- name: DeliverySeq :one
SELECT seq::bigint AS seq FROM deliveries WHERE id = @id AND webhook_id = @webhook_id;

-- name: RecentStats :one
-- Of a webhook's deliveries since @since, but of the latest @most_read only. p95 is 0 where there are none.
SELECT count(*) AS deliveries, count(*) FILTER (WHERE success) AS successes,
       coalesce(percentile_disc(0.95) WITHIN GROUP (ORDER BY duration_ms), 0)::integer AS p95_duration_ms
FROM (
    SELECT success, duration_ms, attempted_at
    FROM deliveries
    WHERE webhook_id = @webhook_id
    ORDER BY seq DESC
    LIMIT @most_read
) AS latest
WHERE attempted_at > @since;

-- name: DeleteDeliveries :execrows
-- Some of a deleted webhook's. What retention is removing, it removes.
DELETE FROM deliveries
WHERE id IN (
    SELECT d.id FROM deliveries d WHERE d.webhook_id = @webhook_id LIMIT @most FOR UPDATE SKIP LOCKED
);
