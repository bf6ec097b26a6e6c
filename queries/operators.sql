-- What operators look at over all bots: internal/ops. Each statement reads so many rows from an index, whatever there is.

-- name: WebhooksAfter :many
SELECT * FROM webhooks WHERE id > @after ORDER BY id LIMIT @most;

-- name: WebhooksOfBotAfter :many
SELECT * FROM webhooks WHERE bot_id = @bot_id AND id > @after ORDER BY id LIMIT @most;

-- name: WebhooksAtHostAfter :many
SELECT * FROM webhooks WHERE host_of(origin) = @host::text AND id > @after ORDER BY id LIMIT @most;

-- name: SuspendedWebhooksAfter :many
SELECT * FROM webhooks WHERE suspended AND id > @after ORDER BY id LIMIT @most;

-- name: QueuedWebhooks :many
-- What so many of those that are queued are filtered and ordered by. Those that fail are among them.
SELECT id, bot_id, origin, suspended, failure_count, failure_class FROM webhooks WHERE queued AND is_active LIMIT @most;

-- name: WebhookFilters :many
-- What webhooks are filtered by.
SELECT id, bot_id, origin, is_active, suspended, queued, failure_count, failure_class, disabled_reason
FROM webhooks
WHERE id = ANY (@ids::uuid[]);

-- name: DisabledBefore :many
-- Those that were disabled last, first.
SELECT * FROM webhooks
WHERE NOT is_active AND (disabled_at, id) < (@before::timestamptz, @before_id::uuid)
ORDER BY disabled_at DESC, id DESC
LIMIT @most;

-- name: DisabledForBefore :many
-- The same of one reason.
SELECT * FROM webhooks
WHERE NOT is_active AND disabled_reason = @reason::text AND (disabled_at, id) < (@before::timestamptz, @before_id::uuid)
ORDER BY disabled_at DESC, id DESC
LIMIT @most;

-- name: WebhooksByID :many
SELECT * FROM webhooks WHERE id = ANY (@ids::uuid[]);

-- name: CountDisabledSince :one
SELECT count(*) FROM (
    SELECT FROM webhooks WHERE NOT is_active AND disabled_reason = 'failures' AND disabled_at >= @since::timestamptz LIMIT @most
) AS counted;

-- name: Queues :many
-- A loose scan of the index, from webhook to webhook, of so many queues: when the oldest row is due, but for what was made due
-- at once. An ordered webhook's is due when that rests no more.
WITH RECURSIVE queues AS (
    (SELECT webhook_id, 1 AS n FROM queue ORDER BY webhook_id LIMIT 1)
    UNION ALL
    SELECT (SELECT q.webhook_id FROM queue q WHERE q.webhook_id > l.webhook_id ORDER BY q.webhook_id LIMIT 1), l.n + 1
    FROM queues l
    WHERE l.webhook_id IS NOT NULL AND l.n < @most::integer
)
SELECT l.webhook_id::uuid AS webhook_id,
       coalesce((SELECT greatest(q.due_at, (SELECT h.resume_at FROM webhooks h WHERE h.id = l.webhook_id AND h.ordered))
           FROM queue q WHERE q.webhook_id = l.webhook_id AND q.due_at > 'epoch' ORDER BY q.due_at LIMIT 1),
           'epoch')::timestamptz AS oldest_due_at
FROM queues l
WHERE l.webhook_id IS NOT NULL;

-- name: CountQueues :many
-- How many rows each queue has, @most_counted at most, in the order of the ids.
SELECT (SELECT count(*) FROM (SELECT FROM queue c WHERE c.webhook_id = w.id LIMIT @most_counted::bigint) AS counted) AS waiting
FROM unnest(@ids::uuid[]) WITH ORDINALITY AS w (id, n)
ORDER BY w.n;

-- name: WebhookTroubles :many
-- Of some webhooks, how their queues stand, and the error of the last failure that is kept.
SELECT w.id::uuid AS id,
       (SELECT count(*) FROM (SELECT FROM queue c WHERE c.webhook_id = w.id LIMIT @most_counted::bigint) AS counted) AS waiting,
       coalesce((SELECT greatest(q.due_at, (SELECT h.resume_at FROM webhooks h WHERE h.id = w.id AND h.ordered))
           FROM queue q WHERE q.webhook_id = w.id AND q.due_at > 'epoch' ORDER BY q.due_at LIMIT 1),
           'epoch')::timestamptz AS oldest_due_at,
       (SELECT d.error FROM deliveries d WHERE d.webhook_id = w.id AND NOT d.success ORDER BY d.seq DESC LIMIT 1) AS last_error
FROM unnest(@ids::uuid[]) AS w (id);

-- name: RunningRecoveries :many
-- Oldest first, of so many.
SELECT r.webhook_id, w.bot_id, w.origin, r.found, r.delivered, r.failed, r.created_at
FROM (SELECT * FROM recoveries WHERE state = 'running' LIMIT @most_read) AS r
JOIN webhooks w ON w.id = r.webhook_id
ORDER BY r.created_at, r.webhook_id
LIMIT @most;

-- name: CountRunningRecoveries :one
SELECT count(*) FROM (SELECT FROM recoveries WHERE state = 'running' LIMIT @most) AS counted;
