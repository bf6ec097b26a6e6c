-- The events that concern a bot, for its owner. What was for bots by name does not, if it was accepted before the bot was made: an
-- earlier one had its id.

-- name: PageOfBotEvents :many
-- The events accepted before @before_time and @before_id that concern a bot, newest first, and, wanted or not, the one numbered
-- @most_read: no more than so many are looked at. A type of '' is any.
SELECT looked_at.id, looked_at.type, looked_at.accepted_at, looked_at.bytes, looked_at.to_all, looked_at.n, looked_at.wanted
FROM (
    SELECT e.id, e.type, e.accepted_at, octet_length(e.payload) AS bytes, (e.bot_ids IS NULL)::boolean AS to_all,
           row_number() OVER (ORDER BY e.accepted_at DESC, e.id DESC) AS n,
           (e.type NOT IN ('test', 'webhook.verify') AND (e.bot_ids IS NULL OR e.bot_ids @> ARRAY[@bot_id::text]
               AND e.accepted_at >= coalesce((SELECT b.created_at FROM bots b WHERE b.id = @bot_id), '-infinity'))
               AND @event_type::text IN ('', e.type))::boolean AS wanted
    FROM events e
    WHERE (e.accepted_at, e.id) < (@before_time::timestamptz, @before_id::text)
    ORDER BY e.accepted_at DESC, e.id DESC
    LIMIT @most_read::bigint
) AS looked_at
WHERE looked_at.wanted OR looked_at.n = @most_read::bigint
ORDER BY looked_at.accepted_at DESC, looked_at.id DESC
LIMIT @most;

-- name: LastBotEvents :many
-- The last @most events of some types that concern a bot, newest first, of the last @most_read events, whosesoever they are.
SELECT looked_at.id
FROM (
    SELECT e.id, e.type, e.bot_ids, e.accepted_at
    FROM events e
    ORDER BY e.accepted_at DESC, e.id DESC
    LIMIT @most_read::bigint
) AS looked_at
WHERE looked_at.type = ANY (@types::text[]) AND (looked_at.bot_ids IS NULL OR looked_at.bot_ids @> ARRAY[@bot_id::text]
  AND looked_at.accepted_at >= coalesce((SELECT b.created_at FROM bots b WHERE b.id = @bot_id), '-infinity'))
ORDER BY looked_at.accepted_at DESC, looked_at.id DESC
LIMIT @most;

-- name: Payloads :many
-- What the first of some events say, each with its place among them, from 1: as many as have @bytes together, or one. What is no
-- longer kept is left out.
SELECT p.n::bigint AS n, p.payload
FROM (
    SELECT asked.n, e.payload, sum(octet_length(e.payload)) OVER (ORDER BY asked.n) AS bytes, row_number() OVER (ORDER BY asked.n) AS place
    FROM unnest(@ids::text[]) WITH ORDINALITY AS asked (id, n)
    JOIN events e ON e.id = asked.id
) AS p
WHERE p.place = 1 OR p.bytes <= @bytes::bigint
ORDER BY p.n;

-- name: EventsAtWebhooks :many
-- What became of some events at some webhooks, where there was an attempt or one is planned.
SELECT pair.event_id::text AS event_id, pair.webhook_id::uuid AS webhook_id, made.attempts, made.delivered::boolean AS delivered,
       coalesce(last.id, '00000000-0000-0000-0000-000000000000')::uuid AS last_id, last.status_code, last.error,
       coalesce(last.attempted_at, 'epoch')::timestamptz AS attempted_at, q.due_at
FROM (
    SELECT ev.id AS event_id, w.id AS webhook_id, first_delivery(ev.accepted_at) AS first
    FROM events ev
    CROSS JOIN unnest(@webhook_ids::uuid[]) AS w (id)
    WHERE ev.id = ANY (@event_ids::text[])
) AS pair
CROSS JOIN LATERAL (
    SELECT count(*) AS attempts, coalesce(bool_or(d.success), false) AS delivered
    FROM deliveries d
    WHERE d.event_id = pair.event_id AND d.webhook_id = pair.webhook_id AND d.id >= pair.first
) AS made
LEFT JOIN LATERAL (
    SELECT d.id, d.status_code, d.error, d.attempted_at
    FROM deliveries d
    WHERE made.attempts > 0 AND d.event_id = pair.event_id AND d.webhook_id = pair.webhook_id AND d.id >= pair.first
    ORDER BY d.attempt DESC
    LIMIT 1
) AS last ON true
LEFT JOIN queue q ON q.event_id = pair.event_id AND q.webhook_id = pair.webhook_id
WHERE made.attempts > 0 OR q.event_id IS NOT NULL;
