-- name: InsertEvent :execrows
INSERT INTO events (id, type, payload, bot_ids, run_id)
VALUES (@id, @type, @payload, sqlc.narg('bot_ids')::text[], @run_id)
ON CONFLICT (id) DO NOTHING;

-- name: GetEvent :one
SELECT id, type, payload, bot_ids, run_id, accepted_at FROM events WHERE id = @id;

-- name: EventExists :one
SELECT EXISTS (SELECT FROM events WHERE id = @id);

-- name: ListSubscribers :many
-- A page of the webhooks an event goes to, in the order of their ids, from after @after on.
SELECT id, bot_id, url, secret, failure_count, generation, is_slow
FROM webhooks
WHERE is_active
  AND events @> ARRAY[@event_type::text]
  AND (sqlc.narg('bot_ids')::text[] IS NULL OR bot_id = ANY (sqlc.narg('bot_ids')::text[]))
  AND id > @after
  AND id <= @upto
ORDER BY id
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
) AS s
WHERE s.n % @page_size::bigint = 0
ORDER BY s.id;

-- name: GetTarget :one
-- What a delivery to a webhook needs, read at the time of the attempt.
SELECT w.id, w.bot_id, w.url, w.secret, w.is_active, w.failure_count, w.generation, w.is_slow,
       (w.events @> ARRAY[@event_type::text])::boolean AS subscribed
FROM webhooks w
WHERE w.id = @id;
