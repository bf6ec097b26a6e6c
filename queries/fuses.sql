-- The fuse: internal/history/fuse.go.

-- name: IsFuseBlown :one
SELECT EXISTS (SELECT FROM fuses WHERE class = @class);

-- name: DisabledByClass :many
-- The webhooks that one class of failure has disabled since a time, and that are disabled still.
SELECT id, bot_id, origin, disabled_at FROM webhooks
WHERE NOT is_active AND NOT suspended AND disabled_reason = 'failures' AND failure_class = @class AND disabled_at >= @since;

-- name: CountActiveWebhooks :one
SELECT count(*) FROM webhooks WHERE is_active;

-- name: BlowFuse :exec
INSERT INTO fuses (class) VALUES (@class) ON CONFLICT (class) DO NOTHING;

-- name: ListFuses :many
SELECT class, blown_at FROM fuses ORDER BY class;

-- name: ResetFuse :execrows
DELETE FROM fuses WHERE class = @class;

-- name: UndoDisabling :execrows
-- Enables webhooks again that failures disabled, as if they had not.
UPDATE webhooks SET is_active = true, queued = true, failure_count = 0, early_failures = 0, resume_at = NULL, enabled_at = now(),
    disabled_reason = NULL, disabled_by = NULL, updated_at = now(), generation = generation + 1
WHERE id = ANY (@ids::uuid[]) AND NOT is_active AND disabled_reason = 'failures';
