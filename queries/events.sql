-- name: InsertEvent :execrows
INSERT INTO events (id, type, payload, bot_ids, run_id)
VALUES (@id, @type, @payload, sqlc.narg('bot_ids')::text[], @run_id)
ON CONFLICT (id) DO NOTHING;

-- name: GetEvent :one
SELECT id, type, payload, bot_ids, run_id, accepted_at FROM events WHERE id = @id;

-- name: EventExists :one
SELECT EXISTS (SELECT FROM events WHERE id = @id);

-- The audience of an event: every bot when its bot_ids are NULL, else those. The two are branches of a union, as one
-- condition for both would leave Postgres no index. What a lookup costs grows with what it returns only: see
-- TestTheAudienceIsReadFromIndexes.

-- name: ListSubscribers :many
-- A page of the webhooks an event goes to, in the order of their ids, from after @after on, without those of bots that
-- are held back.
SELECT w.id, w.bot_id, w.url, w.secret, (CASE WHEN w.previous_secret_until > now() THEN w.previous_secret END)::bytea AS previous_secret,
       w.failure_count, w.generation, w.is_slow
FROM (
    SELECT sqlc.narg('bot_ids')::text[] AS bot_ids, @event_type::text AS event_type, @after::uuid AS after, @upto::uuid AS upto, @held::text[] AS held
    OFFSET 0 -- one plan is the best for all arguments, so Postgres need not see them: planning anew takes longer than the lookup
) AS asked
CROSS JOIN LATERAL (
    (SELECT s.webhook_id
     FROM subscriptions s
     WHERE asked.bot_ids IS NULL
       AND s.event_type = asked.event_type
       AND s.webhook_id > asked.after AND s.webhook_id <= asked.upto
       AND NOT s.bot_id = ANY (asked.held)
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
     WHERE NOT bot.id = ANY (asked.held)
     ORDER BY s.webhook_id
     LIMIT (SELECT @page_size::integer))
) AS audience
-- LIMIT: each is looked up by its id, however many Postgres expects.
CROSS JOIN LATERAL (SELECT * FROM webhooks WHERE id = audience.webhook_id LIMIT 1) AS w
ORDER BY w.id;

-- name: HeldSubscribers :many
-- Which of the bots that are held back an event goes to.
SELECT DISTINCT s.bot_id
FROM subscriptions s
WHERE s.bot_id = ANY (@held::text[])
  AND s.event_type = @event_type
  AND (sqlc.narg('bot_ids')::text[] IS NULL OR s.bot_id = ANY (sqlc.narg('bot_ids')::text[]))
  AND s.webhook_id > @after AND s.webhook_id <= @upto
ORDER BY s.bot_id;

-- name: LargeBots :many
-- The bots with more than @most webhooks in an event's audience.
SELECT audience.bot_id::text AS bot_id
FROM (
    SELECT s.bot_id FROM subscriptions s WHERE sqlc.narg('bot_ids')::text[] IS NULL AND s.event_type = @event_type
    UNION ALL
    SELECT s.bot_id
    FROM (SELECT DISTINCT unnest(sqlc.narg('bot_ids')::text[]) AS id) AS bot
    JOIN subscriptions s ON s.bot_id = bot.id AND s.event_type = @event_type
) AS audience
WHERE NOT audience.bot_id = ANY (@held::text[])
GROUP BY audience.bot_id
HAVING count(*) > @most::bigint
ORDER BY audience.bot_id;

-- name: NextOfBot :many
-- The webhooks of one bot that an event goes to and has not been sent to, in the order of their ids.
SELECT w.id, w.bot_id, w.url, w.secret, (CASE WHEN w.previous_secret_until > now() THEN w.previous_secret END)::bytea AS previous_secret,
       w.failure_count, w.generation, w.is_slow
FROM subscriptions s
JOIN webhooks w ON w.id = s.webhook_id
WHERE s.bot_id = @bot_id
  AND s.event_type = @event_type
  AND s.webhook_id > @after
  AND s.webhook_id <= @upto
  AND NOT EXISTS (SELECT FROM deliveries d WHERE d.webhook_id = s.webhook_id AND d.event_id = @event_id)
ORDER BY s.webhook_id
LIMIT @page_size;

-- name: SubscriberPages :many
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
    WHERE NOT audience.bot_id = ANY (@held::text[])
) AS numbered
WHERE numbered.n % @page_size::bigint = 0
ORDER BY numbered.webhook_id;

-- name: GetTarget :one
-- What a delivery to a webhook needs, read at the time of the attempt.
SELECT w.id, w.bot_id, w.url, w.secret, (CASE WHEN w.previous_secret_until > now() THEN w.previous_secret END)::bytea AS previous_secret,
       w.is_active, w.failure_count, w.generation, w.is_slow,
       (w.events @> ARRAY[@event_type::text])::boolean AS subscribed
FROM webhooks w
WHERE w.id = @id;
