-- What deliveries come to: internal/history/rollup.go fills the table, internal/history/stats.go reads it.

-- name: TallyDeliveries :many
-- Of each of some webhooks the @most_read oldest deliveries that are not counted yet, up to a seq, grouped. @bounds are the
-- least durations in ms of the classes in which durations are counted. The type is empty where the event is gone.
SELECT d.webhook_id, span_of(d.id)::integer AS span, date_trunc('minute', d.attempted_at)::timestamptz AS minute,
       coalesce((SELECT e.type FROM events e WHERE e.id = d.event_id), '')::text AS event_type,
       d.success, coalesce(d.error, '')::text AS error, coalesce(d.status_code, 0)::integer AS status_code,
       ((@bounds::integer[])[width_bucket(d.duration_ms, @bounds)])::integer AS least_ms,
       (d.trigger = 'verify')::boolean AS is_verification,
       count(*) AS deliveries, sum(delivery_bytes(d.response_body, d.exchange))::bigint AS bytes, max(d.seq)::bigint AS upto
FROM unnest(@webhook_ids::uuid[]) AS w (id)
CROSS JOIN LATERAL (
    SELECT o.id, o.webhook_id, o.seq, o.event_id, o.trigger, o.success, o.error, o.status_code, o.duration_ms, o.attempted_at,
           o.response_body, o.exchange
    FROM deliveries o
    WHERE o.webhook_id = w.id AND o.seq > coalesce((SELECT u.counted_upto FROM history_usage u WHERE u.webhook_id = w.id), 0)
      AND o.seq <= @upto::bigint
    ORDER BY o.seq
    LIMIT @most_read
) AS d
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9;

-- name: StatsAt :many
-- The rows that are to be added to. Only a pass over the budgets writes them, and there is one.
SELECT s.webhook_id, s.step, s.start, s.tally
FROM (SELECT unnest(@webhook_ids::uuid[]) AS webhook_id, unnest(@steps::integer[]) AS step, unnest(@starts::timestamptz[]) AS start) AS k
JOIN delivery_stats s ON s.webhook_id = k.webhook_id AND s.step = k.step AND s.start = k.start;

-- name: WriteStats :exec
INSERT INTO delivery_stats (webhook_id, step, start, tally)
SELECT k.webhook_id, k.step, k.start, k.tally::jsonb
FROM (SELECT unnest(@webhook_ids::uuid[]) AS webhook_id, unnest(@steps::integer[]) AS step,
    unnest(@starts::timestamptz[]) AS start, unnest(@tallies::text[]) AS tally) AS k
ON CONFLICT (webhook_id, step, start) DO UPDATE SET tally = excluded.tally;

-- name: RemoveStats :execrows
-- Rows of a step that began before a time.
DELETE FROM delivery_stats
WHERE ctid IN (SELECT s.ctid FROM delivery_stats s WHERE s.step = @step AND s.start < @before ORDER BY s.start
    LIMIT @most FOR UPDATE SKIP LOCKED);

-- name: ForgetStats :exec
DELETE FROM delivery_stats WHERE webhook_id = @webhook_id;

-- name: StatsOf :many
SELECT s.start, s.tally
FROM delivery_stats s
WHERE s.webhook_id = ANY (@webhook_ids::uuid[]) AND s.step = @step AND s.start >= @since AND s.start < @until;

-- name: WebhookSummaries :many
-- Of each of some webhooks its last delivery and its last failure, unless their events are no longer kept, until when
-- deliveries were removed for its bot's budget, and what its deliveries since @since, the start of an hour, come to: by
-- hours, and the @most_read oldest that are not counted yet.
SELECT w.id::uuid AS id,
       (SELECT to_jsonb(l) FROM (
           SELECT d.id, d.event_id AS "eventId",
                  (SELECT e.type FROM events e WHERE e.id = d.event_id AND d.id >= first_delivery(e.accepted_at)) AS "eventType",
                  d.attempt, d.success, d.status_code AS "statusCode", d.error, d.duration_ms AS "durationMs",
                  d.attempted_at AS "attemptedAt"
           FROM deliveries d
           WHERE d.webhook_id = w.id
           ORDER BY d.seq DESC
           LIMIT 1
       ) AS l WHERE l."eventType" IS NOT NULL)::jsonb AS last_delivery,
       (SELECT to_jsonb(l) FROM (
           SELECT d.id, d.event_id AS "eventId",
                  (SELECT e.type FROM events e WHERE e.id = d.event_id AND d.id >= first_delivery(e.accepted_at)) AS "eventType",
                  d.attempt, d.success, d.status_code AS "statusCode", d.error, d.duration_ms AS "durationMs",
                  d.attempted_at AS "attemptedAt"
           FROM deliveries d
           WHERE d.webhook_id = w.id AND NOT d.success
           ORDER BY d.seq DESC
           LIMIT 1
       ) AS l WHERE l."eventType" IS NOT NULL)::jsonb AS last_failure,
       ARRAY(SELECT s.start FROM delivery_stats s
             WHERE s.webhook_id = w.id AND s.step = 3600 AND s.start >= @since ORDER BY s.start)::timestamptz[] AS counted_starts,
       ARRAY(SELECT s.tally FROM delivery_stats s
             WHERE s.webhook_id = w.id AND s.step = 3600 AND s.start >= @since ORDER BY s.start)::jsonb[] AS counted,
       (SELECT coalesce(jsonb_agg(r), '[]') FROM (
           SELECT date_trunc('minute', d.attempted_at) AS minute, d.success,
                  (@bounds::integer[])[width_bucket(d.duration_ms, @bounds)] AS ms, count(*) AS n
           FROM (
               SELECT o.attempted_at, o.success, o.duration_ms
               FROM deliveries o
               WHERE o.webhook_id = w.id AND o.seq > coalesce(u.counted_upto, 0)
               ORDER BY o.seq
               LIMIT @most_read
           ) AS d
           WHERE d.attempted_at >= @since
           GROUP BY 1, 2, 3
       ) AS r)::jsonb AS uncounted,
       u.removed_before
FROM unnest(@webhook_ids::uuid[]) AS w (id)
LEFT JOIN history_usage u ON u.webhook_id = w.id;
