-- Temporal's table for lists of workflows has some 75 indexes, most of them on attributes that our workflows do not have.
-- An entry in each, or even the look whether one is due, was most of what Postgres did for an event. These are the
-- ones that stay; the others' definitions are kept, so that restore.sql can bring them back before Temporal's own schema
-- is updated. To be run after each update; it changes nothing when there is nothing to do.
CREATE TABLE IF NOT EXISTS slimmed_indexes (name text PRIMARY KEY, definition text NOT NULL);

DO $$
DECLARE
    index record;
BEGIN
    FOR index IN
        SELECT c.relname AS name, pg_get_indexdef(c.oid) AS definition
        FROM pg_index i
        JOIN pg_class c ON c.oid = i.indexrelid
        WHERE i.indrelid = 'executions_visibility'::regclass
          AND NOT i.indisprimary
          AND c.relname NOT IN (
              -- The lists in the Web UI, and what it narrows them by.
              'default_idx', 'by_status', 'by_workflow_id', 'by_workflow_type', 'by_root_workflow_id', 'failed_idx')
    LOOP
        INSERT INTO slimmed_indexes (name, definition) VALUES (index.name, index.definition)
        ON CONFLICT (name) DO UPDATE SET definition = excluded.definition;
        EXECUTE format('DROP INDEX %I', index.name);
    END LOOP;
END
$$;

-- What operators search for, "what failed", whichever of the three columns Temporal has given MathubFailed. Workflows that
-- have nothing to do with a failure have no entry in it.
CREATE INDEX IF NOT EXISTS failed_idx
    ON executions_visibility (namespace_id, (COALESCE(close_time, '9999-12-31 23:59:59')) DESC, start_time DESC, run_id)
    WHERE Bool01 OR Bool02 OR Bool03;
