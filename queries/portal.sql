-- name: CreatePortalLink :exec
INSERT INTO portal_links (code_hash, id, bot_id, role, label, next, key_id, expires_at)
VALUES (@code_hash, @id, @bot_id, @role, @label, @next, sqlc.narg('key_id'), @expires_at);

-- name: TrimPortalLinks :exec
-- Keeps the links that were made last, however long each lasts.
DELETE FROM portal_links WHERE code_hash IN (
    SELECT l.code_hash FROM portal_links l WHERE l.bot_id = @bot_id ORDER BY l.created_at DESC, l.code_hash OFFSET sqlc.arg('most')::int
);

-- name: TakePortalLink :one
-- A link works once: of several at once, one finds it.
DELETE FROM portal_links WHERE code_hash = @code_hash AND expires_at > now()
RETURNING id, bot_id, role, label, next, key_id, (SELECT b.is_active FROM bots b WHERE b.id = bot_id)::bool AS is_active;

-- name: CreatePortalSession :exec
INSERT INTO portal_sessions (id, token_hash, bot_id, role, label, key_id, link_id)
VALUES (@id, @token_hash, @bot_id, @role, @label, sqlc.narg('key_id'), sqlc.narg('link_id'));

-- name: TrimPortalSessions :exec
-- Keeps the bot's newest sessions.
DELETE FROM portal_sessions WHERE id IN (
    SELECT s.id FROM portal_sessions s WHERE s.bot_id = @bot_id ORDER BY s.created_at DESC, s.id DESC OFFSET sqlc.arg('most')::int
);

-- name: PortalSession :one
SELECT sqlc.embed(s), b.name, b.is_active, b.suspended_reason, coalesce(k.name, '')::text AS key_name,
       coalesce(k.prefix, '')::text AS key_prefix
FROM portal_sessions s JOIN bots b ON b.id = s.bot_id LEFT JOIN api_keys k ON k.id = s.key_id
WHERE s.token_hash = @token_hash AND s.created_at > @created_after AND s.last_used_at > @used_after;

-- name: TouchPortalSession :exec
UPDATE portal_sessions SET last_used_at = now() WHERE id = @id;

-- name: TakePortalForm :execrows
UPDATE portal_sessions SET last_form = @form::uuid WHERE id = @id AND last_form IS DISTINCT FROM @form::uuid;

-- name: ListPortalSessions :many
SELECT sqlc.embed(s), b.name, coalesce(k.name, '')::text AS key_name, coalesce(k.prefix, '')::text AS key_prefix
FROM portal_sessions s JOIN bots b ON b.id = s.bot_id LEFT JOIN api_keys k ON k.id = s.key_id
WHERE s.bot_id = @bot_id AND b.is_active AND s.created_at > @created_after AND s.last_used_at > @used_after
ORDER BY s.created_at DESC, s.id DESC;

-- name: EndPortalSession :one
DELETE FROM portal_sessions WHERE id = @id AND bot_id = @bot_id RETURNING role, label, key_id, link_id;

-- name: EndPortal :exec
-- Ends all of a bot's sessions and links.
WITH links AS (DELETE FROM portal_links WHERE portal_links.bot_id = @bot_id)
DELETE FROM portal_sessions WHERE portal_sessions.bot_id = @bot_id;

-- name: EndPortalSessions :exec
-- Ends all of a bot's sessions, and no link.
DELETE FROM portal_sessions WHERE bot_id = @bot_id;

-- name: RemoveExpiredPortal :exec
WITH links AS (DELETE FROM portal_links WHERE expires_at <= now())
DELETE FROM portal_sessions s WHERE s.created_at <= @created_before OR s.last_used_at <= @used_before;
