-- +goose Up

-- What the row's HTTP exchange was like: headers and timings, as activities/exchange.go writes them. NULL in rows of
-- programs that did not keep it.
ALTER TABLE deliveries ADD COLUMN exchange bytea;

-- A webhook's failures, which are few, among any number of successes, which do not pay for it.
CREATE INDEX deliveries_failed ON deliveries (webhook_id, seq DESC) WHERE NOT success;

-- +goose Down
DROP INDEX deliveries_failed;
ALTER TABLE deliveries DROP COLUMN exchange;
