-- Pauses: internal/history/pauses.go. pauses_of, in the schema, says which cover a webhook.

-- name: ListPauses :many
-- In the order of their scopes and values, after one on.
SELECT * FROM pauses WHERE (scope, value) > (@after_scope::text, @after_value::text) ORDER BY scope, value LIMIT @most;

-- name: GetPause :one
SELECT * FROM pauses WHERE scope = @scope AND value = @value;

-- name: SetPause :one
-- One that there is gets the reason, and with another one who gives it, and goes on.
INSERT INTO pauses (scope, value, reason, created_by) VALUES (@scope, @value, @reason, @created_by)
ON CONFLICT (scope, value) DO UPDATE SET reason = excluded.reason,
    created_by = CASE pauses.reason WHEN excluded.reason THEN pauses.created_by ELSE excluded.created_by END
RETURNING *;

-- name: EndPause :one
DELETE FROM pauses WHERE scope = @scope AND value = @value RETURNING *;

-- name: PausedWebhooks :many
-- Of some webhooks those that are paused, each with the pause that has covered it the longest.
SELECT w.id, p.scope, p.value, p.reason, p.created_by, p.created_at
FROM webhooks w
CROSS JOIN LATERAL (SELECT * FROM pauses_of(w.bot_id, w.origin) ORDER BY created_at, scope, value LIMIT 1) AS p
WHERE w.id = ANY (@ids::uuid[]) AND EXISTS (SELECT FROM pauses);

-- name: PausesOfBot :many
-- The pauses that cover any of a bot's webhooks.
SELECT p.* FROM pauses p
WHERE EXISTS (SELECT FROM webhooks w CROSS JOIN LATERAL pauses_of(w.bot_id, w.origin) AS c
    WHERE w.bot_id = @bot_id AND c.scope = p.scope AND c.value = p.value)
ORDER BY p.created_at, p.scope, p.value;

-- name: LastResumed :one
-- When a pause last ended, or long ago.
SELECT greatest(resumed_at, 'epoch')::timestamptz AS at FROM queue_sweeps;

-- name: PausesByScope :one
SELECT count(*) FILTER (WHERE scope = 'all') AS of_all, count(*) FILTER (WHERE scope = 'bot') AS of_bots,
       count(*) FILTER (WHERE scope = 'host') AS of_hosts
FROM pauses;

-- name: KeepsQueued :one
-- Whether what stands in the queues is kept beyond the retention: deliveries are paused, or were in the last @seconds.
SELECT (EXISTS (SELECT FROM pauses)
    OR EXISTS (SELECT FROM queue_sweeps WHERE resumed_at > now() - make_interval(secs => @seconds::float8)))::boolean AS keeps;
