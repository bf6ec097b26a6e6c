-- An event for operators: api/event_detail.go. An event may go to any number of webhooks, and a person may have it sent to
-- one of them any number of times. So no statement reads more than @most_read rows of deliveries and of queue each, in the
-- order of webhook ids. What was read to that limit ends with a webhook that is not whole, and says nothing of those after
-- it: "upto" is the last that is whole. Where the first already has too many rows, it is taken as it is, so that there
-- is always a next page. LIMIT (SELECT …): Postgres makes one plan for all numbers, and need not make it again.

-- name: CountEventWebhooks :one
-- The webhooks that an event was sent to or is planned for, by outcome. is_cut: not all were counted.
WITH attempts AS MATERIALIZED (
    SELECT d.webhook_id, d.success
    FROM deliveries d
    WHERE d.event_id = @event_id AND d.id >= (SELECT first_delivery(e.accepted_at) FROM events e WHERE e.id = @event_id)
    ORDER BY d.webhook_id
    LIMIT (SELECT @most_read::integer)
), planned AS MATERIALIZED (
    SELECT q.webhook_id, q.trigger
    FROM queue q
    WHERE q.event_id = @event_id
    ORDER BY q.webhook_id
    LIMIT (SELECT @most_read::integer)
), cut AS MATERIALIZED (
    SELECT c.webhook_id
    FROM (
        (SELECT a.webhook_id FROM attempts a WHERE (SELECT count(*) FROM attempts) = @most_read::integer ORDER BY a.webhook_id DESC LIMIT 1)
        UNION ALL
        (SELECT p.webhook_id FROM planned p WHERE (SELECT count(*) FROM planned) = @most_read::integer ORDER BY p.webhook_id DESC LIMIT 1)
    ) AS c
    ORDER BY c.webhook_id
    LIMIT 1
), known AS MATERIALIZED (
    SELECT coalesce(a.webhook_id, p.webhook_id) AS webhook_id, coalesce(a.delivered, false) AS delivered,
           a.delivered IS NOT NULL AS attempted, p.trigger
    FROM (SELECT webhook_id, bool_or(success) AS delivered FROM attempts GROUP BY webhook_id) AS a
    FULL JOIN planned p ON p.webhook_id = a.webhook_id
), upto AS MATERIALIZED (
    SELECT coalesce((SELECT k.webhook_id FROM known k WHERE k.webhook_id < cut.webhook_id ORDER BY k.webhook_id DESC LIMIT 1),
        cut.webhook_id) AS webhook_id
    FROM cut
)
SELECT count(*) FILTER (WHERE k.delivered) AS delivered,
       count(*) FILTER (WHERE NOT k.delivered AND w.is_planned) AS waiting,
       count(*) FILTER (WHERE NOT k.delivered AND k.attempted AND w.is_planned IS NOT TRUE) AS failed,
       EXISTS (SELECT FROM cut) AS is_cut
FROM known k
LEFT JOIN LATERAL (
    -- To a disabled webhook nothing is sent but what a person asked for. LIMIT: each is looked up by its id.
    SELECT h.is_active OR k.trigger IN ('test', 'redeliver', 'verify') AS is_planned
    FROM webhooks h
    WHERE h.id = k.webhook_id AND k.trigger IS NOT NULL AND NOT k.delivered
    LIMIT 1
) AS w ON true
WHERE k.webhook_id <= coalesce((SELECT u.webhook_id FROM upto u), 'ffffffff-ffff-ffff-ffff-ffffffffffff');

-- name: ListEventWebhooks :many
-- The same webhooks from after @after on, of one outcome or, where that is empty, of any; and, wanted or not, the last
-- that was looked at where there may be more (is_last). Attempts are those that were made.
WITH attempts AS MATERIALIZED (
    SELECT d.webhook_id, d.attempt, d.success, d.status_code, d.error, d.attempted_at
    FROM deliveries d
    WHERE d.event_id = @event_id AND d.webhook_id > @after
      AND d.id >= (SELECT first_delivery(e.accepted_at) FROM events e WHERE e.id = @event_id)
    ORDER BY d.webhook_id
    LIMIT (SELECT @most_read::integer)
), planned AS MATERIALIZED (
    SELECT q.webhook_id, q.trigger, q.due_at
    FROM queue q
    WHERE q.event_id = @event_id AND q.webhook_id > @after
    ORDER BY q.webhook_id
    LIMIT (SELECT @most_read::integer)
), cut AS MATERIALIZED (
    SELECT c.webhook_id
    FROM (
        (SELECT a.webhook_id FROM attempts a WHERE (SELECT count(*) FROM attempts) = @most_read::integer ORDER BY a.webhook_id DESC LIMIT 1)
        UNION ALL
        (SELECT p.webhook_id FROM planned p WHERE (SELECT count(*) FROM planned) = @most_read::integer ORDER BY p.webhook_id DESC LIMIT 1)
    ) AS c
    ORDER BY c.webhook_id
    LIMIT 1
), known AS MATERIALIZED (
    SELECT coalesce(a.webhook_id, p.webhook_id) AS webhook_id, coalesce(a.attempts, 0) AS attempts,
           coalesce(a.delivered, false) AS delivered,
           a.status_code, a.error, a.attempted_at, p.trigger, p.due_at
    FROM (
        SELECT DISTINCT ON (l.webhook_id) l.webhook_id, l.status_code, l.error, l.attempted_at,
               count(*) OVER of_webhook AS attempts, bool_or(l.success) OVER of_webhook AS delivered
        FROM attempts l
        WINDOW of_webhook AS (PARTITION BY l.webhook_id)
        ORDER BY l.webhook_id, l.attempt DESC
    ) AS a
    FULL JOIN planned p ON p.webhook_id = a.webhook_id
), upto AS MATERIALIZED (
    SELECT coalesce((SELECT k.webhook_id FROM known k WHERE k.webhook_id < cut.webhook_id ORDER BY k.webhook_id DESC LIMIT 1),
        cut.webhook_id) AS webhook_id
    FROM cut
), judged AS (
    SELECT k.*, w.bot_id, w.origin, w.is_active, w.resume_at, coalesce(w.is_planned, false) AS is_planned,
           CASE WHEN k.delivered THEN 'delivered' WHEN w.is_planned THEN 'waiting' WHEN k.attempts > 0 THEN 'failed' END AS outcome
    FROM known k
    LEFT JOIN LATERAL (
        SELECT h.bot_id, h.origin, h.is_active, h.resume_at,
               k.trigger IS NOT NULL AND (h.is_active OR k.trigger IN ('test', 'redeliver', 'verify')) AS is_planned
        FROM webhooks h
        WHERE h.id = k.webhook_id
        LIMIT 1
    ) AS w ON true
    WHERE k.webhook_id <= coalesce((SELECT u.webhook_id FROM upto u), 'ffffffff-ffff-ffff-ffff-ffffffffffff')
), marked AS (
    SELECT j.*, coalesce(j.origin IS NOT NULL AND @outcome::text IN ('', j.outcome), false) AND j.outcome IS NOT NULL AS is_wanted,
           coalesce(j.webhook_id = (SELECT u.webhook_id FROM upto u), false) AS is_last
    FROM judged j
)
SELECT m.webhook_id::uuid AS webhook_id, coalesce(m.bot_id, '')::text AS bot_id, coalesce(m.origin, '')::text AS origin,
       coalesce(m.is_active, false)::boolean AS is_active, m.attempts::bigint AS attempts, m.status_code, m.error,
       coalesce(m.attempted_at, 'epoch')::timestamptz AS attempted_at, m.is_planned::boolean AS is_planned,
       coalesce(m.due_at, 'epoch')::timestamptz AS due_at, m.resume_at, coalesce(m.outcome, '')::text AS outcome,
       m.is_wanted::boolean AS is_wanted, m.is_last::boolean AS is_last
FROM marked m
WHERE m.is_wanted OR m.is_last
ORDER BY m.webhook_id
LIMIT @most;
