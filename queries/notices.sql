-- What owners are still to be notified of: the recording of a delivery that disables a webhook writes it (UpdateHealth), and so
-- do the passes that look for failing webhooks.

-- name: ListNotices :many
-- Those that no workflow was started for in so many seconds.
SELECT n.webhook_id, n.kind, n.generation, n.host, w.bot_id
FROM notices n
JOIN webhooks w ON w.id = n.webhook_id
WHERE coalesce(n.started_at, '-infinity') < now() - make_interval(secs => @seconds::float8)
ORDER BY n.noticed_at, n.webhook_id
LIMIT @page_size;

-- name: NoticeStarted :exec
UPDATE notices SET started_at = now() WHERE webhook_id = @webhook_id AND kind = @kind AND generation = @generation;

-- name: GetNotice :one
-- What a notice says, and where it goes to at present. is_over: that a webhook fails, or works again, is not so any more.
SELECT n.host, n.failure_count, n.noticed_at, n.event_id, n.last_error, n.reason, n.since, n.delivered, n.failed, w.bot_id,
       b.notify_url, b.notify_secret, b.is_active,
       (n.kind <> 'disabled' AND (NOT w.is_active OR EXISTS (
           SELECT FROM failing_webhooks f
           WHERE f.webhook_id = n.webhook_id AND (f.number > n.generation OR n.kind = 'failing' AND f.ended_at IS NOT NULL)
       )))::boolean AS is_over
FROM notices n
JOIN webhooks w ON w.id = n.webhook_id
JOIN bots b ON b.id = w.bot_id
WHERE n.webhook_id = @webhook_id AND n.kind = @kind AND n.generation = @generation;

-- name: DeleteNotice :exec
DELETE FROM notices WHERE webhook_id = @webhook_id AND kind = @kind AND generation = @generation;

-- name: BeginFailingPass :execrows
-- 0: a pass was made less than so many seconds ago, by a clock that was not ahead. The row is locked until the transaction's
-- end, so that one pass is made at a time. A fuse's row stays until what it held is undone.
UPDATE failing_passes
SET passed_at = now(), fuse_at = CASE WHEN EXISTS (SELECT FROM fuses) THEN now() ELSE fuse_at END
WHERE passed_at NOT BETWEEN now() - make_interval(secs => @every_seconds::float8) AND now() + make_interval(secs => @every_seconds::float8);

-- name: NoticeFailing :execrows
-- Finds active webhooks whose run of failures began a day ago, or of whose attempts of a day, of @least_attempts or more,
-- most failed, unless their owners heard so within a day; and writes a notice of each. Verifications are no attempts here.
-- What was before a webhook was last enabled does not count. Nothing while a fault of ours may be the cause: a fuse was
-- there within a day, a worker has no outbound access, the webhook is paused or of an incident of the last day.
WITH found AS (
    SELECT w.id, host_of(w.origin) AS host, w.failure_count, coalesce(f.number, 0) + 1 AS number, d.delivered, d.failed,
           coalesce(w.failing_since <= now() - interval '1 day' AND w.enabled_at <= now() - interval '1 day', false) AS in_a_row,
           w.failing_since,
           coalesce(e.event_id, '') AS event_id, coalesce(e.error, '') AS error
    FROM webhooks w
    JOIN bots b ON b.id = w.bot_id AND b.is_active AND b.notify_url IS NOT NULL
    LEFT JOIN failing_webhooks f ON f.webhook_id = w.id
    CROSS JOIN LATERAL (
        SELECT (coalesce(sum((s.tally ->> 'delivered')::bigint), 0)
                   - coalesce(sum((s.tally ->> 'verified')::bigint), 0))::bigint AS delivered,
               (coalesce(sum((s.tally ->> 'failed')::bigint), 0)
                   - coalesce(sum((s.tally ->> 'notVerified')::bigint), 0))::bigint AS failed
        FROM delivery_stats s
        WHERE s.webhook_id = w.id AND s.step = 3600 AND s.start > greatest(now() - interval '1 day', w.enabled_at)
    ) AS d
    LEFT JOIN LATERAL (
        SELECT o.event_id, o.error FROM deliveries o
        WHERE o.webhook_id = w.id AND NOT o.success AND o.trigger <> 'verify'
        ORDER BY o.seq DESC LIMIT 1
    ) AS e ON true
    WHERE w.is_active AND NOT w.suspended AND w.failed_at > greatest(now() - interval '1 day', w.enabled_at)
      AND (f.webhook_id IS NULL OR f.ended_at IS NOT NULL AND f.noticed_at <= now() - interval '1 day')
      AND (w.failing_since <= now() - interval '1 day' AND w.enabled_at <= now() - interval '1 day'
          OR d.delivered + d.failed >= @least_attempts::integer AND d.delivered < d.failed)
      AND (SELECT p.fuse_at < now() - interval '1 day' FROM failing_passes p)
      AND NOT EXISTS (SELECT FROM outages o WHERE o.seen_at > now() - interval '1 minute')
      AND NOT EXISTS (SELECT FROM pauses_of(w.bot_id, w.origin))
      AND NOT EXISTS (SELECT FROM incidents n JOIN incident_webhooks i ON i.incident_id = n.id AND i.webhook_id = w.id
                      WHERE n.disabled_until > now() - interval '1 day')
    ORDER BY w.id
    LIMIT @most
), noticed AS (
    INSERT INTO failing_webhooks (webhook_id, number, noticed_at)
    SELECT id, number, now() FROM found
    ON CONFLICT (webhook_id) DO UPDATE SET number = excluded.number, noticed_at = excluded.noticed_at, ended_at = NULL
)
INSERT INTO notices (webhook_id, kind, generation, host, failure_count, noticed_at, event_id, last_error, reason, since, delivered, failed)
SELECT id, 'failing', number, host, failure_count, now(), event_id, error,
       CASE WHEN in_a_row THEN @in_a_row::text ELSE @mostly::text END,
       CASE WHEN in_a_row THEN failing_since ELSE now() - interval '1 day' END, delivered, failed
FROM found
ON CONFLICT (webhook_id, kind, generation) DO NOTHING;

-- name: NoticeRecovered :execrows
-- Finds failing webhooks that work: without a run of failures, and with at least as many delivered as failed attempts in
-- this hour and the one before; and writes a notice of each, at most one a day: one that its owner heard so of within a day
-- is failing until then. Of one that was disabled, its owner is notified otherwise.
WITH ended AS (
    SELECT f.webhook_id, f.number, f.noticed_at, host_of(w.origin) AS host, h.delivered, h.failed,
           w.is_active AND b.notify_url IS NOT NULL AS is_told
    FROM failing_webhooks f
    JOIN webhooks w ON w.id = f.webhook_id
    JOIN bots b ON b.id = w.bot_id
    CROSS JOIN LATERAL (
        SELECT (coalesce(sum((s.tally ->> 'delivered')::bigint), 0)
                   - coalesce(sum((s.tally ->> 'verified')::bigint), 0))::bigint AS delivered,
               (coalesce(sum((s.tally ->> 'failed')::bigint), 0)
                   - coalesce(sum((s.tally ->> 'notVerified')::bigint), 0))::bigint AS failed
        FROM delivery_stats s
        WHERE s.webhook_id = w.id AND s.step = 3600 AND s.start >= date_trunc('hour', now() - interval '1 hour')
    ) AS h
    WHERE f.ended_at IS NULL AND (NOT w.is_active OR w.failure_count = 0 AND h.delivered > 0 AND h.delivered >= h.failed
           AND coalesce(f.recovered_at <= now() - interval '1 day', true))
    ORDER BY f.webhook_id
    LIMIT @most
), marked AS (
    UPDATE failing_webhooks f
    SET ended_at = now(), recovered_at = CASE WHEN e.is_told THEN now() ELSE f.recovered_at END
    FROM ended e
    WHERE f.webhook_id = e.webhook_id
)
INSERT INTO notices (webhook_id, kind, generation, host, failure_count, noticed_at, event_id, last_error, since, delivered, failed)
SELECT webhook_id, 'recovered', number, host, 0, now(), '', '', noticed_at, delivered, failed
FROM ended
WHERE is_told
ON CONFLICT (webhook_id, kind, generation) DO NOTHING;
