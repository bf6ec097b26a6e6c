-- name: NextAttempt :one
-- What a redelivery needs: the event of a delivery, the number of the attempt after the last, and when anyone was last sent
-- that event.
SELECT d.event_id,
       (SELECT max(l.attempt) + 1 FROM deliveries l WHERE l.webhook_id = d.webhook_id AND l.event_id = d.event_id)::integer AS attempt,
       (SELECT max(l.attempted_at) FROM deliveries l WHERE l.event_id = d.event_id)::timestamptz AS last_attempted_at
FROM deliveries d
WHERE d.id = @id AND d.webhook_id = @webhook_id;

-- name: CountMissed :one
SELECT count(*)
FROM events e
JOIN webhooks w ON w.id = @webhook_id
WHERE e.accepted_at >= @since AND e.accepted_at <= @until
  AND e.type = ANY (w.events)
  AND (e.bot_ids IS NULL OR w.bot_id = ANY (e.bot_ids))
  AND NOT EXISTS (SELECT FROM deliveries d WHERE d.webhook_id = w.id AND d.event_id = e.id AND d.success);

-- name: ListMissed :many
-- The events of a span that match the webhook's present subscription and were never delivered to it, oldest first,
-- each with the number of its next attempt.
SELECT e.id, e.accepted_at,
       (SELECT coalesce(max(d.attempt), 0) + 1 FROM deliveries d WHERE d.webhook_id = w.id AND d.event_id = e.id)::integer AS attempt
FROM events e
JOIN webhooks w ON w.id = @webhook_id
WHERE e.accepted_at >= @since AND e.accepted_at <= @until
  AND (e.accepted_at, e.id) > (@after_time::timestamptz, @after_id::text)
  AND e.type = ANY (w.events)
  AND (e.bot_ids IS NULL OR w.bot_id = ANY (e.bot_ids))
  AND NOT EXISTS (SELECT FROM deliveries d WHERE d.webhook_id = w.id AND d.event_id = e.id AND d.success)
ORDER BY e.accepted_at, e.id
LIMIT @page_size;
