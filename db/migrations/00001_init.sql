-- +goose Up

-- A bot owns webhooks. Its id is Mathub's own id for the bot where the backend gives one, else a UUIDv7.
CREATE TABLE bots (
    id         text        PRIMARY KEY CHECK (id ~ '^[A-Za-z0-9_-]{1,128}$'),
    name       text        NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- Only the SHA-256 of a key is kept. 256 random bits need no slow hash, and a lookup by hash leaks no timing.
CREATE TABLE api_keys (
    id         uuid        PRIMARY KEY,
    bot_id     text        NOT NULL REFERENCES bots (id) ON DELETE CASCADE,
    key_hash   bytea       NOT NULL UNIQUE CHECK (octet_length(key_hash) = 32),
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX api_keys_bot_id ON api_keys (bot_id);

CREATE TABLE webhooks (
    id            uuid        PRIMARY KEY,
    bot_id        text        NOT NULL REFERENCES bots (id) ON DELETE CASCADE,
    url           text        NOT NULL,
    events        text[]      NOT NULL,
    -- The secret, sealed with the keyset and bound to this webhook's id; NULL when there is none.
    secret        bytea,
    is_active     boolean     NOT NULL DEFAULT true,
    -- The length of the run of failures on top of the webhook's history, since it was last enabled.
    failure_count integer     NOT NULL DEFAULT 0,
    -- Counts re-enablings. A delivery carries the generation it began under, and one of an earlier
    -- generation does not count against the webhook: an integer needs no clocks to agree.
    generation    integer     NOT NULL DEFAULT 0,
    -- Whether its last answer took over a second, so that it goes through the slow lane.
    is_slow       boolean     NOT NULL DEFAULT false,
    -- When it was last disabled; kept after it is enabled again, as what it missed since then can be recovered.
    disabled_at   timestamptz,
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX webhooks_bot_id ON webhooks (bot_id, id);
CREATE INDEX webhooks_subscribed ON webhooks USING gin (events) WHERE is_active;

-- An accepted event, its payload once, as the very bytes that are sent.
-- bytea, never jsonb: jsonb changes bytes and refuses \u0000.
CREATE TABLE events (
    id          text        PRIMARY KEY,
    type        text        NOT NULL,
    payload     bytea       NOT NULL,
    -- The audience's bots; NULL: every bot.
    bot_ids     text[],
    -- The workflow run that owns the event. Only another run is a duplicate; the same run,
    -- repeated after a crash, goes on.
    run_id      text        NOT NULL,
    accepted_at timestamptz NOT NULL DEFAULT now()
);

-- Recovery goes through the events in the order of their acceptance.
CREATE INDEX events_accepted ON events (accepted_at, id);

-- A row an attempt. There are no foreign keys to webhooks and events: each would lock the referred row at
-- every delivery. Instead a recording takes the webhook's advisory lock and leaves out webhooks that are gone,
-- and deleting a webhook takes the same lock and removes its history.
CREATE TABLE deliveries (
    -- Derived from event, webhook and attempt, so that a repeated recording changes nothing.
    id            uuid        PRIMARY KEY,
    -- The order of recording: taken under the webhook's lock.
    seq           bigint      GENERATED ALWAYS AS IDENTITY,
    webhook_id    uuid        NOT NULL,
    event_id      text        NOT NULL,
    attempt       integer     NOT NULL,
    generation    integer     NOT NULL,
    success       boolean     NOT NULL,
    status_code   integer,
    response_body bytea,
    error         text,
    duration_ms   integer     NOT NULL,
    attempted_at  timestamptz NOT NULL
);
CREATE INDEX deliveries_history ON deliveries (webhook_id, seq DESC);
-- Whether a webhook has an event yet, and the number of its next attempt.
CREATE INDEX deliveries_event ON deliveries (webhook_id, event_id);

-- +goose Down
DROP TABLE deliveries;
DROP TABLE events;
DROP TABLE webhooks;
DROP TABLE api_keys;
DROP TABLE bots;
