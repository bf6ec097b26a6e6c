-- name: CreateBot :one
INSERT INTO bots (id, name) VALUES (@id, @name) RETURNING *;

-- name: GetBot :one
SELECT * FROM bots WHERE id = @id;

-- name: FindBots :many
-- The bots of that id or name, at most two: enough to tell whether the name says which.
SELECT * FROM bots WHERE id = @name_or_id OR name = @name_or_id ORDER BY (id = @name_or_id) DESC, created_at LIMIT 2;

-- name: LockBot :exec
-- Holds off others that make webhooks for the bot, until the transaction ends.
SELECT 1 FROM bots WHERE id = @id FOR NO KEY UPDATE;
