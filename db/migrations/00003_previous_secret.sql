-- +goose Up

-- The secret before the present one, sealed as that, and until when it signs too: a rotation's overlap.
ALTER TABLE webhooks
    ADD COLUMN previous_secret       bytea,
    ADD COLUMN previous_secret_until timestamptz;

-- +goose Down
ALTER TABLE webhooks
    DROP COLUMN previous_secret,
    DROP COLUMN previous_secret_until;
