-- name: CreateKey :one
INSERT INTO api_keys (id, bot_id, key_hash) VALUES (@id, @bot_id, @key_hash) RETURNING id, bot_id, created_at;

-- name: CountKeys :one
SELECT count(*) FROM api_keys WHERE bot_id = @bot_id;

-- name: BotByKey :one
SELECT k.id, k.bot_id, b.is_active FROM api_keys k JOIN bots b ON b.id = k.bot_id WHERE k.key_hash = @key_hash;

-- name: KeyHashes :many
SELECT key_hash FROM api_keys;

-- name: IsKeysBotActive :one
SELECT b.is_active FROM api_keys k JOIN bots b ON b.id = k.bot_id WHERE k.id = @id;

-- name: DeleteKey :execrows
DELETE FROM api_keys WHERE id = @id AND bot_id = @bot_id;

-- name: ListKeys :many
SELECT id, created_at FROM api_keys WHERE bot_id = @bot_id ORDER BY created_at, id;
