-- name: WebhookStates :one
-- For the gauges of what waits: reads a whole table, so it is asked rarely. A bot fails while one of its webhooks does, and for
-- an hour after failures disabled one.
WITH bots AS (
    SELECT count(*) FILTER (WHERE is_active AND NOT queued) AS direct, count(*) FILTER (WHERE is_active AND queued) AS queued,
           count(*) FILTER (WHERE NOT is_active) AS disabled, bool_or(is_active) AS active,
           bool_or(is_active AND failure_count > 0 OR disabled_reason = 'failures' AND disabled_at > now() - interval '1 hour') AS failing
    FROM webhooks GROUP BY bot_id
)
SELECT coalesce(sum(direct), 0)::bigint AS direct, coalesce(sum(queued), 0)::bigint AS queued,
       coalesce(sum(disabled), 0)::bigint AS disabled,
       count(*) FILTER (WHERE failing) AS bots_failing, count(*) FILTER (WHERE active AND failing IS NOT TRUE) AS bots_healthy,
       (SELECT count(*) FROM (SELECT FROM queue LIMIT 100000) AS counted) AS queue_rows,
       (SELECT count(*) FROM fuses WHERE reset_at IS NULL) AS fuses_blown
FROM bots;
