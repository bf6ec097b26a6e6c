-- +goose NO TRANSACTION

-- +goose Up

-- The deliveries of an event, of all webhooks or of one: retention removes them with their event. It takes the place of
-- an index on the same columns the other way round, so that a delivery costs no more than before.
SET lock_timeout = 0;
DROP INDEX CONCURRENTLY IF EXISTS deliveries_of_event;
CREATE INDEX CONCURRENTLY deliveries_of_event ON deliveries (event_id, webhook_id);
DROP INDEX CONCURRENTLY IF EXISTS deliveries_event;
RESET lock_timeout;

-- +goose Down
SET lock_timeout = 0;
DROP INDEX CONCURRENTLY IF EXISTS deliveries_event;
CREATE INDEX CONCURRENTLY deliveries_event ON deliveries (webhook_id, event_id);
DROP INDEX CONCURRENTLY IF EXISTS deliveries_of_event;
RESET lock_timeout;
