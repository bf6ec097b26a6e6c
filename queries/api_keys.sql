-- name: CreateKey :one
INSERT INTO api_keys (id, bot_id, key_hash) VALUES (@id, @bot_id, @key_hash) RETURNING id, bot_id, created_at;

-- name: BotByKey :one
SELECT bot_id FROM api_keys WHERE key_hash = @key_hash;

-- name: DeleteKey :execrows
DELETE FROM api_keys WHERE id = @id AND bot_id = @bot_id;

-- name: ListKeys :many
SELECT id, created_at FROM api_keys WHERE bot_id = @bot_id ORDER BY created_at, id;
