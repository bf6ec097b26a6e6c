-- Recording attempts and planning the next: internal/history/recorder.go says in which order and why.

-- name: LockWebhooks :exec
-- Sorted by key and each once, so that two recordings never wait for each other in a circle.
SELECT CASE WHEN l.exclusive
    THEN pg_advisory_xact_lock(l.key)::text
    ELSE pg_advisory_xact_lock_shared(l.key)::text END
FROM (
    SELECT hashtextextended(u.id::text, 0) AS key, bool_or(u.exclusive) AS exclusive
    FROM (
        SELECT unnest(@exclusive::uuid[]) AS id, true AS exclusive
        UNION ALL
        SELECT unnest(@shared::uuid[]), false
    ) AS u
    GROUP BY 1
    ORDER BY 1
) AS l;

-- name: LockChangingWebhooks :exec
-- Locks the rows that the attempts may change, in the order of their ids.
SELECT w.id
FROM webhooks w
WHERE w.id = ANY (@ids::uuid[]) AND (w.id = ANY (@changing::uuid[]) OR w.failure_count > 0)
ORDER BY w.id
FOR NO KEY UPDATE;

-- name: WebhookHealth :many
SELECT id, bot_id, origin, is_active, suspended, queued, ordered, failure_count, early_failures, generation, failure_run, failure_class
FROM webhooks
WHERE id = ANY (@ids::uuid[]);

-- name: IsUnsubscribed :one
-- Whether a webhook no longer gets events of an event's type.
SELECT EXISTS (SELECT FROM webhooks w JOIN events e ON e.id = @event_id WHERE w.id = @webhook_id AND NOT e.type = ANY (w.events));

-- name: ExistingDeliveries :many
SELECT d.id FROM unnest(@ids::uuid[]) AS u (id) CROSS JOIN LATERAL (SELECT id FROM deliveries WHERE id = u.id LIMIT 1) AS d;

-- name: InsertSuccesses :many
-- The successes that change nothing about their webhook, which is nearly all of them; the ids of those are returned.
INSERT INTO deliveries (id, webhook_id, event_id, attempt, success, status_code, response_body, duration_ms, attempted_at, exchange)
SELECT d.id, d.webhook_id, d.event_id, 1, true, d.status_code, d.response_body, d.duration_ms, d.attempted_at, d.exchange
FROM (
    SELECT unnest(p.ids) AS id, unnest(p.webhook_ids) AS webhook_id, unnest(p.event_ids) AS event_id,
           unnest(p.status_codes) AS status_code, unnest(p.response_bodies) AS response_body,
           unnest(p.durations_ms) AS duration_ms, unnest(p.attempted_ats) AS attempted_at,
           unnest(p.exchanges) AS exchange, generate_series(1, cardinality(p.ids)) AS n
    -- OFFSET 0: Postgres must not see how long the arrays are, or it would plan anew each time, which takes longer than
    -- the insert does.
    FROM (
        SELECT @ids::uuid[] AS ids, @webhook_ids::uuid[] AS webhook_ids, @event_ids::text[] AS event_ids,
               @status_codes::integer[] AS status_codes, @response_bodies::bytea[] AS response_bodies,
               @durations_ms::integer[] AS durations_ms, @attempted_ats::timestamptz[] AS attempted_ats,
               @exchanges::bytea[] AS exchanges
        OFFSET 0
    ) AS p
) AS d
JOIN webhooks w ON w.id = d.webhook_id AND w.is_active AND w.failure_count = 0
ORDER BY d.n
ON CONFLICT (id) DO NOTHING
RETURNING id;

-- name: InsertDeliveries :exec
INSERT INTO deliveries (id, webhook_id, event_id, attempt, trigger, success, status_code, response_body, error, duration_ms,
    attempted_at, exchange)
SELECT d.id, d.webhook_id, d.event_id, d.attempt, d.trigger::delivery_trigger, d.success, NULLIF(d.status_code, 0),
       d.response_body, NULLIF(d.error, ''), d.duration_ms, d.attempted_at, d.exchange
FROM (
    SELECT unnest(@ids::uuid[]) AS id, unnest(@webhook_ids::uuid[]) AS webhook_id, unnest(@event_ids::text[]) AS event_id,
           unnest(@attempts::integer[]) AS attempt, unnest(@triggers::text[]) AS trigger,
           unnest(@successes::boolean[]) AS success, unnest(@status_codes::integer[]) AS status_code,
           unnest(@response_bodies::bytea[]) AS response_body, unnest(@errors::text[]) AS error,
           unnest(@durations_ms::integer[]) AS duration_ms, unnest(@attempted_ats::timestamptz[]) AS attempted_at,
           unnest(@exchanges::bytea[]) AS exchange, generate_series(1, cardinality(@ids::uuid[])) AS n
) AS d
ORDER BY d.n
ON CONFLICT (id) DO NOTHING;

-- name: UpdateHealth :execrows
-- And, in the same statement, a notice of each disabling, where the bot's owner asked for it; their number is returned.
WITH changed AS (
    UPDATE webhooks w
    SET failure_count  = u.failure_count,
        early_failures = u.early_failures,
        failure_run    = u.failure_run,
        failure_class  = u.class,
        failing_since  = CASE
            WHEN u.failure_count = 0 THEN NULL
            WHEN w.failing_since IS NULL OR u.failure_run <> w.failure_run THEN now()
            ELSE w.failing_since
        END,
        failed_at      = CASE WHEN u.failure_count > 0 THEN now() ELSE w.failed_at END,
        queued         = u.queued,
        resume_at      = CASE
            WHEN w.ordered THEN greatest(w.resume_at, now() + make_interval(secs => u.rest_seconds))
            ELSE now() + make_interval(secs => u.rest_seconds)
        END,
        is_active      = w.is_active AND NOT u.disable,
        disabled_at     = CASE WHEN u.disable THEN now() ELSE w.disabled_at END,
        disabled_reason = CASE WHEN u.disable THEN 'failures' ELSE w.disabled_reason END,
        disabled_by     = CASE WHEN u.disable THEN u.delivery_id ELSE w.disabled_by END,
        updated_at      = CASE WHEN u.disable THEN now() ELSE w.updated_at END
    FROM (
        SELECT unnest(@ids::uuid[]) AS id, unnest(@failure_counts::integer[]) AS failure_count,
               unnest(@early_failures::integer[]) AS early_failures, unnest(@failure_runs::integer[]) AS failure_run,
               unnest(@queueds::boolean[]) AS queued, unnest(@rests_seconds::float8[]) AS rest_seconds,
               unnest(@disables::boolean[]) AS disable, unnest(@delivery_ids::uuid[]) AS delivery_id,
               unnest(@failures::integer[]) AS failures,
               unnest(@classes::text[]) AS class, unnest(@event_ids::text[]) AS event_id, unnest(@errors::text[]) AS error,
               unnest(@hosts::text[]) AS host
    ) AS u
    WHERE w.id = u.id
    RETURNING w.id, w.generation, w.bot_id, u.failures, w.disabled_at, u.disable, u.event_id, u.error, u.host
)
INSERT INTO notices (webhook_id, generation, host, failure_count, noticed_at, event_id, last_error)
SELECT c.id, c.generation, c.host, c.failures, c.disabled_at, c.event_id, c.error
FROM changed c
JOIN bots b ON b.id = c.bot_id AND b.notify_url IS NOT NULL
WHERE c.disable
ON CONFLICT (webhook_id, kind, generation) DO NOTHING;

-- name: RecordedDelivery :one
-- A recorded attempt, what is planned after it, and how its webhook is now; gone: it was deleted.
SELECT d.id, d.success, d.status_code, d.error, (q.due_at IS NOT NULL)::boolean AS planned,
       (w.id IS NULL)::boolean AS gone, coalesce(w.suspended, false) AS suspended, coalesce(w.is_active, false) AS active
FROM deliveries_of(@event_id, @webhook_id) AS d
LEFT JOIN queue q ON q.event_id = d.event_id AND q.webhook_id = d.webhook_id
LEFT JOIN webhooks w ON w.id = d.webhook_id
WHERE d.attempt = @attempt::integer;

-- name: ServedOf :many
-- Of some pairs of event and webhook, those that were sent or are planned. Their deliveries have ids from @first_id to @last_id.
SELECT p.event_id::text AS event_id, p.webhook_id::uuid AS webhook_id
FROM (SELECT unnest(@event_ids::text[]) AS event_id, unnest(@webhook_ids::uuid[]) AS webhook_id) AS p
WHERE (SELECT true FROM deliveries d
       WHERE d.event_id = p.event_id AND d.webhook_id = p.webhook_id
         AND d.id >= @first_id::uuid AND d.id <= @last_id::uuid
       LIMIT 1)
   OR (SELECT true FROM queue q WHERE q.event_id = p.event_id AND q.webhook_id = p.webhook_id);

-- name: WasTaken :one
-- Whether a webhook has taken an event.
SELECT EXISTS (SELECT FROM deliveries_of(@event_id, @webhook_id) AS d WHERE d.success);
