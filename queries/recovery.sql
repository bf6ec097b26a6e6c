-- Recoveries: internal/history/recovery.go.

-- name: NextAttempt :one
-- What a redelivery needs: the event of a delivery, how often it was sent to the webhook, counted up to @most_attempts, the
-- number of the attempt after the last, and whether the event was accepted since @since.
WITH asked AS (
    SELECT d.id, d.event_id, d.webhook_id FROM deliveries d WHERE d.id = @id AND d.webhook_id = @webhook_id
), own AS (
    SELECT o.attempt
    FROM deliveries_of((SELECT event_id FROM asked), (SELECT webhook_id FROM asked)) AS o
    LIMIT @most_attempts
)
SELECT asked.event_id, (SELECT count(*) FROM own) AS attempts,
       coalesce((SELECT q.attempt FROM queue q WHERE q.event_id = asked.event_id AND q.webhook_id = asked.webhook_id),
                (SELECT max(own.attempt) + 1 FROM own), 1)::integer AS attempt,
       coalesce((SELECT e.accepted_at >= @since::timestamptz FROM events e
           WHERE e.id = asked.event_id AND asked.id >= first_delivery(e.accepted_at)), false)::boolean AS is_kept
FROM asked;

-- name: NextNumber :one
-- The number of the next attempt at delivering an event to a webhook; 0: it was never sent there, nor is it planned.
SELECT coalesce((SELECT q.attempt FROM queue q WHERE q.event_id = @event_id AND q.webhook_id = @webhook_id),
                (SELECT max(d.attempt) + 1 FROM deliveries_of(@event_id, @webhook_id) AS d),
                0)::integer AS attempt;

-- name: LockOwner :one
-- Locks a webhook's bot, as LockBot does.
SELECT b.id FROM bots b JOIN webhooks w ON w.bot_id = b.id WHERE w.id = @id FOR NO KEY UPDATE OF b;

-- name: RunningRecovery :one
-- What keeps a recovery of a webhook from beginning: its own that runs, or one of its bot that has work. The bot is locked.
SELECT b.webhook_id FROM (
    SELECT r.webhook_id, 1 AS n FROM recoveries r WHERE r.webhook_id = @webhook_id AND r.state = 'running'
    UNION ALL
    SELECT r.webhook_id, 2 FROM busy_recoveries(@ahead_seconds) r JOIN webhooks w ON w.id = r.webhook_id WHERE w.bot_id = @bot_id
) AS b
ORDER BY b.n LIMIT 1;

-- name: StartRecovery :one
-- Fails with a unique violation while one of the webhook is running. What came before the webhook, it did not miss. An ordered
-- webhook's goes through the span once, oldest first.
INSERT INTO recoveries (id, webhook_id, since, until, event_type, error, status_class, begin_at, upto, after_time)
SELECT @id, w.id, s.since, s.until, @event_type, @error, @status_class, s.begin_at, s.until, s.begin_at
FROM webhooks w
CROSS JOIN LATERAL (
    SELECT span.since, span.until,
           CASE WHEN NOT w.ordered AND w.disabled_at BETWEEN span.since AND span.until THEN w.disabled_at ELSE span.since END AS begin_at
    FROM (SELECT greatest(@since::timestamptz, w.created_at) AS since, greatest(@until::timestamptz, w.created_at) AS until) AS span
) AS s
WHERE w.id = @webhook_id
RETURNING *;

-- name: LatestRecovery :one
-- The one that runs, or else the last: a later one may have ended before, while this waited for the bot.
-- Of what is planned, 10,000 are counted at most. ordered: the webhook is. now is by the clock by which recoveries have their times.
SELECT sqlc.embed(r), w.ordered, planned_enough(r.id, r.after_time)::boolean AS planned_enough, now()::timestamptz AS now, (CASE
    WHEN r.state = 'completed' THEN 0
    WHEN r.state = 'running' AND c.planned < 10000 THEN c.planned
    ELSE r.found - r.delivered - r.failed
END)::bigint AS remaining
FROM recoveries r
JOIN webhooks w ON w.id = r.webhook_id
CROSS JOIN LATERAL (
    SELECT count(*) AS planned FROM (SELECT FROM queue q WHERE r.state = 'running' AND q.recovery_id = r.id LIMIT 10000) AS p
) AS c
WHERE r.id = coalesce((SELECT o.id FROM recoveries o WHERE o.webhook_id = @webhook_id AND o.state = 'running'),
    (SELECT o.id FROM recoveries o WHERE o.webhook_id = @webhook_id ORDER BY o.created_at DESC LIMIT 1));

-- name: ListRecoveries :many
SELECT sqlc.embed(r), (CASE
    WHEN r.state = 'completed' THEN 0
    WHEN r.state = 'running' AND c.planned < 10000 THEN c.planned
    ELSE r.found - r.delivered - r.failed
END)::bigint AS remaining
FROM recoveries r
CROSS JOIN LATERAL (
    SELECT count(*) AS planned FROM (SELECT FROM queue q WHERE r.state = 'running' AND q.recovery_id = r.id LIMIT 10000) AS p
) AS c
WHERE r.webhook_id = @webhook_id
ORDER BY r.created_at DESC
LIMIT @most;

-- name: TrimRecoveries :exec
-- Removes recoveries of a webhook that ended and that no list shows: those before the last @others and one. Within a day, their
-- incident has taken over how they ended.
DELETE FROM recoveries WHERE id IN (
    SELECT r.id FROM recoveries r
    WHERE r.webhook_id = @webhook_id AND r.state <> 'running' AND r.created_at < now() - interval '1 day' AND r.created_at < (
        SELECT o.created_at FROM recoveries o WHERE o.webhook_id = @webhook_id ORDER BY o.created_at DESC LIMIT 1 OFFSET @others
    )
    ORDER BY r.created_at LIMIT 100
);

-- name: LockRecovery :one
-- Locks a recovery that runs and has come as far as given. Both halves of the span end where the second begins, so that
-- the place alone does not tell.
SELECT id FROM recoveries
WHERE id = @id AND state = 'running' AND NOT looked_through AND upto = @upto AND after_time = @after_time AND after_id = @after_id
FOR UPDATE;

-- name: ListMissed :many
-- Looks through the @most_read events of a span that follow a place, oldest first: the last one, and those that match the
-- webhook's present subscription and what is wanted, were never taken by it and are not planned, each with the number of its
-- next attempt. Those of which deliveries were dropped are not looked at, and those of which deliveries may have been removed for the
-- bot's budget, also since the recovery began, are not taken for missed. was_active: when the event was accepted, the webhook was.
-- Scalar subqueries, as of NOT EXISTS Postgres may make one scan of all deliveries: see TestARecoverysPageIsBounded.
SELECT e.id, e.type, e.accepted_at, e.n, e.missed, e.was_active,
       (SELECT coalesce(max(d.attempt), 0) + 1 FROM deliveries d
        WHERE d.webhook_id = @webhook_id AND d.event_id = e.id AND d.id >= e.first AND d.id < e.beyond)::integer AS attempt
FROM (
    SELECT p.id, p.type, p.accepted_at, p.first, p.beyond, x.was_active::boolean AS was_active,
           row_number() OVER (ORDER BY p.accepted_at, p.id) AS n, count(*) OVER () AS total,
           (p.type = ANY (w.events) AND NOT (x.was_active AND coalesce(p.accepted_at < u.removed_before, false))
               AND (p.bot_ids IS NULL OR w.bot_id = ANY (p.bot_ids))
               AND (@event_type::text = '' OR p.type = @event_type::text)
               AND (SELECT d.id FROM deliveries d WHERE d.webhook_id = w.id AND d.event_id = p.id AND d.id >= p.first
                   AND d.id < p.beyond AND d.success LIMIT 1) IS NULL
               AND (SELECT q.seq FROM queue q WHERE q.webhook_id = w.id AND q.event_id = p.id LIMIT 1) IS NULL
               AND (@error::text = '' AND @status_class::integer = 0 OR (
                   SELECT d.id FROM deliveries d
                   WHERE d.webhook_id = w.id AND d.event_id = p.id AND d.id >= p.first AND d.id < p.beyond
                     AND (@error::text = '' OR d.error = @error::text OR split_part(d.error, ':', 1) = @error::text)
                     AND CASE @status_class::integer WHEN 0 THEN true WHEN -1 THEN d.status_code IS NULL
                         ELSE d.status_code / 100 = @status_class::integer END
                   LIMIT 1) IS NOT NULL))::boolean AS missed
    FROM (
        SELECT c.id, c.type, c.bot_ids, c.accepted_at, first_delivery(c.accepted_at) AS first,
               first_delivery(c.accepted_at + interval '1 second') AS beyond
        FROM events c
        WHERE c.accepted_at >= @after_time AND c.accepted_at <= @upto
          AND c.accepted_at >= (SELECT x.before FROM history_dropped x)
          AND (c.accepted_at, c.id) > (@after_time::timestamptz, @after_id::text)
        ORDER BY c.accepted_at, c.id
        LIMIT @most_read
    ) AS p
    JOIN webhooks w ON w.id = @webhook_id
    LEFT JOIN history_usage u ON u.webhook_id = w.id
    CROSS JOIN LATERAL (SELECT p.accepted_at >= w.enabled_at OR coalesce(p.accepted_at < w.disabled_at, false) AS was_active) AS x
) AS e
WHERE e.missed OR e.n = e.total
ORDER BY e.n;

-- name: AdvanceRecovery :exec
UPDATE recoveries
SET after_time = @after_time, after_id = @after_id, begin_at = @begin_at, upto = @upto, looked_through = @looked_through,
    found = found + @found::integer, updated_at = now()
WHERE id = @id;

-- name: LockCounted :exec
-- Locks recoveries that are to be counted in, in the order of their ids: recordings at once may have several in common.
SELECT id FROM recoveries WHERE id = ANY (@ids::uuid[]) ORDER BY id FOR NO KEY UPDATE;

-- name: CountRecovered :exec
-- Counts attempts that recoveries asked for; a failed one is attempted again by the schedule, as any other.
UPDATE recoveries r
SET delivered = r.delivered + u.delivered, failed = r.failed + u.failed,
    last_error = coalesce(u.error, r.last_error), updated_at = now()
FROM (
    SELECT a.id, count(*) FILTER (WHERE a.success) AS delivered, count(*) FILTER (WHERE NOT a.success) AS failed,
           (array_agg(a.error ORDER BY a.n DESC) FILTER (WHERE a.error <> ''))[1] AS error
    FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@successes::boolean[]) AS success, unnest(@errors::text[]) AS error,
        generate_series(1, cardinality(@ids::uuid[])) AS n) AS a
    GROUP BY a.id
) AS u
WHERE r.id = u.id;

-- name: EndRecoveries :exec
-- Ends those of some webhooks that are running.
UPDATE recoveries SET state = @state, ended_at = now(), updated_at = now(), last_error = coalesce(sqlc.narg('last_error')::text, last_error)
WHERE webhook_id = ANY (@webhook_ids::uuid[]) AND state = 'running';

-- name: CompleteRecovery :exec
-- Of a recovery that all was attempted of: not of one that has begun since.
UPDATE recoveries SET state = 'completed', ended_at = now(), updated_at = now() WHERE id = @id AND state = 'running';

-- name: RemoveRecovered :execrows
DELETE FROM queue WHERE recovery_id = @recovery_id;

-- name: StalledRecoveries :many
-- Recoveries that run and have not moved for so many seconds: their workflow may never have started. Those of webhooks that
-- are paused do not move. One that has planned all has nothing to do before that was attempted, which may take as long as
-- the retries; that of an ordered webhook which waits for a retry neither.
SELECT r.webhook_id, w.bot_id, w.origin
FROM recoveries r
JOIN webhooks w ON w.id = r.webhook_id
WHERE r.state = 'running' AND r.updated_at < now() - make_interval(secs => @seconds::float8)
  AND NOT EXISTS (SELECT FROM pauses_of(w.bot_id, w.origin))
  AND NOT ((r.looked_through OR w.ordered AND coalesce(w.resume_at > now(), false))
           AND EXISTS (SELECT FROM queue q WHERE q.recovery_id = r.id))
ORDER BY r.updated_at
LIMIT 100;
