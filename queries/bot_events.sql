-- The events that concern a bot, for its owner.

-- name: PageOfBotEvents :many
-- The events accepted before @before_time and @before_id that concern a bot, newest first, and, wanted or not, the one numbered
-- @most_read: no more than so many are looked at. A type of '' is any.
SELECT looked_at.id, looked_at.type, looked_at.accepted_at, looked_at.bytes, looked_at.to_all, looked_at.n, looked_at.wanted
FROM (
    SELECT e.id, e.type, e.accepted_at, octet_length(e.payload) AS bytes, (e.bot_ids IS NULL)::boolean AS to_all,
           row_number() OVER (ORDER BY e.accepted_at DESC, e.id DESC) AS n,
           (e.type NOT IN ('test', 'webhook.verify') AND coalesce(e.bot_ids @> ARRAY[@bot_id::text], true) AND @event_type::text IN ('', e.type))::boolean AS wanted
    FROM events e
    WHERE (e.accepted_at, e.id) < (@before_time::timestamptz, @before_id::text)
    ORDER BY e.accepted_at DESC, e.id DESC
    LIMIT @most_read::bigint
) AS looked_at
WHERE looked_at.wanted OR looked_at.n = @most_read::bigint
ORDER BY looked_at.accepted_at DESC, looked_at.id DESC
LIMIT @most;

-- name: EventsAtWebhooks :many
-- What became of some events at some webhooks, where there was an attempt or one is planned.
SELECT pair.event_id::text AS event_id, pair.webhook_id::uuid AS webhook_id, made.attempts, made.delivered::boolean AS delivered,
       coalesce(last.id, '00000000-0000-0000-0000-000000000000')::uuid AS last_id, last.status_code, last.error,
       coalesce(last.attempted_at, 'epoch')::timestamptz AS attempted_at, q.due_at
FROM (
    SELECT ev.id AS event_id, w.id AS webhook_id
    FROM unnest(@event_ids::text[]) AS ev (id)
    CROSS JOIN unnest(@webhook_ids::uuid[]) AS w (id)
) AS pair
CROSS JOIN LATERAL (
    SELECT count(*) AS attempts, coalesce(bool_or(d.success), false) AS delivered
    FROM deliveries d
    WHERE d.event_id = pair.event_id AND d.webhook_id = pair.webhook_id
) AS made
LEFT JOIN LATERAL (
    SELECT d.id, d.status_code, d.error, d.attempted_at
    FROM deliveries d
    WHERE made.attempts > 0 AND d.event_id = pair.event_id AND d.webhook_id = pair.webhook_id
    ORDER BY d.attempt DESC
    LIMIT 1
) AS last ON true
LEFT JOIN queue q ON q.event_id = pair.event_id AND q.webhook_id = pair.webhook_id
WHERE made.attempts > 0 OR q.event_id IS NOT NULL;
