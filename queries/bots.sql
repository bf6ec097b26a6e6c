-- name: CreateBot :one
INSERT INTO bots (id, name, notify_url, notify_secret) VALUES (@id, @name, sqlc.narg('notify_url'), sqlc.narg('notify_secret')) RETURNING *;

-- name: GetBot :one
SELECT * FROM bots WHERE id = @id;

-- name: FindBots :many
-- The bots of that id or name, at most two: enough to tell whether the name says which.
SELECT * FROM bots WHERE id = @id OR name = @name ORDER BY (id = @id) DESC, created_at LIMIT 2;

-- name: LockBot :exec
-- Holds off others that make webhooks for the bot or change it, until the transaction ends.
SELECT 1 FROM bots WHERE id = @id FOR NO KEY UPDATE;

-- name: SetNotify :one
UPDATE bots SET notify_url = sqlc.narg('notify_url'), notify_secret = sqlc.narg('notify_secret') WHERE id = @id RETURNING *;

-- name: SetBotActive :exec
UPDATE bots SET is_active = @is_active WHERE id = @id;

-- name: WebhooksOfBot :many
SELECT id FROM webhooks WHERE bot_id = @bot_id;

-- name: SuspendWebhooks :exec
-- The locks of the webhooks are held. What an active one misses from now on is recovered like that of a disabled one.
UPDATE webhooks
SET suspended = true, disabled_at = CASE WHEN is_active THEN now() ELSE disabled_at END, updated_at = now()
WHERE bot_id = @bot_id AND NOT suspended;

-- name: ResumeWebhooks :exec
UPDATE webhooks
SET suspended = false, enabled_at = CASE WHEN is_active THEN now() ELSE enabled_at END, updated_at = now()
WHERE bot_id = @bot_id AND suspended;

-- name: ListNotifySealedOtherwise :many
-- Bots whose notify URL or secret another key than that of the prefix has sealed.
SELECT id, notify_url, notify_secret
FROM bots
WHERE id > @after
  AND (substring(notify_url FROM 1 FOR 5) <> @key_prefix::bytea OR substring(notify_secret FROM 1 FOR 5) <> @key_prefix::bytea)
ORDER BY id
LIMIT @page_size;

-- name: ResealNotify :execrows
-- Changes nothing when the URL or the secret was changed meanwhile.
UPDATE bots SET notify_url = @notify_url, notify_secret = @notify_secret
WHERE id = @id AND notify_url = @old_notify_url AND notify_secret = @old_notify_secret;
