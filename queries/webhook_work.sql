-- name: WebhooksAtWork :many
-- Of some webhooks, how many deliveries wait, @most_counted at most, and the recovery that is running.
SELECT w.id::uuid AS id,
       (SELECT count(*) FROM (SELECT FROM queue q WHERE q.webhook_id = w.id LIMIT @most_counted::bigint) AS counted) AS waiting,
       (r.id IS NOT NULL)::boolean AS recovering, coalesce(r.found, 0)::integer AS found,
       coalesce(r.delivered + r.failed, 0)::integer AS done
FROM unnest(@webhook_ids::uuid[]) AS w (id)
LEFT JOIN recoveries r ON r.webhook_id = w.id AND r.state = 'running';
