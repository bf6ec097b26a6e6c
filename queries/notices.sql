-- What owners are still to be notified of: the recording of a delivery that disables a webhook writes it (UpdateCounters).

-- name: ListNotices :many
-- Those that no workflow was started for in so many seconds.
SELECT n.webhook_id, n.generation, n.host, w.bot_id
FROM disabled_notices n
JOIN webhooks w ON w.id = n.webhook_id
WHERE coalesce(n.started_at, '-infinity') < now() - make_interval(secs => @seconds::float8)
ORDER BY n.disabled_at, n.webhook_id
LIMIT @page_size;

-- name: NoticeStarted :exec
UPDATE disabled_notices SET started_at = now() WHERE webhook_id = @webhook_id AND generation = @generation;

-- name: GetNotice :one
-- What a notice says, and where it goes to at present.
SELECT n.host, n.failure_count, n.disabled_at, n.event_id, n.last_error, w.bot_id,
       b.notify_url, b.notify_secret, b.is_active
FROM disabled_notices n
JOIN webhooks w ON w.id = n.webhook_id
JOIN bots b ON b.id = w.bot_id
WHERE n.webhook_id = @webhook_id AND n.generation = @generation;

-- name: DeleteNotice :exec
DELETE FROM disabled_notices WHERE webhook_id = @webhook_id AND generation = @generation;
