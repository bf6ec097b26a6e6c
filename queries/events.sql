-- name: InsertEvent :execrows
INSERT INTO events (id, type, payload, bot_ids, run_id)
VALUES (@id, @type, @payload, sqlc.narg('bot_ids')::text[], @run_id)
ON CONFLICT (id) DO NOTHING;

-- name: GetEvent :one
SELECT id, type, payload, bot_ids, run_id, accepted_at FROM events WHERE id = @id;

-- name: EventExists :one
SELECT EXISTS (SELECT FROM events WHERE id = @id);

-- name: ListSubscribers :many
-- A page of the webhooks an event goes to, in the order of their ids, from after @after on, without those of bots that
-- are held back.
SELECT id, bot_id, url, secret, failure_count, generation, is_slow
FROM webhooks
WHERE is_active
  AND events @> ARRAY[@event_type::text]
  AND (sqlc.narg('bot_ids')::text[] IS NULL OR bot_id = ANY (sqlc.narg('bot_ids')::text[]))
  AND NOT bot_id = ANY (@held::text[])
  AND id > @after
  AND id <= @upto
ORDER BY id
LIMIT @page_size;

-- name: HeldSubscribers :many
-- Which of the bots that are held back an event goes to.
SELECT DISTINCT bot_id
FROM webhooks
WHERE is_active
  AND events @> ARRAY[@event_type::text]
  AND (sqlc.narg('bot_ids')::text[] IS NULL OR bot_id = ANY (sqlc.narg('bot_ids')::text[]))
  AND bot_id = ANY (@held::text[])
  AND id > @after
  AND id <= @upto
ORDER BY bot_id;

-- name: LargeBots :many
-- The bots with more than @most webhooks in an event's audience.
SELECT bot_id
FROM webhooks
WHERE is_active
  AND events @> ARRAY[@event_type::text]
  AND (sqlc.narg('bot_ids')::text[] IS NULL OR bot_id = ANY (sqlc.narg('bot_ids')::text[]))
  AND NOT bot_id = ANY (@held::text[])
GROUP BY bot_id
HAVING count(*) > @most::bigint
ORDER BY bot_id;

-- name: NextOfBot :many
-- The webhooks of one bot that an event goes to and has not been sent to, in the order of their ids.
SELECT w.id, w.bot_id, w.url, w.secret, w.failure_count, w.generation, w.is_slow
FROM webhooks w
WHERE w.bot_id = @bot_id
  AND w.is_active
  AND w.events @> ARRAY[@event_type::text]
  AND w.id > @after
  AND w.id <= @upto
  AND NOT EXISTS (SELECT FROM deliveries d WHERE d.webhook_id = w.id AND d.event_id = @event_id)
ORDER BY w.id
LIMIT @page_size;

-- name: SubscriberPages :many
-- The last webhook id of every full page of an event's audience.
SELECT s.id::uuid AS id
FROM (
    SELECT id, row_number() OVER (ORDER BY id) AS n
    FROM webhooks
    WHERE is_active
      AND events @> ARRAY[@event_type::text]
      AND (sqlc.narg('bot_ids')::text[] IS NULL OR bot_id = ANY (sqlc.narg('bot_ids')::text[]))
      AND NOT bot_id = ANY (@held::text[])
) AS s
WHERE s.n % @page_size::bigint = 0
ORDER BY s.id;

-- name: GetTarget :one
-- What a delivery to a webhook needs, read at the time of the attempt.
SELECT w.id, w.bot_id, w.url, w.secret, w.is_active, w.failure_count, w.generation, w.is_slow,
       (w.events @> ARRAY[@event_type::text])::boolean AS subscribed
FROM webhooks w
WHERE w.id = @id;
