-- +goose Up

-- Who hears of an event of a type: a row for each active webhook and event type, kept by the trigger below. An index on
-- webhooks.events gives no order, so that a page of a large audience, or a small audience among many webhooks, would
-- cost the reading of all.
CREATE TABLE subscriptions (
    webhook_id uuid NOT NULL REFERENCES webhooks (id) ON DELETE CASCADE,
    event_type text NOT NULL,
    bot_id     text NOT NULL,
    PRIMARY KEY (webhook_id, event_type)
);

-- +goose StatementBegin
CREATE FUNCTION keep_subscriptions() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM subscriptions WHERE webhook_id = NEW.id AND NOT (NEW.is_active AND event_type = ANY (NEW.events));
    IF NEW.is_active THEN
        INSERT INTO subscriptions (webhook_id, event_type, bot_id)
        SELECT DISTINCT NEW.id, unnest(NEW.events), NEW.bot_id
        ON CONFLICT (webhook_id, event_type) DO UPDATE SET bot_id = excluded.bot_id;
    END IF;
    RETURN NULL;
END;
$$;
-- +goose StatementEnd
CREATE TRIGGER webhooks_created AFTER INSERT ON webhooks
    FOR EACH ROW EXECUTE FUNCTION keep_subscriptions();
CREATE TRIGGER webhooks_changed AFTER UPDATE OF events, is_active, bot_id ON webhooks
    FOR EACH ROW WHEN (OLD.is_active <> NEW.is_active OR OLD.events <> NEW.events OR OLD.bot_id <> NEW.bot_id) EXECUTE FUNCTION keep_subscriptions();

-- The triggers' lock holds off changes of webhooks until all this is committed.
INSERT INTO subscriptions (webhook_id, event_type, bot_id)
SELECT DISTINCT id, unnest(events), bot_id FROM webhooks WHERE is_active;
CREATE INDEX subscriptions_type ON subscriptions (event_type, webhook_id) INCLUDE (bot_id);
CREATE INDEX subscriptions_bot ON subscriptions (bot_id, event_type, webhook_id);
DROP INDEX webhooks_subscribed;

-- +goose Down
CREATE INDEX webhooks_subscribed ON webhooks USING gin (events) WHERE is_active;
DROP TRIGGER webhooks_changed ON webhooks;
DROP TRIGGER webhooks_created ON webhooks;
DROP TABLE subscriptions;
DROP FUNCTION keep_subscriptions;
