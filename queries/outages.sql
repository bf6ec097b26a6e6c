-- Outages of outbound access, as workers report them: internal/ops/outages.go.

-- name: ReportOutage :exec
INSERT INTO outages (worker, cause) VALUES (@worker, @cause)
ON CONFLICT (worker) DO UPDATE SET cause = @cause, seen_at = now();

-- name: EndOutage :exec
-- Also of workers that ended without saying so.
DELETE FROM outages WHERE worker = @worker OR seen_at < now() - interval '1 hour';

-- name: RecentOutages :many
SELECT worker, cause, since FROM outages
WHERE seen_at > now() - make_interval(secs => @within_seconds::float8)
ORDER BY since, worker
LIMIT @most;
