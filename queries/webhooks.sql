-- The bot's id is in every WHERE: another bot's webhook is as if it did not exist.

-- name: CreateWebhook :one
INSERT INTO webhooks (id, bot_id, url, events, secret)
VALUES (@id, @bot_id, @url, @events, @secret)
RETURNING *;

-- name: CountWebhooks :one
SELECT count(*) FROM webhooks WHERE bot_id = @bot_id;

-- name: ListWebhooks :many
SELECT * FROM webhooks WHERE bot_id = @bot_id ORDER BY created_at, id;

-- name: GetWebhook :one
SELECT * FROM webhooks WHERE id = @id AND bot_id = @bot_id;

-- name: UpdateWebhook :one
-- Changes what is given. Enabling raises the generation, so that failures which began before do not count.
UPDATE webhooks
SET url           = coalesce(sqlc.narg('url'), url),
    events        = coalesce(sqlc.narg('events')::text[], events),
    secret        = CASE WHEN @set_secret::boolean THEN sqlc.narg('secret')::bytea ELSE secret END,
    is_active     = coalesce(sqlc.narg('is_active')::boolean, is_active),
    failure_count = CASE WHEN sqlc.narg('is_active')::boolean THEN 0 ELSE failure_count END,
    generation    = CASE WHEN sqlc.narg('is_active')::boolean THEN generation + 1 ELSE generation END,
    disabled_at   = CASE WHEN is_active AND NOT sqlc.narg('is_active')::boolean THEN now() ELSE disabled_at END,
    updated_at    = now()
WHERE id = @id AND bot_id = @bot_id
RETURNING *;

-- name: DeleteWebhook :execrows
DELETE FROM webhooks WHERE id = @id AND bot_id = @bot_id;
