-- +goose Up

-- Those who poll read events by position. The order in which rows were inserted (a sequence, a time, a transaction id) is
-- not the order in which they were committed: who reads by it skips what is committed late. So an event gets its position
-- after it is committed, when somebody polls, from one numbering at a time: db/event_log.go.
ALTER TABLE events ADD COLUMN position bigint;

CREATE UNIQUE INDEX events_position ON events (position) WHERE position IS NOT NULL;
-- What has no position yet: the one index that accepting an event pays for.
CREATE INDEX events_unnumbered ON events (accepted_at) WHERE position IS NULL;

-- One row. Whoever gives positions holds its lock until they are committed, so that whoever sees "last" sees every event
-- up to it.
CREATE TABLE event_log (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    -- The last position given.
    last     bigint  NOT NULL DEFAULT 0,
    -- The greatest position of an event that is no longer kept: who has read less has missed something.
    removed  bigint  NOT NULL DEFAULT 0
);
-- Positions begin at the time in microseconds. Taken back and made again, or made in another database, a log begins beyond
-- all that was ever given, so that a cursor of before is known to be of no use, rather than skip what it does not know of.
INSERT INTO event_log (last, removed)
SELECT now_us, now_us FROM (SELECT (extract(epoch FROM now()) * 1000000)::bigint AS now_us) AS t;

-- An event that is removed before it has a position uses one up all the same: it came after all that was read.
-- +goose StatementBegin
CREATE FUNCTION keep_event_log() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    numbered   bigint;
    unnumbered boolean;
BEGIN
    SELECT max(position), bool_or(position IS NULL) INTO numbered, unnumbered FROM gone;
    IF unnumbered THEN
        UPDATE event_log SET last = last + 1, removed = last + 1;
    ELSIF numbered IS NOT NULL THEN
        UPDATE event_log SET removed = numbered WHERE removed < numbered;
    END IF;
    RETURN NULL;
END;
$$;
-- +goose StatementEnd
CREATE TRIGGER events_removed AFTER DELETE ON events
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION keep_event_log();

-- +goose Down
DROP TRIGGER events_removed ON events;
DROP FUNCTION keep_event_log;
DROP TABLE event_log;
ALTER TABLE events DROP COLUMN position;
