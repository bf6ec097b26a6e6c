-- Who changed what: internal/audit.

-- name: WriteAudit :exec
INSERT INTO audit_log (id, bot_id, action, subject, before, after, actor_kind, actor_id, actor_name, actor_key_id, actor_link_id,
    client, request)
VALUES (@id, @bot_id, @action, @subject, @before, @after, @actor_kind, @actor_id, @actor_name, sqlc.narg('actor_key_id'),
    sqlc.narg('actor_link_id'), @client, @request);

-- name: ListAudit :many
-- Newest first, before the entry @before_id or from the newest on. Before one that is not kept any more there is none.
SELECT *
FROM audit_log a
WHERE sqlc.narg('before_id')::uuid IS NULL OR (a.at, a.id) < (SELECT b.at, b.id FROM audit_log b WHERE b.id = sqlc.narg('before_id')::uuid)
ORDER BY a.at DESC, a.id DESC
LIMIT @most;

-- name: ListAuditOfBot :many
-- The same of one bot. own: as the bot may see it, without what is of an earlier bot that had the id.
SELECT *
FROM audit_log a
WHERE a.bot_id = @bot_id
  AND a.at >= coalesce((SELECT o.created_at FROM bots o WHERE @own::boolean AND o.id = @bot_id), '-infinity')
  AND (sqlc.narg('before_id')::uuid IS NULL
      OR (a.at, a.id) < (SELECT b.at, b.id FROM audit_log b WHERE b.id = sqlc.narg('before_id')::uuid AND b.bot_id = @bot_id))
ORDER BY a.at DESC, a.id DESC
LIMIT @most;

-- name: RemoveAudit :execrows
DELETE FROM audit_log WHERE id IN (SELECT o.id FROM audit_log o WHERE o.at < @before ORDER BY o.at LIMIT @most);

-- name: TrimAudit :exec
-- Removes what a bot's keys, sessions and webhooks did before the last @kept entries of that: a hundred, as one comes at a time.
DELETE FROM audit_log WHERE id IN (
    SELECT o.id FROM audit_log o
    WHERE o.bot_id = @bot_id AND o.actor_kind IN ('key', 'portal', 'system')
    ORDER BY o.at DESC, o.id DESC
    LIMIT 100 OFFSET @kept
);
