-- Incidents: internal/history/incident.go, incident_plan.go.

-- name: PlanIncident :many
-- What an incident is about: how many webhooks each error disabled, the most frequent first, each with how many there are of
-- webhooks, bots and hosts in all, and a sample of the webhooks.
WITH matched AS MATERIALIZED (
    SELECT w.id, w.bot_id, split_part(w.origin, '//', 2) AS host, w.failure_class AS class, coalesce(d.error, '') AS error
    FROM webhooks w
    LEFT JOIN LATERAL (SELECT error FROM deliveries WHERE id = w.disabled_by LIMIT 1) AS d ON true
    WHERE NOT w.is_active AND NOT w.suspended AND w.disabled_reason = 'failures'
      AND w.disabled_at BETWEEN @disabled_since AND @disabled_until
      AND (cardinality(@errors::text[]) = 0 OR w.failure_class = ANY (@errors::text[]) OR d.error = ANY (@errors::text[]))
      AND (cardinality(@bot_ids::text[]) = 0 OR w.bot_id = ANY (@bot_ids::text[]))
)
SELECT m.class, m.error, count(*) AS webhooks, count(*) OVER () AS kinds,
       (SELECT count(*) FROM matched) AS all_webhooks,
       (SELECT count(*) FROM (SELECT DISTINCT b.bot_id FROM matched b) AS bots) AS bots,
       (SELECT count(*) FROM (SELECT DISTINCT h.host FROM matched h) AS hosts) AS hosts,
       (SELECT array_agg(s.id)
        FROM (SELECT r.id FROM matched r ORDER BY hashtextextended(r.id::text, 0) LIMIT @sample) AS s)::uuid[] AS sample
FROM matched m
GROUP BY m.class, m.error
ORDER BY webhooks DESC, m.class, m.error
LIMIT @most;

-- name: StartIncident :one
INSERT INTO incidents (id, disabled_since, disabled_until, errors, bot_ids, plan, actor_kind, actor_id, actor_name, client, request)
VALUES (@id, @disabled_since, @disabled_until, @errors, @bot_ids, @plan, @actor_kind, @actor_id, @actor_name, @client, @request)
RETURNING *;

-- name: AddIncidentWebhooks :execrows
-- The webhooks that PlanIncident counts.
INSERT INTO incident_webhooks (incident_id, webhook_id, bot_id, generation, turn)
SELECT i.id, w.id, w.bot_id, w.generation, row_number() OVER (PARTITION BY w.bot_id ORDER BY w.disabled_at, w.id)
FROM incidents i
JOIN webhooks w ON w.disabled_at BETWEEN i.disabled_since AND i.disabled_until
LEFT JOIN LATERAL (SELECT error FROM deliveries WHERE id = w.disabled_by LIMIT 1) AS d ON true
WHERE i.id = @incident_id AND NOT w.is_active AND NOT w.suspended AND w.disabled_reason = 'failures'
  AND (cardinality(i.errors) = 0 OR w.failure_class = ANY (i.errors) OR d.error = ANY (i.errors))
  AND (cardinality(i.bot_ids) = 0 OR w.bot_id = ANY (i.bot_ids));

-- name: GetIncident :one
SELECT * FROM incidents WHERE id = @id;

-- name: ListIncidents :many
-- Newest first, from the one before @before on. Ids are in the order of their making.
SELECT * FROM incidents
WHERE sqlc.narg('before')::uuid IS NULL OR id < sqlc.narg('before')::uuid
ORDER BY id DESC
LIMIT @most;

-- name: CountIncident :many
-- How many of an incident's webhooks are in each state, for each reason.
SELECT state, reason, count(*) AS webhooks FROM incident_webhooks WHERE incident_id = @incident_id GROUP BY state, reason
ORDER BY webhooks DESC, state, reason;

-- name: LockIncident :one
SELECT * FROM incidents WHERE id = @id FOR UPDATE;

-- name: SetIncidentState :one
UPDATE incidents SET state = @state, updated_at = now() WHERE id = @id RETURNING *;

-- name: TouchIncident :exec
UPDATE incidents SET updated_at = now() WHERE id = @id;

-- name: EndIncident :execrows
-- A running one is completed.
UPDATE incidents SET state = CASE state WHEN 'running' THEN 'completed' ELSE state END, ended_at = now(), updated_at = now(),
    outcome = @outcome
WHERE id = @id AND ended_at IS NULL AND state IN ('running', 'cancelled');

-- name: IncidentToEnable :many
SELECT webhook_id, generation FROM incident_webhooks WHERE incident_id = @incident_id AND state = 'found' ORDER BY turn LIMIT @most;

-- name: IncidentToRecover :many
-- The next of each bot of which no recovery has work, among the 300 that are next in turn: to look at all bots takes seconds in a
-- large incident, each second. What a pause covers waits for its end, and a webhook whose recovery runs for that. By scalar
-- subqueries, as of NOT EXISTS Postgres may make one scan of all.
SELECT x.webhook_id
FROM (
    SELECT DISTINCT ON (f.bot_id) f.webhook_id, f.bot_id, f.turn
    FROM (
        SELECT e.webhook_id, e.bot_id, e.turn FROM incident_webhooks e
        WHERE e.incident_id = @incident_id AND e.state = 'enabled'
          AND e.bot_id NOT IN (SELECT w.bot_id FROM busy_recoveries(@ahead_seconds) r JOIN webhooks w ON w.id = r.webhook_id)
          AND (SELECT true FROM webhooks w CROSS JOIN LATERAL pauses_of(w.bot_id, w.origin) WHERE w.id = e.webhook_id LIMIT 1) IS NULL
          AND (SELECT true FROM recoveries r WHERE r.webhook_id = e.webhook_id AND r.state = 'running' LIMIT 1) IS NULL
        ORDER BY e.turn
        LIMIT 300
    ) AS f
    ORDER BY f.bot_id, f.turn
) AS x
ORDER BY x.turn, x.bot_id
LIMIT @most;

-- name: ClaimIncidentWebhook :one
-- Locks a webhook's row, unless it is in another state by now, and the incident in its own, unless that does not run.
SELECT x.webhook_id
FROM incident_webhooks x
JOIN incidents i ON i.id = x.incident_id
WHERE x.incident_id = @incident_id AND x.webhook_id = @webhook_id AND x.state = @state AND i.state = 'running'
FOR UPDATE OF x FOR SHARE OF i;

-- name: MarkIncidentWebhook :exec
UPDATE incident_webhooks SET state = @state, reason = @reason, recovery_id = coalesce(sqlc.narg('recovery_id')::uuid, recovery_id)
WHERE incident_id = @incident_id AND webhook_id = @webhook_id;

-- name: SettleIncident :exec
-- Takes over how recoveries ended. That of a webhook that was deleted is gone with it.
UPDATE incident_webhooks x
SET state = CASE WHEN e.state IS NULL THEN 'skipped' WHEN e.state = 'completed' THEN 'recovered' ELSE 'failed' END,
    reason = CASE
        WHEN e.state IS NULL THEN 'webhook deleted'
        WHEN e.state = 'completed' THEN ''
        WHEN e.state = 'cancelled' THEN 'recovery cancelled'
        ELSE coalesce(e.last_error, '')
    END
FROM (
    SELECT o.webhook_id, r.state, r.last_error
    FROM incident_webhooks o
    LEFT JOIN recoveries r ON r.id = o.recovery_id
    WHERE o.incident_id = @incident_id AND o.state = 'recovering' AND r.state IS DISTINCT FROM 'running'
) AS e
WHERE x.incident_id = @incident_id AND x.webhook_id = e.webhook_id AND x.state = 'recovering';

-- name: RecoveringOfIncident :many
-- The recoveries by this incident that are running.
SELECT r.webhook_id, r.id FROM incident_webhooks x JOIN recoveries r ON r.id = x.recovery_id
WHERE x.incident_id = @incident_id AND x.state = 'recovering' AND r.state = 'running';

-- name: BusyOfIncident :one
-- How many of an incident's recoveries have work.
SELECT count(*) FROM incident_webhooks x JOIN busy_recoveries(@ahead_seconds) r ON r.id = x.recovery_id
WHERE x.incident_id = @incident_id AND x.state = 'recovering';

-- name: StalledIncidents :many
-- Those that have something to do and have not moved for so many seconds: their workflow may never have started.
SELECT id FROM incidents
WHERE ended_at IS NULL AND state IN ('running', 'cancelled') AND updated_at < now() - make_interval(secs => @seconds::float8)
ORDER BY id
LIMIT 100;

-- name: RemoveIncidents :exec
-- Those that ended before a time.
DELETE FROM incidents WHERE ended_at < @before;
