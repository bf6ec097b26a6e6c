-- Least privilege: one role migrates, another serves. Run it as a superuser, in the product's database, before the first
-- `mathub-webhooks migrate`; then give both a password, as with psql's \password. To run it again changes nothing.

DO $$ BEGIN
    IF to_regrole('mathub_owner') IS NULL THEN
        CREATE ROLE mathub_owner LOGIN; -- in MATHUB_DATABASE_URL of `migrate`: owns the tables
    END IF;
    IF to_regrole('mathub_app') IS NULL THEN
        CREATE ROLE mathub_app LOGIN; -- in MATHUB_DATABASE_URL of all else: reads and writes rows, and can neither change nor drop a table
    END IF;
END $$;

REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO mathub_owner;
GRANT USAGE ON SCHEMA public TO mathub_app;
ALTER DEFAULT PRIVILEGES FOR ROLE mathub_owner IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO mathub_app;
ALTER DEFAULT PRIVILEGES FOR ROLE mathub_owner IN SCHEMA public GRANT USAGE ON SEQUENCES TO mathub_app;
