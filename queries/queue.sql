-- The queues of webhooks: internal/history/queue.go.

-- name: Enqueue :many
-- Plans attempts. An event's first attempt without a delay is due since the event was accepted, so that order is kept; a
-- delay below 0 is due before all else. A pair of event and webhook that has a row keeps it, with the earlier of the two
-- times. An ordered webhook's are due since the event was accepted, whatever the delay, and rows that are there keep their place.
INSERT INTO queue AS q (webhook_id, event_id, attempt, step, trigger, due_at, recovery_id)
SELECT r.webhook_id, r.event_id, r.attempt, r.step, r.trigger::delivery_trigger,
       CASE
           WHEN r.delay_seconds < 0 THEN 'epoch'
           WHEN w.ordered AND r.trigger NOT IN ('test', 'redeliver', 'verify') OR r.delay_seconds = 0 AND r.trigger = 'event'
               THEN coalesce((SELECT e.accepted_at FROM events e WHERE e.id = r.event_id), now())
           ELSE now() + make_interval(secs => r.delay_seconds)
       END AS due_at,
       NULLIF(r.recovery_id, '00000000-0000-0000-0000-000000000000')
FROM (
    SELECT unnest(@webhook_ids::uuid[]) AS webhook_id, unnest(@event_ids::text[]) AS event_id, unnest(@attempts::integer[]) AS attempt,
           unnest(@steps::integer[]) AS step, unnest(@triggers::text[]) AS trigger, unnest(@delays_seconds::float8[]) AS delay_seconds,
           unnest(@recovery_ids::uuid[]) AS recovery_id, generate_series(1, cardinality(@webhook_ids::uuid[])) AS n
) AS r
LEFT JOIN LATERAL (SELECT ordered FROM webhooks WHERE id = r.webhook_id LIMIT 1) AS w ON true
ORDER BY due_at, r.n
ON CONFLICT (event_id, webhook_id) DO UPDATE
SET due_at = CASE WHEN (SELECT o.ordered FROM webhooks o WHERE o.id = q.webhook_id) THEN q.due_at ELSE least(q.due_at, excluded.due_at) END
RETURNING q.webhook_id, q.seq, q.due_at;

-- name: Unwoken :many
-- Of some rows, the webhooks that need to be woken: nothing older, and due no later, wakes them already. Asked after the
-- rows are committed: of rows that do not see each other the oldest wakes, and a queue that works on an older row looks
-- again when it has removed that. What has been due for a minute longer is not looked for: a long transaction, such as a
-- dump's, keeps rows that are gone in the index. What is due while a pause covers it, the sweep wakes once that is over; what is due
-- later, no other row wakes, as those may be gone by then.
SELECT DISTINCT r.webhook_id::uuid AS webhook_id
FROM (SELECT unnest(@webhook_ids::uuid[]) AS webhook_id, unnest(@seqs::bigint[]) AS seq, unnest(@due_ats::timestamptz[]) AS due_at) AS r
WHERE CASE WHEN (
    SELECT true FROM queue q
    WHERE q.webhook_id = r.webhook_id AND q.due_at >= least(r.due_at, now()) - interval '1 minute'
      AND q.due_at <= greatest(r.due_at, now()) AND q.seq < r.seq
    ORDER BY q.due_at, q.seq LIMIT 1
) THEN r.due_at > now() AND EXISTS (
    SELECT FROM webhooks w CROSS JOIN LATERAL pauses_of(w.bot_id, w.origin) WHERE w.id = r.webhook_id
) ELSE r.due_at > now() OR NOT EXISTS (
    SELECT FROM webhooks w CROSS JOIN LATERAL pauses_of(w.bot_id, w.origin) WHERE w.id = r.webhook_id
) END;

-- name: RemoveAttempted :exec
-- Removes the rows of attempts that were made: a row with a later attempt is another's plan.
DELETE FROM queue q
USING (SELECT unnest(@webhook_ids::uuid[]) AS webhook_id, unnest(@event_ids::text[]) AS event_id,
    unnest(@attempts::integer[]) AS attempt) AS a
WHERE q.event_id = a.event_id AND q.webhook_id = a.webhook_id AND q.attempt <= a.attempt;

-- name: ClearQueues :exec
-- Removes what is planned for webhooks that are disabled, but for what a person has just asked for.
DELETE FROM queue WHERE webhook_id = ANY (@webhook_ids::uuid[]) AND trigger NOT IN ('test', 'redeliver', 'verify');

-- name: ClearAllQueues :exec
-- Removes all that is planned for webhooks: they are suspended or deleted.
DELETE FROM queue WHERE webhook_id = ANY (@webhook_ids::uuid[]);

-- name: ClearUnsubscribed :exec
-- Removes what is planned of event types that a webhook no longer subscribes to, of the next @most_read rows: of those after
-- them, the attempt finds that it is not to be made. What a person asked for stays.
DELETE FROM queue q
USING webhooks w, events e
WHERE q.webhook_id = @webhook_id AND w.id = q.webhook_id AND e.id = q.event_id
  AND q.trigger NOT IN ('test', 'redeliver', 'verify') AND e.type NOT IN ('test', 'webhook.verify') AND NOT e.type = ANY (w.events)
  AND q.event_id IN (SELECT n.event_id FROM queue n WHERE n.webhook_id = @webhook_id ORDER BY n.due_at, n.seq LIMIT @most_read);

-- name: RemoveVerifications :exec
-- Removes those that a webhook has yet to be sent.
DELETE FROM queue WHERE webhook_id = @webhook_id AND trigger = 'verify';

-- name: QueueState :one
-- A webhook, and how its queue stands. waiting counts @most_counted rows at most. Delays are in seconds from now, 0 for
-- what is due; next_in is, of a paused webhook, that of the first row that is not due yet; 0: there is none. A rest lasts until the
-- next attempt that a person asked for.
-- ordered_upto is up to where an ordered webhook's running recovery has looked: what was accepted later waits for what that may
-- yet find. 1970: for nothing.
SELECT w.bot_id, w.origin, w.is_active, w.queued, w.ordered, w.failure_count, p.paused,
       (SELECT count(*) FROM (SELECT FROM queue c WHERE c.webhook_id = w.id LIMIT @most_counted) AS counted) AS waiting,
       coalesce(greatest(0, extract(epoch FROM CASE
           WHEN p.paused THEN (SELECT min(l.due_at) FROM queue l WHERE l.webhook_id = w.id AND l.due_at > now())
           ELSE (SELECT min(q.due_at) FROM queue q WHERE q.webhook_id = w.id)
       END - now())), 0)::float8 AS next_in,
       coalesce(greatest(0, extract(epoch FROM CASE
           WHEN greatest(w.resume_at, w.ordered_from) > now() THEN least(greatest(w.resume_at, w.ordered_from), (
               SELECT min(m.due_at) FROM queue m
               WHERE m.webhook_id = w.id AND m.trigger IN ('test', 'redeliver', 'verify') AND m.due_at > now()
           ))
       END - now())), 0)::float8 AS resume_in,
       coalesce((SELECT f.error FROM deliveries f WHERE f.webhook_id = w.id AND NOT f.success AND f.trigger <> 'verify'
           AND w.failure_count > 0 ORDER BY f.seq DESC LIMIT 1), '')::text AS last_error,
       coalesce((SELECT r.after_time FROM recoveries r WHERE w.ordered AND r.webhook_id = w.id AND r.state = 'running'
           AND NOT r.looked_through), 'epoch')::timestamptz AS ordered_upto
FROM webhooks w
CROSS JOIN LATERAL (SELECT EXISTS (SELECT FROM pauses_of(w.bot_id, w.origin)) AS paused) AS p
WHERE w.id = @id;

-- name: TakeDue :many
-- What is due, oldest first, after what a person asked for, also where that was put off. Of the others, what is due by upto; NULL:
-- by now.
SELECT due.event_id, due.attempt, due.step, due.trigger, due.recovery_id
FROM (
    (SELECT m.event_id, m.attempt, m.step, m.trigger, m.recovery_id, m.due_at, m.seq, 1 AS class
     FROM queue m
     WHERE m.webhook_id = @webhook_id AND m.due_at <= now() AND m.trigger IN ('test', 'redeliver', 'verify')
     ORDER BY m.due_at, m.seq
     LIMIT @most)
    UNION ALL
    (SELECT q.event_id, q.attempt, q.step, q.trigger, q.recovery_id, q.due_at, q.seq, 2 AS class
     FROM queue q
     WHERE q.webhook_id = @webhook_id AND q.due_at <= coalesce(sqlc.narg('upto')::timestamptz, now())
       AND q.trigger NOT IN ('test', 'redeliver', 'verify')
     ORDER BY q.due_at, q.seq
     LIMIT @most)
) AS due
ORDER BY due.class, due.due_at, due.seq
LIMIT @most;

-- name: ListWaiting :many
-- What waits for a webhook, in the order in which it is sent: the first @most.
SELECT w.event_id, e.type, e.accepted_at, w.attempt, w.trigger, w.due_at
FROM (
    (SELECT m.event_id, m.attempt, m.trigger, m.due_at, m.seq, 1 AS class
     FROM queue m
     WHERE m.webhook_id = @webhook_id AND m.trigger IN ('test', 'redeliver', 'verify')
     ORDER BY m.due_at, m.seq
     LIMIT @most)
    UNION ALL
    (SELECT q.event_id, q.attempt, q.trigger, q.due_at, q.seq, 2 AS class
     FROM queue q
     WHERE q.webhook_id = @webhook_id AND q.trigger NOT IN ('test', 'redeliver', 'verify')
     ORDER BY q.due_at, q.seq
     LIMIT @most)
) AS w
CROSS JOIN LATERAL (SELECT type, accepted_at FROM events WHERE id = w.event_id LIMIT 1) AS e
ORDER BY w.class, w.due_at, w.seq
LIMIT @most;

-- name: IsUrgent :one
SELECT EXISTS (SELECT FROM queue WHERE webhook_id = @webhook_id AND due_at = 'epoch');

-- name: QueuedAttempt :one
SELECT attempt, step, trigger, recovery_id, due_at FROM queue WHERE event_id = @event_id AND webhook_id = @webhook_id;

-- name: Postpone :exec
-- Puts off an attempt that our own side could not make. An ordered webhook's keeps its place, and the webhook rests.
WITH resting AS (
    UPDATE webhooks w SET resume_at = greatest(w.resume_at, now() + make_interval(secs => @delay_seconds::float8))
    WHERE w.id = @webhook_id AND w.ordered AND NOT @manual::boolean
    RETURNING w.id
)
UPDATE queue SET due_at = now() + make_interval(secs => @delay_seconds::float8)
WHERE event_id = @event_id AND webhook_id = @webhook_id AND attempt = @attempt AND NOT EXISTS (SELECT FROM resting);

-- name: OrderQueue :execrows
-- Has a webhook's rows due since their events were accepted: it is ordered from now on.
UPDATE queue q SET due_at = e.accepted_at
FROM events e
WHERE q.webhook_id = @webhook_id AND e.id = q.event_id AND q.trigger NOT IN ('test', 'redeliver', 'verify');

-- name: DelayRetried :exec
-- Has a row of a webhook due later: the webhook is ordered no more, so that a retry holds up no other.
UPDATE queue SET due_at = @due_at WHERE webhook_id = @webhook_id AND event_id = @event_id;

-- name: CountQueue :one
SELECT count(*) FROM (SELECT FROM queue WHERE webhook_id = @webhook_id LIMIT @most) AS counted;

-- name: HeadOf :one
-- The event of an ordered webhook's first row; no row: the webhook is not ordered, or nothing waits.
SELECT q.event_id
FROM webhooks w
CROSS JOIN LATERAL (
    SELECT h.event_id FROM queue h
    WHERE h.webhook_id = w.id AND h.trigger NOT IN ('test', 'redeliver', 'verify')
    ORDER BY h.due_at, h.seq LIMIT 1
) AS q
WHERE w.id = @webhook_id AND w.ordered;

-- name: RetriedOf :one
-- The event for whose retry an ordered webhook rests: of its next @most_read rows, the first that was attempted before. A recovery may
-- have planned older ones since.
SELECT q.event_id
FROM (
    SELECT h.event_id, h.step, h.due_at, h.seq FROM queue h
    WHERE h.webhook_id = @webhook_id AND h.trigger NOT IN ('test', 'redeliver', 'verify')
    ORDER BY h.due_at, h.seq LIMIT @most_read
) AS q
WHERE q.step > 1
ORDER BY q.due_at, q.seq LIMIT 1;

-- name: RetryNow :execrows
-- Makes what is planned due now: of one event, or of all, but @most at once. What was made due before stays. SKIP LOCKED: what an
-- attempt that has ended is being recorded of is none of it, and recordings lock a webhook's rows in another order.
UPDATE queue q SET due_at = 'epoch'
FROM (
    SELECT h.event_id, h.webhook_id FROM queue h
    WHERE h.webhook_id = @webhook_id AND h.due_at > 'epoch' AND (@event_id::text = '' OR h.event_id = @event_id::text)
    ORDER BY h.due_at, h.seq
    LIMIT @most
    FOR UPDATE SKIP LOCKED
) AS w
WHERE q.event_id = w.event_id AND q.webhook_id = w.webhook_id;

-- name: EndRest :exec
UPDATE webhooks SET resume_at = NULL WHERE id = @id AND resume_at > now();

-- name: EndRestsForHeads :exec
-- The retries that these webhooks waited for were removed: an ordered one does not wait for that any more, and rests as a failing
-- webhook does.
UPDATE webhooks SET resume_at = now() + make_interval(secs => @seconds::float8)
WHERE id = ANY (@ids::uuid[]) AND ordered AND resume_at > now() + make_interval(secs => @seconds::float8);

-- name: RestQueue :exec
-- Of a webhook whose endpoint has not agreed. Once it does, the rest is over. A longer one, as after a failure, stays.
UPDATE webhooks SET resume_at = greatest(resume_at, now() + make_interval(secs => @seconds::float8)) WHERE id = @id AND verified_at IS NULL;

-- name: SetDirect :execrows
-- Under the webhook's lock. now() would be the time before the wait for it.
UPDATE webhooks w SET queued = false
WHERE w.id = @id AND w.queued AND NOT w.ordered AND w.failure_count = 0
  AND NOT EXISTS (SELECT FROM queue q WHERE q.webhook_id = w.id AND q.due_at <= statement_timestamp());

-- name: BeginSweep :one
-- One process in so many seconds, or where the clock was ahead, and at once after a pause has ended or where the sweep
-- before has left some. It goes on after the webhook that it returns.
UPDATE queue_sweeps SET began_at = now()
WHERE began_at NOT BETWEEN now() - make_interval(secs => @seconds::float8) AND now() + make_interval(secs => @seconds::float8)
RETURNING began_at, upto;

-- name: EndSweep :exec
-- Keeps up to which webhook a sweep looked, unless another is to begin anyway; more: there are others.
UPDATE queue_sweeps SET upto = @upto, began_at = CASE WHEN @more::boolean THEN '-infinity' ELSE began_at END WHERE began_at = @began_at;

-- name: SweepSoon :exec
-- A pause has ended.
UPDATE queue_sweeps SET began_at = '-infinity', upto = '00000000-0000-0000-0000-000000000000', resumed_at = clock_timestamp();

-- name: OverdueQueues :many
-- Looks at the queues of the next @most_read webhooks after @after, in the order of their ids: a loose scan of the index, from
-- webhook to webhook. Returns the first @most that have rows which have been due for so many seconds, or since before a pause
-- ended, and that no pause covers; and the last one that it looked at, whatever it has. While a webhook rests, what a person asked
-- for alone is overdue. Of one that is ordered, what is due later is too: the clock has gone back.
WITH RECURSIVE queues AS (
    (SELECT q.webhook_id, 1 AS n FROM queue q WHERE q.webhook_id > @after ORDER BY q.webhook_id LIMIT 1)
    UNION ALL
    SELECT (SELECT q.webhook_id FROM queue q WHERE q.webhook_id > l.webhook_id ORDER BY q.webhook_id LIMIT 1), l.n + 1
    FROM queues l
    WHERE l.webhook_id IS NOT NULL AND l.n < @most_read::integer
)
SELECT l.webhook_id::uuid AS webhook_id, l.n::integer AS n, coalesce(w.bot_id, '')::text AS bot_id,
       coalesce(w.origin, '')::text AS origin, o.is_overdue::boolean AS is_overdue
FROM queues l
-- A subquery with LIMIT is not made a join, however many Postgres expects.
LEFT JOIN LATERAL (SELECT * FROM webhooks WHERE id = l.webhook_id LIMIT 1) AS w ON true
CROSS JOIN LATERAL (
    SELECT coalesce((CASE WHEN coalesce(greatest(w.resume_at, w.ordered_from), '-infinity') <= now()
               THEN (SELECT CASE WHEN w.ordered AND min(q.due_at) > now() THEN '-infinity' ELSE min(q.due_at) END
                     FROM queue q WHERE q.webhook_id = l.webhook_id)
               ELSE (SELECT min(m.due_at) FROM queue m
                     WHERE m.webhook_id = l.webhook_id AND m.trigger IN ('test', 'redeliver', 'verify'))
           END) < greatest(now() - make_interval(secs => @seconds::float8), (SELECT least(resumed_at, now()) FROM queue_sweeps)), false)
       AND NOT EXISTS (SELECT FROM pauses_of(w.bot_id, w.origin)) AS is_overdue
) AS o
WHERE l.webhook_id IS NOT NULL AND (o.is_overdue OR l.n = @most_read::integer)
LIMIT @most;
