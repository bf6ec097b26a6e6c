-- The bot's id is in every WHERE: another bot's webhook is as if it did not exist.

-- name: CreateWebhook :one
INSERT INTO webhooks (id, bot_id, url, origin, name, events, filter, secret, extras, header_names, ordered, queued, suspended)
VALUES (@id, @bot_id, @url, @origin, sqlc.narg('name'), @events, sqlc.narg('filter')::jsonb, @secret, sqlc.narg('extras'),
    @header_names, @ordered, @ordered, coalesce((SELECT NOT is_active FROM bots WHERE id = @bot_id), false))
RETURNING *;

-- name: CountWebhooks :one
SELECT count(*) FROM webhooks WHERE bot_id = @bot_id;

-- name: AlikeWebhooks :many
-- The other webhooks of a bot at the same origin with an event type in common, oldest first.
SELECT id, url, filter FROM webhooks
WHERE bot_id = @bot_id AND id <> @id AND origin = @origin AND events && @events::text[]
ORDER BY created_at, id
LIMIT 1000;

-- name: WebhookIDs :many
-- All of a bot.
SELECT id FROM webhooks WHERE bot_id = @bot_id ORDER BY id;

-- name: GetWebhook :one
SELECT * FROM webhooks WHERE id = @id AND bot_id = @bot_id;

-- name: WebhookOfAny :one
-- For operators, who may name any bot's.
SELECT * FROM webhooks WHERE id = @id;

-- name: SetVerified :one
-- Unless the URL was changed since the endpoint was asked. What rested meanwhile may be sent now.
UPDATE webhooks w
SET verified_at = now(), resume_at = CASE WHEN w.verified_at IS NOT NULL THEN w.resume_at END
WHERE w.id = @id AND w.url_version = @url_version
RETURNING EXISTS (SELECT FROM queue q WHERE q.webhook_id = w.id AND q.due_at <= now()) AS waits;

-- name: UpdateWebhook :one
-- Changes what is given; a URL that is given is another one, and not verified: an ordered webhook's retry is due there at once.
-- Enabling raises the generation, as does another URL of an active one, so that failures which began before do not count. A new
-- secret ends the overlap of the one before, or begins one. A webhook that becomes ordered begins once the attempts have ended that
-- began before.
UPDATE webhooks
SET url           = coalesce(sqlc.narg('url')::bytea, url),
    origin        = coalesce(sqlc.narg('origin')::text, origin),
    verified_at   = CASE WHEN sqlc.narg('url')::bytea IS NULL THEN verified_at END,
    url_version   = CASE WHEN sqlc.narg('url')::bytea IS NULL THEN url_version ELSE url_version + 1 END,
    name          = CASE WHEN @set_name::boolean THEN sqlc.narg('name')::text ELSE name END,
    events        = coalesce(sqlc.narg('events')::text[], events),
    filter        = CASE WHEN @set_filter::boolean THEN sqlc.narg('filter')::jsonb ELSE filter END,
    secret        = CASE WHEN @set_secret::boolean THEN sqlc.narg('secret')::bytea ELSE secret END,
    previous_secret = CASE
        WHEN NOT @set_secret::boolean THEN previous_secret
        WHEN @overlap_seconds::float > 0 THEN secret
    END,
    previous_secret_until = CASE
        WHEN NOT @set_secret::boolean THEN previous_secret_until
        WHEN @overlap_seconds::float > 0 AND secret IS NOT NULL THEN now() + make_interval(secs => @overlap_seconds::float)
    END,
    extras        = CASE WHEN @set_extras::boolean THEN sqlc.narg('extras')::bytea ELSE extras END,
    header_names  = CASE WHEN @set_extras::boolean THEN @header_names::text[] ELSE header_names END,
    public_key    = CASE WHEN @set_extras::boolean THEN sqlc.narg('public_key')::text ELSE public_key END,
    previous_public_key = CASE WHEN @set_extras::boolean THEN sqlc.narg('previous_public_key')::text ELSE previous_public_key END,
    previous_key_until  = CASE WHEN @set_extras::boolean THEN sqlc.narg('previous_key_until')::timestamptz ELSE previous_key_until END,
    is_active     = coalesce(sqlc.narg('is_active')::boolean, is_active),
    failure_count = CASE WHEN sqlc.narg('is_active')::boolean THEN 0 ELSE failure_count END,
    early_failures = CASE WHEN sqlc.narg('is_active')::boolean THEN 0 ELSE early_failures END,
    ordered       = coalesce(sqlc.narg('ordered')::boolean, ordered),
    queued        = queued OR coalesce(sqlc.narg('ordered')::boolean, false),
    ordered_from  = CASE
        WHEN sqlc.narg('ordered')::boolean AND NOT ordered THEN now() + make_interval(secs => @settle_seconds::float)
        WHEN NOT sqlc.narg('ordered')::boolean THEN NULL
        ELSE ordered_from
    END,
    ordered_until = CASE
        WHEN sqlc.narg('ordered')::boolean THEN NULL
        WHEN ordered AND NOT sqlc.narg('ordered')::boolean THEN now() + make_interval(secs => @settle_seconds::float)
        ELSE ordered_until
    END,
    resume_at     = CASE
        WHEN sqlc.narg('is_active')::boolean OR NOT sqlc.narg('ordered')::boolean THEN NULL
        WHEN ordered AND sqlc.narg('url')::bytea IS NOT NULL THEN NULL
        ELSE resume_at
    END,
    failing_since = CASE WHEN sqlc.narg('is_active')::boolean THEN NULL ELSE failing_since END,
    generation    = CASE
        WHEN sqlc.narg('is_active')::boolean OR is_active AND sqlc.narg('url')::bytea IS NOT NULL THEN generation + 1
        ELSE generation
    END,
    enabled_at    = CASE WHEN NOT is_active AND sqlc.narg('is_active')::boolean THEN now() ELSE enabled_at END,
    disabled_at   = CASE WHEN is_active AND NOT sqlc.narg('is_active')::boolean THEN now() ELSE disabled_at END,
    disabled_reason = CASE
        WHEN sqlc.narg('is_active')::boolean THEN NULL
        WHEN is_active AND NOT sqlc.narg('is_active')::boolean THEN @disabled_reason::text
        ELSE disabled_reason
    END,
    disabled_by   = CASE WHEN sqlc.narg('is_active')::boolean THEN NULL ELSE disabled_by END,
    disabled_note = CASE
        WHEN sqlc.narg('is_active')::boolean THEN NULL
        WHEN NOT sqlc.narg('is_active')::boolean
            THEN coalesce(sqlc.narg('disabled_note')::text, CASE WHEN NOT is_active THEN disabled_note END)
        ELSE disabled_note
    END,
    updated_at    = now()
WHERE id = @id AND bot_id = @bot_id
RETURNING *;

-- name: DeleteWebhook :execrows
DELETE FROM webhooks WHERE id = @id AND bot_id = @bot_id;

-- name: ListSealedOtherwise :many
-- Webhooks with something that another key than that of the prefix has sealed, or with a secret or a key whose overlap is over.
SELECT id, url, secret, previous_secret, extras, coalesce(previous_secret_until <= now(), false)::boolean AS is_over,
       coalesce(previous_key_until <= now(), false)::boolean AS key_is_over
FROM webhooks
WHERE id > @after
  AND (substring(url FROM 1 FOR 5) <> @key_prefix::bytea
       OR substring(secret FROM 1 FOR 5) <> @key_prefix::bytea
       OR substring(previous_secret FROM 1 FOR 5) <> @key_prefix::bytea
       OR substring(extras FROM 1 FOR 5) <> @key_prefix::bytea
       OR previous_secret_until <= now() OR previous_key_until <= now())
ORDER BY id
LIMIT @page_size;

-- name: Reseal :execrows
-- Changes nothing when any of them was changed meanwhile.
UPDATE webhooks
SET url                   = @url,
    secret                = sqlc.narg('secret')::bytea,
    previous_secret       = sqlc.narg('previous_secret')::bytea,
    extras                = sqlc.narg('extras')::bytea,
    previous_public_key   = CASE WHEN NOT @key_is_over::boolean THEN previous_public_key END,
    previous_key_until    = CASE WHEN NOT @key_is_over::boolean THEN previous_key_until END,
    previous_secret_until = CASE WHEN sqlc.narg('previous_secret')::bytea IS NULL THEN NULL ELSE previous_secret_until END
WHERE id = @id
  AND url = @old_url
  AND secret IS NOT DISTINCT FROM sqlc.narg('old_secret')::bytea
  AND previous_secret IS NOT DISTINCT FROM sqlc.narg('old_previous_secret')::bytea
  AND extras IS NOT DISTINCT FROM sqlc.narg('old_extras')::bytea;
