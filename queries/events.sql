-- name: InsertEvent :execrows
INSERT INTO events (id, type, payload, bot_ids, run_id, workflow_id)
VALUES (@id, @type, @payload, sqlc.narg('bot_ids')::text[], @run_id, sqlc.narg('workflow_id')::text)
ON CONFLICT (id) DO NOTHING;

-- name: GetEvent :one
SELECT id, type, payload, bot_ids, run_id, coalesce(workflow_id, 'event-' || id)::text AS workflow_id, accepted_at FROM events WHERE id = @id;

-- name: TakeOverEvent :execrows
-- Gives an event to another run, as the one that owned it ended before its work was done.
UPDATE events SET run_id = @run_id, workflow_id = sqlc.narg('workflow_id')::text WHERE id = @id AND run_id = @old_run_id;

-- The audience of an event: every bot when its bot_ids are NULL, else those. The two are branches of a union, as one
-- condition for both would leave Postgres no index. What a lookup costs grows with what it returns only: see
-- TestTheAudienceIsReadFromIndexes.

-- name: AddressEvent :many
-- A page of the webhooks an event goes to, in the order of their ids, from after @after on; and, in the same statement, a
-- row in the queue of each that is queued, unless it has the event already or another run owns the event. seq is the new
-- row's, NULL where there is none.
WITH asked AS (
    SELECT sqlc.narg('bot_ids')::text[] AS bot_ids, @event_type::text AS event_type, @after::uuid AS after, @upto::uuid AS upto
    OFFSET 0 -- one plan is the best for all arguments, so Postgres need not see them: planning anew takes longer than the lookup
), subscribers AS (
    SELECT w.id, w.bot_id, w.url, w.secret, (CASE WHEN w.previous_secret_until > now() THEN w.previous_secret END)::bytea AS previous_secret,
           w.generation, w.failure_count, w.failure_run, w.queued
    FROM asked
    CROSS JOIN LATERAL (
        (SELECT s.webhook_id
         FROM subscriptions s
         WHERE asked.bot_ids IS NULL
           AND s.event_type = asked.event_type
           AND s.webhook_id > asked.after AND s.webhook_id <= asked.upto
         ORDER BY s.webhook_id
         LIMIT (SELECT @page_size::integer))
        UNION ALL
        (SELECT s.webhook_id
         FROM (SELECT DISTINCT unnest(asked.bot_ids) AS id) AS bot
         CROSS JOIN LATERAL (
             SELECT webhook_id
             FROM subscriptions
             WHERE bot_id = bot.id
               AND event_type = asked.event_type
               AND webhook_id > asked.after AND webhook_id <= asked.upto
             ORDER BY webhook_id
             LIMIT (SELECT @page_size::integer)
         ) AS s
         ORDER BY s.webhook_id
         LIMIT (SELECT @page_size::integer))
    ) AS audience
    -- LIMIT: each is looked up by its id, however many Postgres expects.
    CROSS JOIN LATERAL (SELECT * FROM webhooks WHERE id = audience.webhook_id LIMIT 1) AS w
), enqueued AS (
    INSERT INTO queue (webhook_id, event_id, attempt, step, trigger, due_at)
    SELECT s.id, e.id, 1, 1, 'event', e.accepted_at
    FROM subscribers s
    JOIN events e ON e.id = @event_id AND e.run_id = @run_id
    WHERE s.queued AND NOT EXISTS (SELECT FROM deliveries d WHERE d.event_id = e.id AND d.webhook_id = s.id)
    ON CONFLICT (event_id, webhook_id) DO NOTHING
    RETURNING webhook_id, seq, due_at
)
SELECT s.id, s.bot_id, s.url, s.secret, s.previous_secret, s.generation, s.failure_count, s.failure_run, s.queued, q.seq, q.due_at
FROM subscribers s
LEFT JOIN enqueued q ON q.webhook_id = s.id
ORDER BY s.id;

-- name: CountAudience :one
SELECT count(*)
FROM (
    SELECT s.webhook_id FROM subscriptions s WHERE sqlc.narg('bot_ids')::text[] IS NULL AND s.event_type = @event_type
    UNION ALL
    SELECT s.webhook_id
    FROM (SELECT DISTINCT unnest(sqlc.narg('bot_ids')::text[]) AS id) AS bot
    JOIN subscriptions s ON s.bot_id = bot.id AND s.event_type = @event_type
) AS audience;

-- name: AudiencePages :many
-- The last webhook id of every full page of an event's audience.
SELECT numbered.webhook_id::uuid AS id
FROM (
    SELECT audience.webhook_id, row_number() OVER (ORDER BY audience.webhook_id) AS n
    FROM (
        SELECT s.webhook_id, s.bot_id FROM subscriptions s WHERE sqlc.narg('bot_ids')::text[] IS NULL AND s.event_type = @event_type
        UNION ALL
        SELECT s.webhook_id, s.bot_id
        FROM (SELECT DISTINCT unnest(sqlc.narg('bot_ids')::text[]) AS id) AS bot
        JOIN subscriptions s ON s.bot_id = bot.id AND s.event_type = @event_type
    ) AS audience
) AS numbered
WHERE numbered.n % @page_size::bigint = 0
ORDER BY numbered.webhook_id;

-- name: GetTarget :one
-- What a delivery to a webhook needs, read at the time of the attempt.
SELECT w.id, w.bot_id, w.url, w.secret, (CASE WHEN w.previous_secret_until > now() THEN w.previous_secret END)::bytea AS previous_secret,
       w.is_active, w.queued, w.failure_count, w.failure_run, w.generation, coalesce(w.resume_at > now(), false)::boolean AS paused,
       (w.events @> ARRAY[@event_type::text])::boolean AS subscribed
FROM webhooks w
WHERE w.id = @id;
