-- name: CreateKey :one
INSERT INTO api_keys (id, bot_id, key_hash, name, prefix, creator_kind, creator_name)
VALUES (@id, @bot_id, @key_hash, @name, @prefix, @creator_kind, @creator_name)
RETURNING *;

-- name: CountKeys :one
SELECT count(*) FROM api_keys WHERE bot_id = @bot_id;

-- name: BotByKey :one
SELECT k.id, k.bot_id, k.name, k.prefix, b.is_active, b.suspended_reason
FROM api_keys k JOIN bots b ON b.id = k.bot_id
WHERE k.key_hash = @key_hash;

-- name: SecretHashes :many
SELECT key_hash FROM api_keys
UNION ALL SELECT code_hash FROM portal_links
UNION ALL SELECT token_hash FROM portal_sessions;

-- name: BotOfKey :one
SELECT b.is_active, b.suspended_reason FROM api_keys k JOIN bots b ON b.id = k.bot_id WHERE k.id = @id;

-- name: DeleteKey :one
DELETE FROM api_keys WHERE id = @id AND bot_id = @bot_id RETURNING name, prefix;

-- name: ListKeys :many
SELECT * FROM api_keys WHERE bot_id = @bot_id ORDER BY created_at, id;

-- name: TouchKey :exec
-- Another process may have done so just now.
UPDATE api_keys SET last_used_at = now() WHERE id = @id AND (last_used_at IS NULL OR last_used_at < now() - interval '30 seconds');

-- name: KeyByHash :many
SELECT * FROM api_keys WHERE key_hash = @key_hash;

-- name: KeysByPrefix :many
-- No character of a key comes after ~. With LIKE, Postgres would use no index where it plans for any pattern.
SELECT * FROM api_keys
WHERE prefix COLLATE "C" BETWEEN @beginning::text AND @beginning::text || '~'
ORDER BY created_at, id
LIMIT @most;
