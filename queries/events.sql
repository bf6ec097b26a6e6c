-- name: InsertEvents :many
-- Stores events, each a little later than the one before, and returns those that were not there, with when they were
-- accepted. bots is what an array of text looks like as text, empty for every bot. In the order of their ids, so that no two
-- statements wait for each other in a circle.
INSERT INTO events (id, type, payload, bot_ids, run_id, workflow_id, accepted_at)
SELECT e.id, e.type, e.payload, NULLIF(e.bots, '')::text[], @run_id, sqlc.narg('workflow_id')::text, now() + e.n * interval '1 microsecond'
FROM (
    SELECT unnest((SELECT @ids::text[])) AS id, unnest((SELECT @types::text[])) AS type, unnest((SELECT @payloads::bytea[])) AS payload,
           unnest((SELECT @bots::text[])) AS bots, unnest((SELECT @places::integer[])) AS n
) AS e
ORDER BY e.id
ON CONFLICT (id) DO NOTHING
RETURNING id, accepted_at;

-- name: GetEvent :one
SELECT id, type, payload, bot_ids, run_id, coalesce(workflow_id, 'event-' || id)::text AS workflow_id, accepted_at
FROM events
WHERE id = @id;

-- name: GetEvents :many
SELECT id, type, payload, bot_ids, run_id, coalesce(workflow_id, 'event-' || id)::text AS workflow_id, accepted_at
FROM events
WHERE id = ANY (@ids::text[]);

-- name: StoredEvents :many
-- Of ids, the events that were accepted: the workflow runs that did, and what they say, in short.
SELECT id, run_id, coalesce(workflow_id, 'event-' || id)::text AS workflow_id, bot_ids,
       substring(payload FROM 1 FOR 200)::bytea AS head, sha256(payload)::bytea AS digest
FROM events WHERE id = ANY (@ids::text[]);

-- name: UnknownBots :many
-- Of ids, those that are no bots.
SELECT u.id::text AS id FROM unnest(@ids::text[]) AS u (id) WHERE NOT EXISTS (SELECT FROM bots b WHERE b.id = u.id);

-- name: TakeOverEvent :execrows
-- Gives an event to another run, as the one that owned it ended before its work was done.
UPDATE events SET run_id = @run_id, workflow_id = sqlc.narg('workflow_id')::text WHERE id = @id AND run_id = @old_run_id;

-- The audience of an event: every bot when its bot_ids are NULL, else those. The two are branches of a union, as one
-- condition for both would leave Postgres no index. What a lookup costs grows with what it returns only: see
-- TestTheAudienceIsReadFromIndexes.

-- name: AddressEvents :many
-- A page of the webhooks that events go to, in the order of their ids, from after @after on. Events of one type, and for the
-- same bots, share a list of them, which is read once. In the same statement, each event gets a row in the queue of each of
-- its webhooks that is queued, unless another run owns the event; an empty @run_id is any. seq and due_at are of the first
-- new row of a webhook; seq is 0 where there is none. A row of what was sent already, as where this is repeated, goes before
-- it is sent: the queue looks. A webhook that a pause covers is as good as queued; turns: it is to become so. One with a
-- filter gets no row here: whether it gets the event, internal/delivery/filter.go decides. If it is ordered, that is decided
-- when its turn comes.
--
-- The rows of an ordered webhook are added under lock_order, each due after those before it, and in the transaction that
-- stores the event: @whole has all ordered webhooks of the list get them, and those beyond the page are not returned, see
-- OrderedRows. Whatever comes later, another part of the list or a repetition, adds none, but for webhooks that have become
-- ordered since: a row that it added might follow what was accepted after it.
--
-- Arrays stand in subqueries, so that Postgres does not see how long they are: one plan is the best for all, and planning
-- again takes longer than the lookup.
WITH asked AS (
    SELECT list.n, list.event_type, NULLIF(list.bots, '')::text[] AS bot_ids, @after::uuid AS after, @upto::uuid AS upto
    FROM (
        SELECT unnest((SELECT @lists::integer[])) AS n, unnest((SELECT @list_types::text[])) AS event_type,
               unnest((SELECT @list_bots::text[])) AS bots
    ) AS list
), subscribers AS MATERIALIZED (
    SELECT asked.n AS list, w.id, w.bot_id, w.origin, w.url, w.secret,
           (CASE WHEN w.previous_secret_until > now() THEN w.previous_secret END)::bytea AS previous_secret,
           w.extras, w.filter, w.generation, w.failure_count, w.failure_run, w.queued AS was_queued,
           w.queued OR EXISTS (SELECT FROM pauses_of(w.bot_id, w.origin)) AS queued,
           w.ordered, w.ordered_from, w.verified_at IS NOT NULL AS verified
    FROM asked
    CROSS JOIN LATERAL (
        (SELECT s.webhook_id
         FROM subscriptions s
         WHERE asked.bot_ids IS NULL
           AND s.event_type = asked.event_type
           AND s.webhook_id > asked.after AND s.webhook_id <= asked.upto
         ORDER BY s.webhook_id
         LIMIT (SELECT @page_size::integer))
        UNION ALL
        (SELECT s.webhook_id
         FROM (SELECT DISTINCT unnest(asked.bot_ids) AS id) AS bot
         CROSS JOIN LATERAL (
             SELECT webhook_id
             FROM subscriptions
             WHERE bot_id = bot.id
               AND event_type = asked.event_type
               AND webhook_id > asked.after AND webhook_id <= asked.upto
             ORDER BY webhook_id
             LIMIT (SELECT @page_size::integer)
         ) AS s
         ORDER BY s.webhook_id
         LIMIT (SELECT @page_size::integer))
    ) AS audience
    -- LIMIT: each is looked up by its id, however many Postgres expects.
    CROSS JOIN LATERAL (SELECT * FROM webhooks WHERE id = audience.webhook_id LIMIT 1) AS w
), longer AS MATERIALIZED (
    SELECT list FROM subscribers WHERE (SELECT @whole::boolean) GROUP BY list HAVING count(*) >= (SELECT @page_size::integer)
), beyond AS MATERIALIZED (
    SELECT longer.list, r.webhook_id AS id
    FROM longer
    JOIN asked ON asked.n = longer.list
    CROSS JOIN LATERAL (
        SELECT s.webhook_id
        FROM subscriptions s
        WHERE asked.bot_ids IS NULL AND s.ordered AND s.event_type = asked.event_type
        UNION ALL
        SELECT s.webhook_id
        FROM (SELECT DISTINCT unnest(asked.bot_ids) AS id) AS bot
        JOIN subscriptions s ON s.bot_id = bot.id AND s.event_type = asked.event_type AND s.ordered
    ) AS r
    WHERE NOT EXISTS (SELECT FROM subscribers p WHERE p.list = longer.list AND p.id = r.webhook_id)
), places AS MATERIALIZED (
    SELECT unnest(o.ids)::uuid AS webhook_id, unnest(lock_order(o.ids))::timestamptz AS last_due_at
    FROM (
        SELECT array_agg(DISTINCT i.id) AS ids
        FROM (SELECT id FROM subscribers WHERE ordered UNION ALL SELECT id FROM beyond) AS i
    ) AS o
), enqueued AS (
    INSERT INTO queue (webhook_id, event_id, attempt, step, trigger, due_at)
    SELECT s.id, e.id, 1, 1, 'event',
           CASE WHEN e.accepted_at < now() THEN e.accepted_at
               ELSE greatest(e.accepted_at, p.last_due_at + (addressed.n + 1) * interval '1 microsecond') END
    FROM (
        SELECT list, id, ordered, ordered_from FROM subscribers WHERE queued AND (filter IS NULL OR ordered)
        UNION ALL
        SELECT list, id, true, NULL FROM beyond
    ) AS s
    LEFT JOIN places p ON p.webhook_id = s.id
    JOIN (
        SELECT unnest((SELECT @event_ids::text[])) AS id, unnest((SELECT @event_lists::integer[])) AS list,
               unnest((SELECT @event_places::integer[])) AS n
    ) AS addressed ON addressed.list = s.list
    CROSS JOIN LATERAL (SELECT * FROM events WHERE id = addressed.id AND @run_id IN (run_id, '') LIMIT 1) AS e
    WHERE NOT s.ordered OR (SELECT @whole::boolean) AND e.accepted_at >= now() OR s.ordered_from > e.accepted_at
    ORDER BY addressed.n
    ON CONFLICT (event_id, webhook_id) DO NOTHING
    RETURNING webhook_id, seq, due_at
), added AS (
    SELECT webhook_id, min(seq) AS seq, min(due_at) AS due_at FROM enqueued GROUP BY webhook_id
)
SELECT s.list::integer AS list, s.id, s.bot_id, s.origin, s.url, s.secret, s.previous_secret, s.extras, s.filter, s.generation,
       s.failure_count, s.failure_run, s.queued::boolean AS queued, s.ordered::boolean AS ordered,
       (s.queued AND NOT s.was_queued)::boolean AS turns, s.verified::boolean AS verified,
       coalesce(q.seq, 0)::bigint AS seq, coalesce(q.due_at, 'epoch')::timestamptz AS due_at
FROM subscribers s
LEFT JOIN added q ON q.webhook_id = s.id
ORDER BY s.list, s.id;

-- name: EnqueueMatching :many
-- Gives pairs of an event and a webhook a row in the webhook's queue, as AddressEvents does where there is no filter.
INSERT INTO queue (webhook_id, event_id, attempt, step, trigger, due_at)
SELECT pair.webhook_id, e.id, 1, 1, 'event', e.accepted_at
FROM (SELECT unnest(@event_ids::text[]) AS event_id, unnest(@webhook_ids::uuid[]) AS webhook_id) AS pair
CROSS JOIN LATERAL (SELECT * FROM events WHERE id = pair.event_id AND @run_id IN (run_id, '') LIMIT 1) AS e
ORDER BY e.accepted_at, pair.webhook_id
ON CONFLICT (event_id, webhook_id) DO NOTHING
RETURNING webhook_id, seq, due_at;

-- name: OrderedRows :many
-- Of some events, the rows in the queues of ordered webhooks: the first of each.
SELECT DISTINCT ON (q.webhook_id) q.webhook_id, q.seq, q.due_at, w.bot_id, w.origin
FROM queue q
JOIN webhooks w ON w.id = q.webhook_id AND w.ordered
WHERE q.event_id = ANY (@event_ids::text[])
ORDER BY q.webhook_id, q.seq;

-- name: TurnQueued :exec
-- A webhook that another transaction holds is not waited for: that changes it, or the next event does.
UPDATE webhooks w SET queued = true
FROM (SELECT l.id FROM webhooks l WHERE l.id = ANY (@ids::uuid[]) AND NOT l.queued FOR NO KEY UPDATE SKIP LOCKED) AS free
WHERE w.id = free.id;

-- name: CountAudience :one
SELECT count(*)
FROM (
    SELECT s.webhook_id FROM subscriptions s WHERE sqlc.narg('bot_ids')::text[] IS NULL AND s.event_type = @event_type
    UNION ALL
    SELECT s.webhook_id
    FROM (SELECT DISTINCT unnest(sqlc.narg('bot_ids')::text[]) AS id) AS bot
    JOIN subscriptions s ON s.bot_id = bot.id AND s.event_type = @event_type
) AS audience;

-- name: AudiencePages :many
-- The last webhook id of every full page of an event's audience that another follows.
SELECT numbered.webhook_id::uuid AS id
FROM (
    SELECT audience.webhook_id, row_number() OVER w AS n, lead(true) OVER w AS more
    FROM (
        SELECT s.webhook_id, s.bot_id FROM subscriptions s WHERE sqlc.narg('bot_ids')::text[] IS NULL AND s.event_type = @event_type
        UNION ALL
        SELECT s.webhook_id, s.bot_id
        FROM (SELECT DISTINCT unnest(sqlc.narg('bot_ids')::text[]) AS id) AS bot
        JOIN subscriptions s ON s.bot_id = bot.id AND s.event_type = @event_type
    ) AS audience
    WINDOW w AS (ORDER BY audience.webhook_id)
) AS numbered
WHERE numbered.n % @page_size::bigint = 0 AND numbered.more
ORDER BY numbered.webhook_id;

-- name: GetTarget :one
-- What a delivery to a webhook needs, read at the time of the attempt.
SELECT w.id, w.bot_id, w.origin, w.url, w.secret,
       (CASE WHEN w.previous_secret_until > now() THEN w.previous_secret END)::bytea AS previous_secret,
       w.extras, (CASE WHEN w.ordered OR w.ordered_until IS NOT NULL THEN w.filter END)::jsonb AS ordered_filter, w.ordered_until,
       w.is_active, w.suspended, w.queued, w.ordered, w.failure_count, w.failure_run, w.generation, w.url_version,
       (w.verified_at IS NOT NULL)::boolean AS verified,
       coalesce(greatest(w.resume_at, w.ordered_from) > now(), false)::boolean AS resting,
       EXISTS (SELECT FROM pauses_of(w.bot_id, w.origin)) AS paused,
       (w.events @> ARRAY[@event_type::text])::boolean AS subscribed
FROM webhooks w
WHERE w.id = @id;

-- name: UnfinishedEvents :many
-- A page of the events, in the order of their acceptance, that an active webhook of their audience was neither sent nor is to be
-- sent: it was there when they were accepted. filters: only webhooks with these filters, which may leave the event out.
SELECT e.id, e.type, e.payload, e.bot_ids, e.run_id, coalesce(e.workflow_id, 'event-' || e.id)::text AS workflow_id,
       e.accepted_at, l.filters
FROM events e
CROSS JOIN LATERAL (
    SELECT (CASE WHEN EXISTS (
        SELECT FROM subscriptions s
        JOIN webhooks w ON w.id = s.webhook_id
        WHERE s.event_type = e.type AND w.filter IS NULL
          AND (e.bot_ids IS NULL OR s.bot_id = ANY (e.bot_ids))
          AND w.created_at <= e.accepted_at
          AND NOT EXISTS (SELECT FROM deliveries d
              WHERE d.event_id = e.id AND d.webhook_id = s.webhook_id AND d.id >= first_delivery(e.accepted_at))
          AND NOT EXISTS (SELECT FROM queue q WHERE q.event_id = e.id AND q.webhook_id = s.webhook_id)
    ) THEN '{}' ELSE (
        SELECT array_agg(DISTINCT w.filter::text)
        FROM subscriptions s
        JOIN webhooks w ON w.id = s.webhook_id
        WHERE s.event_type = e.type AND w.filter IS NOT NULL
          AND (e.bot_ids IS NULL OR s.bot_id = ANY (e.bot_ids))
          AND w.created_at <= e.accepted_at
          AND NOT EXISTS (SELECT FROM deliveries d
              WHERE d.event_id = e.id AND d.webhook_id = s.webhook_id AND d.id >= first_delivery(e.accepted_at))
          AND NOT EXISTS (SELECT FROM queue q WHERE q.event_id = e.id AND q.webhook_id = s.webhook_id)
    ) END)::text[] AS filters
) AS l
WHERE (e.accepted_at, e.id) > (@after::timestamptz, @after_id::text)
  AND l.filters IS NOT NULL
ORDER BY e.accepted_at, e.id
LIMIT @most;

-- name: DisownEvent :execrows
-- Has an event belong to no run, so that the next one that accepts it delivers it.
UPDATE events SET run_id = '' WHERE id = @id AND run_id = @run_id;
