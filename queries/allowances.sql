-- What may be sent to endpoints that have not agreed to it: internal/allowance. What takes of them stands in db/allowances.go.

-- name: AllowancePaidFor :one
-- For how many seconds from now what was sent is paid.
SELECT extract(epoch FROM paid_until - now())::float8 AS paid_for FROM allowances WHERE bot_id = @bot_id AND endpoint = @endpoint;

-- name: RemoveAllowances :exec
-- Removes those of which nothing is used: as good as none.
DELETE FROM allowances a
USING (SELECT bot_id, endpoint FROM allowances WHERE paid_until < now() AND turn < now() FOR UPDATE SKIP LOCKED) AS unused
WHERE a.bot_id = unused.bot_id AND a.endpoint = unused.endpoint;
