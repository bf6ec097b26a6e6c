-- Holding each bot's history to its budget: internal/history/budget.go. Rows of history_usage are locked in the order of
-- their webhooks, and deliveries only where nobody else holds them, so that no two statements wait for each other in a
-- circle.

-- name: BeginPass :one
-- Begins a pass when the last one has done nothing for so many seconds, as it has ended: no row where it has not.
UPDATE history_passes SET pass = pass + 1, renewed_at = now()
WHERE renewed_at <= now() - make_interval(secs => @seconds::float8)
RETURNING pass;

-- name: RenewPass :execrows
-- Before each step of a pass, in the step's transaction: none begins meanwhile, and where one began before there is no row.
UPDATE history_passes SET renewed_at = now() WHERE pass = @pass;

-- name: LastSeq :one
-- The greatest seq that a delivery was given, be it committed or not. Who may not read the sequence gets NULL of Postgres, as
-- if there were none.
SELECT coalesce(pg_sequence_last_value('deliveries_seq_seq'), 0)::bigint AS seq,
       has_sequence_privilege('deliveries_seq_seq', 'USAGE, SELECT')::boolean AS may_read;

-- name: WebhooksToCount :many
-- A page of the webhooks, and of which there are deliveries, up to a seq, of events accepted since @since, that are not
-- counted. By scalar subqueries, as of EXISTS or a join Postgres may make one scan of all.
SELECT w.id, coalesce((
           SELECT true
           FROM deliveries d
           WHERE d.webhook_id = w.id AND d.seq <= @upto::bigint AND d.id >= first_delivery(@since::timestamptz)
             AND d.seq > coalesce((SELECT u.counted_upto FROM history_usage u WHERE u.webhook_id = w.id), 0)
           LIMIT 1
       ), false)::boolean AS has_new
FROM webhooks w
WHERE w.id > @after
ORDER BY w.id
LIMIT @page_size;

-- name: LockUsage :exec
-- Before TallyDeliveries, and in a statement of its own: what retention has removed before, it does not see, and what retention
-- removes from now on is subtracted after it has counted.
SELECT FROM history_usage WHERE webhook_id = ANY (@webhook_ids::uuid[]) ORDER BY webhook_id FOR UPDATE;

-- name: CountHistory :exec
-- Adds to what is counted of some webhooks in spans, and says up to which seq their deliveries are counted.
WITH n AS (
    SELECT unnest(@webhook_ids::uuid[]) AS webhook_id, unnest(@spans::integer[]) AS span, unnest(@uptos::bigint[]) AS upto,
           unnest(@deliveries::bigint[]) AS deliveries, unnest(@bytes::bigint[]) AS bytes
), counted AS (
    INSERT INTO history_usage AS u (webhook_id, counted_upto)
    SELECT n.webhook_id, max(n.upto) FROM n GROUP BY n.webhook_id ORDER BY n.webhook_id
    ON CONFLICT (webhook_id) DO UPDATE SET counted_upto = excluded.counted_upto
)
INSERT INTO history_sizes AS h (webhook_id, span, deliveries, bytes)
SELECT n.webhook_id, n.span, n.deliveries, n.bytes FROM n ORDER BY n.webhook_id, n.span
ON CONFLICT (webhook_id, span) DO UPDATE SET deliveries = h.deliveries + excluded.deliveries, bytes = h.bytes + excluded.bytes;

-- name: BotsOverBudget :many
-- The bots whose histories take more than they may. 0 is any number.
SELECT w.bot_id, sum(h.bytes)::bigint AS bytes, sum(h.deliveries)::bigint AS deliveries
FROM history_sizes h
JOIN webhooks w ON w.id = h.webhook_id
GROUP BY w.bot_id
HAVING (@most_bytes::bigint > 0 AND sum(h.bytes) > @most_bytes) OR (@most_deliveries::bigint > 0 AND sum(h.deliveries) > @most_deliveries);

-- name: StripSuccesses :one
-- Removes the responses and exchanges of a bot's oldest successes that have them: a page of its history is looked at.
WITH page AS MATERIALIZED (
    SELECT d.id, d.webhook_id, d.seq, d.success, d.bytes
    FROM webhooks w
    JOIN history_usage u ON u.webhook_id = w.id
    CROSS JOIN LATERAL (
        SELECT o.id, o.webhook_id, o.seq, o.success, delivery_bytes(o.response_body, o.exchange) - delivery_bytes(NULL, NULL) AS bytes
        FROM deliveries o
        WHERE o.webhook_id = w.id AND o.seq > u.stripped_upto AND o.seq <= u.counted_upto
        ORDER BY o.seq
        LIMIT @page_size
    ) AS d
    WHERE w.bot_id = @bot_id
    ORDER BY d.seq
    LIMIT @page_size
), rows AS MATERIALIZED (
    SELECT d.id
    FROM page p CROSS JOIN LATERAL (SELECT o.id FROM deliveries o WHERE o.id = p.id FOR UPDATE SKIP LOCKED LIMIT 1) AS d
    WHERE p.success AND p.bytes > 0
), stripped AS (
    UPDATE deliveries d SET response_body = NULL, exchange = NULL FROM rows WHERE d.id = rows.id RETURNING d.id
), sums AS (
    SELECT p.webhook_id, span_of(p.id) AS span, max(p.seq) AS upto,
           coalesce(sum(p.bytes) FILTER (WHERE p.id IN (SELECT s.id FROM stripped s)), 0) AS bytes
    FROM page p
    GROUP BY p.webhook_id, span_of(p.id)
), locked AS MATERIALIZED (
    SELECT u.webhook_id FROM history_usage u WHERE u.webhook_id IN (SELECT s.webhook_id FROM sums s) ORDER BY u.webhook_id FOR UPDATE
), passed AS (
    UPDATE history_usage u
    SET stripped_upto = s.upto
    FROM (SELECT m.webhook_id, max(m.upto) AS upto FROM sums m GROUP BY m.webhook_id) AS s
    JOIN locked l ON l.webhook_id = s.webhook_id
    WHERE u.webhook_id = s.webhook_id
), changed AS (
    UPDATE history_sizes h
    SET bytes = greatest(h.bytes - s.bytes, 0)
    FROM sums s
    JOIN locked l ON l.webhook_id = s.webhook_id
    WHERE h.webhook_id = s.webhook_id AND h.span = s.span
)
SELECT (SELECT count(*) FROM page)::integer AS looked_at, coalesce((SELECT sum(s.bytes) FROM sums s), 0)::bigint AS bytes;

-- name: RemoveOldest :one
-- Removes the oldest deliveries of a bot: its successes, or its failures. The test events among what was sent are returned.
WITH page AS MATERIALIZED (
    SELECT d.id, d.webhook_id, d.event_id, d.seq, d.success, d.attempted_at, d.bytes
    FROM webhooks w
    JOIN history_usage u ON u.webhook_id = w.id
    CROSS JOIN LATERAL (
        (SELECT o.id, o.webhook_id, o.event_id, o.seq, o.success, o.attempted_at, delivery_bytes(o.response_body, o.exchange) AS bytes
         FROM deliveries o
         WHERE @success::boolean AND o.webhook_id = w.id AND o.seq > u.removed_upto AND o.seq <= u.counted_upto
         ORDER BY o.seq
         LIMIT @page_size)
        UNION ALL
        (SELECT o.id, o.webhook_id, o.event_id, o.seq, o.success, o.attempted_at, delivery_bytes(o.response_body, o.exchange) AS bytes
         FROM deliveries o
         WHERE NOT @success::boolean AND NOT o.success AND o.webhook_id = w.id AND o.seq <= u.counted_upto
         ORDER BY o.seq
         LIMIT @page_size)
    ) AS d
    WHERE w.bot_id = @bot_id
    ORDER BY d.seq
    LIMIT @page_size
), rows AS MATERIALIZED (
    SELECT d.id
    FROM page p CROSS JOIN LATERAL (SELECT o.id FROM deliveries o WHERE o.id = p.id FOR UPDATE SKIP LOCKED LIMIT 1) AS d
    WHERE p.success = @success::boolean
), removed AS (
    DELETE FROM deliveries d USING rows WHERE d.id = rows.id RETURNING d.id, d.event_id
), sums AS (
    SELECT p.webhook_id, span_of(p.id) AS span, max(p.seq) AS upto, count(r.id) AS deliveries,
           coalesce(sum(p.bytes) FILTER (WHERE r.id IS NOT NULL), 0) AS bytes,
           max(p.attempted_at) FILTER (WHERE r.id IS NOT NULL) AS before
    FROM page p
    LEFT JOIN removed r ON r.id = p.id
    GROUP BY p.webhook_id, span_of(p.id)
), locked AS MATERIALIZED (
    SELECT u.webhook_id FROM history_usage u WHERE u.webhook_id IN (SELECT s.webhook_id FROM sums s) ORDER BY u.webhook_id FOR UPDATE
), passed AS (
    UPDATE history_usage u
    SET removed_upto = CASE WHEN @success::boolean THEN s.upto ELSE u.removed_upto END,
        removed_before = greatest(u.removed_before, s.before)
    FROM (SELECT m.webhook_id, max(m.upto) AS upto, max(m.before) AS before FROM sums m GROUP BY m.webhook_id) AS s
    JOIN locked l ON l.webhook_id = s.webhook_id
    WHERE u.webhook_id = s.webhook_id
), changed AS (
    UPDATE history_sizes h
    SET deliveries = greatest(h.deliveries - s.deliveries, 0), bytes = greatest(h.bytes - s.bytes, 0)
    FROM sums s
    JOIN locked l ON l.webhook_id = s.webhook_id
    WHERE h.webhook_id = s.webhook_id AND h.span = s.span
)
SELECT (SELECT count(*) FROM page)::integer AS looked_at, coalesce((SELECT sum(s.deliveries) FROM sums s), 0)::bigint AS deliveries,
       coalesce((SELECT sum(s.bytes) FROM sums s), 0)::bigint AS bytes,
       coalesce((SELECT array_agg(DISTINCT e.id) FROM removed r JOIN events e ON e.id = r.event_id AND e.type = 'test'),
           '{}')::text[] AS tests;

-- name: HistoryRemovedBefore :one
SELECT removed_before FROM history_usage WHERE webhook_id = @webhook_id;

-- name: LeaveHistory :exec
-- Says that deliveries of deleted webhooks may be left.
INSERT INTO history_usage (webhook_id) SELECT unnest(@webhook_ids::uuid[]) ON CONFLICT (webhook_id) DO NOTHING;

-- name: DeletedWithHistory :many
-- Deleted webhooks of which deliveries may be left.
SELECT u.webhook_id
FROM history_usage u
WHERE u.webhook_id > @after AND NOT EXISTS (SELECT FROM webhooks w WHERE w.id = u.webhook_id)
ORDER BY u.webhook_id
LIMIT 100;

-- name: ForgetHistory :exec
WITH usage AS (DELETE FROM history_usage WHERE history_usage.webhook_id = @webhook_id)
DELETE FROM history_sizes WHERE history_sizes.webhook_id = @webhook_id;
