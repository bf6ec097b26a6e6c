-- name: PageOfDeliveries :many
-- Looks at the deliveries of some webhooks, of each those recorded from from_seq to before @before and before_seq, at most
-- @most_each, newest first. Returns those that are wanted and, wanted or not, the last one (is_last) of which it is known
-- that none is left out before it, where there may be more. What is left of an event that is no longer kept is not wanted.
-- '' and NULL want any; @status_class -1 wants no status at all. The three branches are for the index of the failures and
-- that of an event.
WITH looked_at AS MATERIALIZED (
    SELECT d.*, row_number() OVER (PARTITION BY d.webhook_id ORDER BY d.seq DESC) AS n
    FROM (SELECT unnest(@webhook_ids::uuid[]) AS id, unnest(@from_seqs::bigint[]) AS from_seq,
        unnest(@before_seqs::bigint[]) AS before_seq) AS h
    CROSS JOIN LATERAL (
        (SELECT o.id, o.seq, o.webhook_id, o.event_id, o.attempt, o.trigger, o.success, o.status_code, o.error, o.duration_ms,
                o.attempted_at
         FROM deliveries o
         WHERE @event_id::text = '' AND coalesce(sqlc.narg('success')::boolean, true)
           AND o.webhook_id = h.id AND o.seq >= h.from_seq AND o.seq < least(h.before_seq, @before::bigint)
         ORDER BY o.seq DESC
         LIMIT @most_each::bigint)
        UNION ALL
        (SELECT o.id, o.seq, o.webhook_id, o.event_id, o.attempt, o.trigger, o.success, o.status_code, o.error, o.duration_ms,
                o.attempted_at
         FROM deliveries o
         WHERE @event_id::text = '' AND NOT sqlc.narg('success')::boolean AND NOT o.success
           AND o.webhook_id = h.id AND o.seq >= h.from_seq AND o.seq < least(h.before_seq, @before::bigint)
         ORDER BY o.seq DESC
         LIMIT @most_each::bigint)
        UNION ALL
        (SELECT o.id, o.seq, o.webhook_id, o.event_id, o.attempt, o.trigger, o.success, o.status_code, o.error, o.duration_ms,
                o.attempted_at
         FROM deliveries o
         WHERE @event_id::text <> '' AND o.event_id = @event_id::text
           -- + 0: not by the webhook's index
           AND o.webhook_id = h.id AND o.seq + 0 >= h.from_seq AND o.seq + 0 < least(h.before_seq, @before::bigint)
         ORDER BY o.seq + 0 DESC
         LIMIT @most_each::bigint)
    ) AS d
), cut AS MATERIALIZED (
    SELECT coalesce(max(c.seq), 0) AS seq FROM looked_at c WHERE c.n = @most_each::bigint
), marked AS (
    SELECT l.*, l.seq = cut.seq AS is_last, e.type AS event_type,
           (e.type IS NOT NULL AND coalesce(l.success = sqlc.narg('success')::boolean, true)
               AND (@trigger::text = '' OR l.trigger::text = @trigger::text)
               AND (@error::text = '' OR coalesce(l.error = @error::text OR split_part(l.error, ':', 1) = @error::text, false))
               AND CASE @status_class::integer WHEN 0 THEN true WHEN -1 THEN l.status_code IS NULL
                   ELSE coalesce(l.status_code / 100 = @status_class::integer, false) END
               AND l.attempted_at BETWEEN @since::timestamptz AND @until::timestamptz
               AND (sqlc.narg('event_type')::text IS NULL OR e.type = sqlc.narg('event_type')::text))::boolean AS wanted
    FROM looked_at l
    CROSS JOIN cut
    LEFT JOIN LATERAL (SELECT k.type FROM events k WHERE k.id = l.event_id AND l.id >= first_delivery(k.accepted_at) LIMIT 1) AS e ON true
    WHERE l.seq >= cut.seq
)
SELECT m.id, m.seq::bigint AS seq, m.webhook_id, m.event_id, m.attempt, m.trigger, m.success, m.status_code, m.error,
       m.duration_ms, m.attempted_at,
       m.wanted::boolean AS wanted, m.is_last::boolean AS is_last, coalesce(m.event_type, '')::text AS event_type
FROM marked m
WHERE m.wanted OR m.is_last
ORDER BY m.seq DESC
LIMIT @most;

-- name: SeqsOfSpan :many
-- Where a span of time begins and ends in the histories of some webhooks, in their order.
SELECT seq_since(h.id, @since)::bigint AS from_seq, seq_since(h.id, @until)::bigint AS before_seq
FROM unnest(@webhook_ids::uuid[]) WITH ORDINALITY AS h (id, n)
ORDER BY h.n;

-- name: GetDeliveries :many
-- Of some deliveries of some webhooks, newest first, as many as have @bytes of payload and response, or one. What is large is
-- read of those only.
SELECT s.id, s.seq::bigint AS seq, s.webhook_id, s.event_id, s.event_type, s.payload, s.attempt, s.status_code, s.response_body,
       s.error, s.success, s.duration_ms, s.attempted_at, s.trigger, s.exchange
FROM (
    SELECT d.*, e.type AS event_type, e.payload,
           sum(octet_length(e.payload) + coalesce(octet_length(d.response_body), 0)) OVER (ORDER BY d.seq DESC) AS bytes,
           row_number() OVER (ORDER BY d.seq DESC) AS n
    FROM unnest(@ids::uuid[]) AS u (id)
    CROSS JOIN LATERAL (SELECT * FROM deliveries WHERE id = u.id LIMIT 1) AS d
    JOIN events e ON e.id = d.event_id AND d.id >= first_delivery(e.accepted_at)
    WHERE d.webhook_id = ANY (@webhook_ids::uuid[])
) AS s
WHERE s.n = 1 OR s.bytes <= @bytes::bigint
ORDER BY s.seq DESC;

-- name: DeliverySeq :one
SELECT seq::bigint AS seq FROM deliveries WHERE id = @id AND webhook_id = ANY (@webhook_ids::uuid[]);

-- name: DeleteDeliveries :execrows
-- Some of a deleted webhook's. What retention is removing, it removes.
DELETE FROM deliveries
WHERE id IN (
    SELECT d.id FROM deliveries d WHERE d.webhook_id = @webhook_id LIMIT @most FOR UPDATE SKIP LOCKED
);
