-- The outbox of Mathub Webhooks: events that a backend stores in the transaction that makes them true, and that
-- `mathub-webhooks relay` emits once that is committed. It lives in the backend's own database.
CREATE TABLE IF NOT EXISTS mathub_outbox (
    seq         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- The event's id: accepted once, so that no crash delivers a row twice. 1 to 128 of A-Z a-z 0-9 _ -
    id          text NOT NULL DEFAULT gen_random_uuid()::text,
    event       text NOT NULL,                 -- such as post.created
    data        json NOT NULL,                 -- an object; json, unlike jsonb, keeps every digit and the order
    bot_ids     text[],                        -- the audience: required for targeted events, null for everyone
    occurred_at timestamptz NOT NULL DEFAULT now(),
    -- Set by the relay where the event itself is at fault. To have it tried again: mend the row and set both to null.
    failed_at   timestamptz,
    error       text
);

-- What the relay reads; emitted rows are deleted.
CREATE INDEX IF NOT EXISTS mathub_outbox_waiting ON mathub_outbox (seq) WHERE failed_at IS NULL;

-- Wakes the relay at once. Without this trigger it looks every second. Commits that notify wait for each other, so
-- leave it out where hundreds of transactions a second write events.
CREATE OR REPLACE FUNCTION mathub_outbox_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NOTIFY mathub_outbox;
    RETURN NULL;
END $$;

CREATE OR REPLACE TRIGGER mathub_outbox_notify AFTER INSERT ON mathub_outbox
    FOR EACH STATEMENT EXECUTE FUNCTION mathub_outbox_notify();

-- What the relay's role needs, if it is not the owner:
-- GRANT SELECT, UPDATE (failed_at, error), DELETE ON mathub_outbox TO mathub_relay;
