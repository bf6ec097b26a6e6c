-- +goose Up

-- Where the bot's owner is told that a webhook was disabled, and the secret that signs it, sealed with the keyset and
-- bound to this bot's id. Both or neither.
ALTER TABLE bots
    ADD COLUMN notify_url    text,
    ADD COLUMN notify_secret bytea;

-- The disablings that an owner has yet to be told of: written in the transaction that disables, removed once a workflow
-- sees to the telling.
CREATE TABLE disabled_notices (
    webhook_id    uuid        NOT NULL REFERENCES webhooks (id) ON DELETE CASCADE,
    -- The webhook's, which each enabling raises: failures disable a webhook once in a generation.
    generation    integer     NOT NULL,
    failure_count integer     NOT NULL,
    disabled_at   timestamptz NOT NULL,
    event_id      text        NOT NULL,
    last_error    text        NOT NULL,
    PRIMARY KEY (webhook_id, generation)
);

-- +goose Down
DROP TABLE disabled_notices;
ALTER TABLE bots
    DROP COLUMN notify_url,
    DROP COLUMN notify_secret;
