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

-- name: SuspendBot :one
-- Said again, it was suspended then, for the reason that is given now, if one is.
UPDATE bots
SET is_active = false, suspended_at = coalesce(suspended_at, now()), suspended_reason = coalesce(sqlc.narg('reason'), suspended_reason)
WHERE id = @id
RETURNING *;

-- name: ReactivateBot :one
UPDATE bots SET is_active = true, suspended_at = NULL, suspended_reason = NULL WHERE id = @id RETURNING *;

-- name: BotsAfter :many
-- In the order of their ids, for operators.
SELECT * FROM bots WHERE id > @after ORDER BY id LIMIT @most;

-- name: SuspendedBotsAfter :many
SELECT * FROM bots WHERE NOT is_active AND id > @after ORDER BY id LIMIT @most;

-- name: CountWebhooksOfBots :many
-- Of some bots, what webhooks they have: @most_counted of each are looked at.
SELECT b.id::text AS bot_id, n.webhooks, n.active, n.disabled_by_failures
FROM unnest(@bot_ids::text[]) AS b (id)
CROSS JOIN LATERAL (
    SELECT count(*) AS webhooks, count(*) FILTER (WHERE h.is_active) AS active,
           count(*) FILTER (WHERE NOT h.is_active AND h.disabled_reason = 'failures') AS disabled_by_failures
    FROM (SELECT w.is_active, w.disabled_reason FROM webhooks w WHERE w.bot_id = b.id LIMIT @most_counted) AS h
) AS n;

-- name: CountSuspendedBots :one
SELECT count(*) FROM (SELECT FROM bots WHERE NOT is_active LIMIT @most) AS counted;

-- name: DeleteBot :execrows
-- With its webhooks, subscriptions, keys, links, sessions, recoveries and notices, which refer to it.
DELETE FROM bots WHERE id = @id;

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
