-- What owners have yet to be told of: the recording of a delivery that disables a webhook writes it (UpdateCounters).

-- name: ListNotices :many
SELECT n.webhook_id, n.generation, n.failure_count, n.disabled_at, n.event_id, n.last_error, w.bot_id, w.origin
FROM disabled_notices n
JOIN webhooks w ON w.id = n.webhook_id
ORDER BY n.disabled_at, n.webhook_id
LIMIT @page_size;

-- name: DeleteNotice :exec
DELETE FROM disabled_notices WHERE webhook_id = @webhook_id AND generation = @generation;
