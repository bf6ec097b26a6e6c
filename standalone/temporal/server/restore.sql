-- Brings back the indexes that slim.sql took away.
CREATE TABLE IF NOT EXISTS slimmed_indexes (name text PRIMARY KEY, definition text NOT NULL);

DO $$
DECLARE
    index record;
BEGIN
    FOR index IN DELETE FROM slimmed_indexes RETURNING name, definition LOOP
        IF to_regclass(format('%I', index.name)) IS NULL THEN
            EXECUTE index.definition;
        END IF;
    END LOOP;
END
$$;
