-- The fuse: internal/history/fuse.go.

-- name: IsFuseBlown :one
SELECT EXISTS (SELECT FROM fuses WHERE class = @class AND reset_at IS NULL);

-- name: BlownSince :one
-- No row: it is not blown.
SELECT blown_at FROM fuses WHERE class = @class AND reset_at IS NULL;

-- name: DisabledByClass :many
-- The webhooks that one class of failure has disabled in a span, and that are disabled still. @until NULL: up to now.
SELECT id, bot_id, origin FROM webhooks
WHERE NOT is_active AND disabled_reason = 'failures' AND failure_class = @class
  AND disabled_at >= @since AND disabled_at <= coalesce(sqlc.narg('until')::timestamptz, 'infinity');

-- name: CountActiveWebhooks :one
SELECT count(*) FROM webhooks WHERE is_active;

-- name: BotsWithActiveWebhooks :many
-- The first @most of them that are found.
SELECT DISTINCT bot_id FROM webhooks WHERE is_active LIMIT @most;

-- name: BlowFuse :exec
-- One that was reset, and is not undone yet, blows again with what it has to undo. For a day, no webhook is said to be failing.
WITH noted AS (UPDATE failing_passes SET fuse_at = now())
INSERT INTO fuses (class) VALUES (@class) ON CONFLICT (class) DO UPDATE SET reset_at = NULL;

-- name: ListFuses :many
-- Those that are blown.
SELECT class, blown_at FROM fuses WHERE reset_at IS NULL ORDER BY class;

-- name: FusesToUndo :many
-- Those that are blown, and those that were reset and not undone since.
SELECT class, blown_at, reset_at FROM fuses ORDER BY class;

-- name: ResetFuse :many
-- Since when it was blown; nothing: it is not.
UPDATE fuses SET reset_at = now() WHERE class = @class AND reset_at IS NULL RETURNING blown_at;

-- name: RemoveFuse :exec
-- Removes one that was reset and is undone. It stays for a minute: a transaction that began before the reset may yet commit
-- a webhook that the class disabled.
DELETE FROM fuses WHERE class = @class AND reset_at < now() - interval '1 minute';

-- name: UndoDisabling :execrows
-- Enables a webhook again that failures disabled, as if they had not. It is locked.
UPDATE webhooks SET is_active = true, queued = true, failure_count = 0, early_failures = 0, resume_at = NULL,
    failing_since = NULL, enabled_at = now(),
    disabled_reason = NULL, disabled_by = NULL, updated_at = now(), generation = generation + 1
WHERE id = @id AND NOT is_active AND disabled_reason = 'failures';
