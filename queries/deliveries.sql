-- name: ListDeliveries :many
SELECT d.id, d.webhook_id, d.event_id, e.type AS event_type, e.payload, d.attempt, d.status_code, d.response_body,
       d.error, d.success, d.duration_ms, d.attempted_at
FROM deliveries d
JOIN events e ON e.id = d.event_id
WHERE d.webhook_id = @webhook_id AND (sqlc.narg('id')::uuid IS NULL OR d.id = sqlc.narg('id')::uuid)
ORDER BY d.seq DESC
LIMIT @most;

-- name: DeleteDeliveries :exec
DELETE FROM deliveries WHERE webhook_id = @webhook_id;
