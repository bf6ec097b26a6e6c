-- name: WebhookStates :one
-- For the gauge mathub_webhooks: reads the whole table, so it is asked rarely.
SELECT count(*) FILTER (WHERE is_active) AS active, count(*) FILTER (WHERE NOT is_active) AS disabled FROM webhooks;
