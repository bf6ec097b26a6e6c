-- name: WebhookStates :one
-- For the gauges of what waits: reads a whole table, so it is asked rarely.
SELECT count(*) FILTER (WHERE is_active AND NOT queued) AS direct, count(*) FILTER (WHERE is_active AND queued) AS queued,
       count(*) FILTER (WHERE NOT is_active) AS disabled,
       (SELECT count(*) FROM (SELECT FROM queue LIMIT 100000) AS counted) AS queue_rows,
       (SELECT count(*) FROM fuses WHERE reset_at IS NULL) AS fuses_blown
FROM webhooks;
