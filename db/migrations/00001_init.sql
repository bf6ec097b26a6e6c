-- +goose Up
SET LOCAL lock_timeout = '1s';

-- Which migrations are applied is for the role that migrates to say: whom db/roles.sql lets write rows may read this alone.
-- +goose StatementBegin
DO $$
DECLARE
    other regrole;
BEGIN
    FOR other IN
        SELECT DISTINCT a.grantee::regrole FROM pg_class c CROSS JOIN aclexplode(c.relacl) a
        WHERE c.oid = to_regclass('goose_db_version') AND a.grantee NOT IN (0, c.relowner)
    LOOP
        EXECUTE format('REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON goose_db_version FROM %s', other);
    END LOOP;
END $$;
-- +goose StatementEnd

-- A bot owns webhooks. Its id is Mathub's own id for the bot where the backend gives one, else a UUIDv7.
CREATE TABLE bots (
    id            text        PRIMARY KEY CHECK (id ~ '^[A-Za-z0-9_-]{1,128}$'),
    name          text        NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    -- Where the owner is notified of disabled webhooks, and the secret that signs the notice, each sealed with the keyset
    -- and bound to this bot's id. Both or neither.
    notify_url    bytea,
    notify_secret bytea,
    -- false: the bot is suspended. It is sent nothing, and its keys are refused.
    is_active     boolean     NOT NULL DEFAULT true,
    -- Since when it is suspended, and why, if the operator said so; NULL while it is active.
    suspended_at     timestamptz,
    suspended_reason text
);
CREATE INDEX bots_suspended ON bots (id) WHERE NOT is_active;

-- Only the SHA-256 of a key is kept. 224 random bits need no slow hash, and a lookup by hash leaks no timing.
CREATE TABLE api_keys (
    id         uuid        PRIMARY KEY,
    bot_id     text        NOT NULL REFERENCES bots (id) ON DELETE CASCADE,
    key_hash   bytea       NOT NULL UNIQUE CHECK (octet_length(key_hash) = 32),
    -- What its owner calls it, and how it begins, by which its owner knows it: bot_ and 6 of its 43 characters, which leaves
    -- 188 random bits.
    name       text        NOT NULL DEFAULT '',
    prefix     text        NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    -- Who made it, as internal/audit names actors: the audit log's own entry is removed after a time.
    creator_kind text      NOT NULL DEFAULT '',
    creator_name text      NOT NULL DEFAULT '',
    -- To the minute; NULL: it was not used.
    last_used_at timestamptz
);
CREATE INDEX api_keys_bot_id ON api_keys (bot_id);
-- By which operators find the bot of a leaked key.
CREATE INDEX api_keys_prefix ON api_keys (prefix COLLATE "C");

-- Links that open the portal once: of each, the SHA-256 of its code of 256 random bits. They end with the key that made them.
CREATE TABLE portal_links (
    code_hash  bytea       PRIMARY KEY CHECK (octet_length(code_hash) = 32),
    -- What the audit log calls it.
    id         uuid        NOT NULL,
    bot_id     text        NOT NULL REFERENCES bots (id) ON DELETE CASCADE,
    role       text        NOT NULL CHECK (role IN ('manage', 'view')),
    label      text        NOT NULL DEFAULT '',
    -- Where the link leads; empty: to the portal's first page.
    next       text        NOT NULL DEFAULT '',
    key_id     uuid        REFERENCES api_keys (id) ON DELETE CASCADE,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL
);
CREATE INDEX portal_links_bot ON portal_links (bot_id, created_at DESC);
CREATE INDEX portal_links_key ON portal_links (key_id) WHERE key_id IS NOT NULL;
CREATE INDEX portal_links_expires ON portal_links (expires_at);

-- Who is signed in to the portal: of each session, the SHA-256 of its cookie of 256 random bits. It ends with the key that
-- made it.
CREATE TABLE portal_sessions (
    id           uuid        PRIMARY KEY,
    token_hash   bytea       NOT NULL UNIQUE CHECK (octet_length(token_hash) = 32),
    bot_id       text        NOT NULL REFERENCES bots (id) ON DELETE CASCADE,
    role         text        NOT NULL CHECK (role IN ('manage', 'view')),
    label        text        NOT NULL DEFAULT '',
    key_id       uuid        REFERENCES api_keys (id) ON DELETE CASCADE,
    -- The link that opened it, which is gone since; NULL: a key did.
    link_id      uuid,
    -- The last form that it sent of those that make a thing each time: one that is sent again makes nothing.
    last_form    uuid,
    created_at   timestamptz NOT NULL DEFAULT now(),
    -- To the minute.
    last_used_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX portal_sessions_bot ON portal_sessions (bot_id, created_at DESC);
CREATE INDEX portal_sessions_key ON portal_sessions (key_id) WHERE key_id IS NOT NULL;

-- The host of an origin, without its port; an IPv6 address without brackets.
CREATE FUNCTION host_of(origin text) RETURNS text LANGUAGE sql IMMUTABLE
    RETURN CASE WHEN split_part(origin, '://', 2) LIKE '[%'
        THEN split_part(substr(split_part(origin, '://', 2), 2), ']', 1)
        ELSE split_part(split_part(origin, '://', 2), ':', 1) END;

CREATE TABLE webhooks (
    id            uuid        PRIMARY KEY,
    bot_id        text        NOT NULL REFERENCES bots (id) ON DELETE CASCADE,
    -- Where events are sent, sealed with the keyset and bound to this webhook's id, as paths and queries hold tokens; and
    -- its scheme, host and port, which may be shown.
    url           bytea       NOT NULL,
    origin        text        NOT NULL,
    -- What its owner calls it; NULL: nothing.
    name          text,
    events        text[]      NOT NULL,
    -- Which events of these types it gets, as webhook.Filter has it; NULL: all.
    filter        jsonb       CHECK (jsonb_typeof(filter) = 'object' AND filter <> '{}'),
    -- The secret, sealed with the keyset and bound to this webhook's id; NULL when there is none.
    secret        bytea,
    -- The secret before it, sealed likewise, and until when it signs too: a rotation's overlap.
    previous_secret       bytea,
    previous_secret_until timestamptz,
    -- What few webhooks have, sealed likewise: headers of its own that its deliveries carry, and key pairs that sign beside the
    -- secret, see db.Extras; NULL: neither. What of it may be shown: the headers' names, the public key, and in a rotation's
    -- overlap the one before it and until when that signs too.
    extras        bytea,
    header_names  text[]      NOT NULL DEFAULT '{}',
    public_key            text,
    previous_public_key   text,
    previous_key_until    timestamptz,
    -- When the endpoint agreed to the webhook's deliveries; NULL: it has not. A change of the URL sets it to NULL and raises
    -- the version, so that an answer to what the URL before was asked verifies nothing.
    verified_at   timestamptz,
    url_version   integer     NOT NULL DEFAULT 0,
    is_active     boolean     NOT NULL DEFAULT true,
    -- The webhook's bot is: a copy of NOT bots.is_active, so that no delivery reads the bot.
    suspended     boolean     NOT NULL DEFAULT false,
    -- The mode: queued, its deliveries are rows of the table queue; else direct, an event's own workflow sends them.
    queued        boolean     NOT NULL DEFAULT false,
    -- Its deliveries are made one at a time, in the order of acceptance (docs/decisions/order.md): it stays queued.
    ordered       boolean     NOT NULL DEFAULT false,
    -- Of one that has become ordered: from when on, as direct attempts may have begun before.
    ordered_from  timestamptz,
    -- Of one that is ordered no more: what was accepted until then may stand in its queue although its filter leaves it out.
    ordered_until timestamptz,
    -- How far the run of failures on top of the webhook's history counts, since it was last enabled.
    failure_count integer     NOT NULL DEFAULT 0,
    -- Of failure_count: failures of attempts that began before the run's first failure was recorded.
    early_failures integer    NOT NULL DEFAULT 0,
    -- Counts re-enablings, and other URLs of an active webhook. A delivery carries the generation it began under, and one of an
    -- earlier generation does not count against the webhook: an integer needs no clocks to agree.
    generation    integer     NOT NULL DEFAULT 0,
    -- Counts runs of failures. An attempt that carries the present run's number began after its first failure was known.
    failure_run   integer     NOT NULL DEFAULT 0,
    -- The class of the last failure's error, as egress names it; of a webhook that failures disabled, of the one that did.
    failure_class text        NOT NULL DEFAULT '',
    -- When a webhook with a run of failures may be attempted again; of one that is ordered, also when its head may be.
    resume_at     timestamptz,
    -- When the first failure of its run was recorded, NULL without a run; and when a failure that counts was last recorded.
    failing_since timestamptz,
    failed_at     timestamptz,
    -- When it was made, or last enabled, or its suspension ended.
    enabled_at      timestamptz NOT NULL DEFAULT now(),
    -- When it was last disabled, or suspended while it was active; kept after it is enabled again, as what it missed since
    -- then can be recovered.
    disabled_at     timestamptz,
    -- Why, and, of failures, the delivery that did it. NULL while the webhook is active.
    disabled_reason text      CHECK (disabled_reason IN ('failures', 'owner', 'operator')),
    disabled_by     uuid,
    -- What the operator who disabled it said about that; NULL: nothing.
    disabled_note   text,
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    CHECK (queued OR NOT ordered)
);
CREATE INDEX webhooks_bot_id ON webhooks (bot_id, id);
-- For operators' lists. No attempt changes a column of these but one that disables the webhook, or turns it queued or direct:
-- a failing webhook is queued, and an index on failure_count would be written at each failure.
CREATE INDEX webhooks_disabled ON webhooks (disabled_at, id) WHERE NOT is_active;
CREATE INDEX webhooks_disabled_reason ON webhooks (disabled_reason, disabled_at, id) WHERE NOT is_active;
CREATE INDEX webhooks_queued ON webhooks (id) WHERE queued AND is_active;
CREATE INDEX webhooks_suspended ON webhooks (id) WHERE suspended;
CREATE INDEX webhooks_host ON webhooks (host_of(origin), id);

-- Who gets an event of a type: a row for each active webhook of a bot that is not suspended, and event type, kept by the
-- trigger below. An index on webhooks.events gives no order, so that a page of a large audience, or a small audience among
-- many webhooks, would cost the reading of all.
CREATE TABLE subscriptions (
    webhook_id uuid NOT NULL REFERENCES webhooks (id) ON DELETE CASCADE,
    event_type text NOT NULL,
    bot_id     text NOT NULL,
    ordered    boolean NOT NULL DEFAULT false, -- the webhook is
    -- The type first: by an index that begins with the webhook, a plan for any arguments may read all types' rows of a page.
    PRIMARY KEY (event_type, webhook_id) INCLUDE (bot_id)
);
CREATE INDEX subscriptions_webhook ON subscriptions (webhook_id);
CREATE INDEX subscriptions_bot ON subscriptions (bot_id, event_type, webhook_id);
-- The ordered ones, which a large audience finds at once: others' rows do not pay for it.
CREATE INDEX subscriptions_ordered ON subscriptions (event_type, webhook_id) INCLUDE (bot_id) WHERE ordered;

-- +goose StatementBegin
CREATE FUNCTION keep_subscriptions() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM subscriptions WHERE webhook_id = NEW.id AND NOT (NEW.is_active AND NOT NEW.suspended AND event_type = ANY (NEW.events));
    IF NEW.is_active AND NOT NEW.suspended THEN
        INSERT INTO subscriptions (webhook_id, event_type, bot_id, ordered)
        SELECT DISTINCT NEW.id, unnest(NEW.events), NEW.bot_id, NEW.ordered
        ON CONFLICT (webhook_id, event_type) DO UPDATE SET bot_id = excluded.bot_id, ordered = excluded.ordered;
    END IF;
    RETURN NULL;
END;
$$;
-- +goose StatementEnd
CREATE TRIGGER webhooks_created AFTER INSERT ON webhooks
    FOR EACH ROW EXECUTE FUNCTION keep_subscriptions();
CREATE TRIGGER webhooks_changed AFTER UPDATE OF events, is_active, suspended, bot_id, ordered ON webhooks
    FOR EACH ROW WHEN (OLD.is_active <> NEW.is_active OR OLD.suspended <> NEW.suspended OR OLD.events <> NEW.events
        OR OLD.bot_id <> NEW.bot_id OR OLD.ordered <> NEW.ordered)
    EXECUTE FUNCTION keep_subscriptions();

-- An accepted event, its payload once, as the very bytes that are sent.
-- bytea, never jsonb: jsonb changes bytes and refuses \u0000.
CREATE TABLE events (
    id          text        PRIMARY KEY,
    type        text        NOT NULL,
    payload     bytea       NOT NULL,
    -- The audience's bots; NULL: every bot.
    bot_ids     text[],
    -- The workflow run that owns the event. Another run is a duplicate, unless this one ended before its work was done.
    run_id      text        NOT NULL,
    -- The workflow's id; NULL: event-<id>.
    workflow_id text,
    accepted_at timestamptz NOT NULL DEFAULT now(),
    position    bigint
);

-- Recovery goes through the events in the order of their acceptance.
CREATE INDEX events_accepted ON events (accepted_at, id);

-- Those who poll read events by position. The order in which rows were inserted (a sequence, a time, a transaction id) is
-- not the order in which they were committed: who reads by it skips what is committed late. So an event gets its position
-- after it is committed, when somebody polls, from one numbering at a time: db/event_log.go.
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
-- Positions begin at the time in microseconds. Made again, or made in another database, a log begins beyond all that was
-- ever given, so that a cursor of before is known to be of no use, rather than skip what it does not know of.
INSERT INTO event_log (last, removed)
SELECT now_us, now_us FROM (SELECT (extract(epoch FROM now()) * 1000000)::bigint AS now_us) AS t;

-- An event that is removed before it has a position uses one up all the same: it came after all that was read.
-- +goose StatementBegin
CREATE FUNCTION keep_event_log() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    numbered   bigint;
    unnumbered boolean;
BEGIN
    -- Nobody polls test events, and so nobody misses them.
    SELECT max(position), bool_or(position IS NULL) INTO numbered, unnumbered FROM gone WHERE type <> 'test';
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

-- What asked for an attempt.
CREATE TYPE delivery_trigger AS ENUM ('event', 'retry', 'redeliver', 'recover', 'test', 'verify');

-- A row an attempt. There are no foreign keys to webhooks and events: each would lock the referred row at
-- every delivery. Instead a recording takes the webhook's advisory lock and leaves out webhooks that are gone,
-- and deleting a webhook takes the same lock and removes its history.
--
-- The table is partitioned by the time of the event's acceptance, with which ids begin: a partition holds what is of the events
-- of five days, and is dropped when these are no longer kept (docs/decisions/partitions.md).
CREATE TABLE deliveries (
    -- Derived from event, webhook and attempt, so that a repeated recording changes nothing. Its first 32 bits are the second
    -- in which the event was accepted: see webhook.DeliveryID.
    id            uuid        PRIMARY KEY,
    -- The order of recording: taken under the webhook's lock.
    seq           bigint      GENERATED ALWAYS AS IDENTITY,
    webhook_id    uuid        NOT NULL,
    event_id      text        NOT NULL,
    attempt       integer     NOT NULL,
    trigger       delivery_trigger NOT NULL DEFAULT 'event',
    success       boolean     NOT NULL,
    status_code   integer,
    response_body bytea,
    error         text,
    duration_ms   integer     NOT NULL,
    attempted_at  timestamptz NOT NULL,
    -- The HTTP exchange: headers and timings, as internal/history/exchange.go writes them.
    exchange      bytea
) PARTITION BY RANGE (id);
CREATE INDEX deliveries_history ON deliveries (webhook_id, seq DESC);
-- A webhook's failures, which are few, among any number of successes, which do not pay for it.
CREATE INDEX deliveries_failed ON deliveries (webhook_id, seq DESC) WHERE NOT success;
-- The deliveries of an event, of all webhooks or of one: retention removes them with their event.
CREATE INDEX deliveries_of_event ON deliveries (event_id, webhook_id);

-- What no other partition is for: it is never refused, and removed row by row.
CREATE TABLE deliveries_default PARTITION OF deliveries DEFAULT;

-- The least id of a delivery of an event that was accepted at a time.
CREATE FUNCTION first_delivery(accepted_at timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE
    RETURN (lpad(to_hex(least(greatest(floor(extract(epoch FROM accepted_at - '1970-01-01 00:00:00+00'::timestamptz)), 0),
        4294967295)::bigint), 8, '0')
        || '000000000000000000000000')::uuid;

-- The partitions' grid: the number of the five days in which a delivery's event was accepted, and when they begin.
CREATE FUNCTION span_of(delivery_id uuid) RETURNS integer LANGUAGE sql IMMUTABLE
    RETURN (('x' || left(delivery_id::text, 8))::bit(32)::bigint / 432000)::integer;
CREATE FUNCTION span_start(span integer) RETURNS timestamptz LANGUAGE sql IMMUTABLE
    RETURN '1970-01-01 00:00:00+00'::timestamptz + span * interval '120 hours';

-- What an event was sent to a webhook: deliveries with ids of the second of its acceptance. An event that is no longer kept may leave
-- others behind, until their partition is dropped; if its id is emitted again, that is another event. Inlined, as pauses_of.
CREATE FUNCTION deliveries_of(of_event text, of_webhook uuid) RETURNS SETOF deliveries LANGUAGE sql STABLE AS $$
    SELECT d.*
    FROM events e
    JOIN deliveries d ON d.event_id = e.id AND d.webhook_id = of_webhook
        AND d.id >= first_delivery(e.accepted_at) AND d.id < first_delivery(e.accepted_at + interval '1 second')
    WHERE e.id = of_event
$$;

-- What the partition of a span is called: by its first day.
CREATE FUNCTION partition_of(span integer) RETURNS text LANGUAGE sql STABLE
    RETURN 'deliveries_' || to_char(span_start(span) AT TIME ZONE 'UTC', 'YYYYMMDD');

-- Makes the partitions of the present span and of the next one, where they are missing, and returns how many it made. One
-- process does so at a time. It waits 50 ms at most for those who read, and they for it: what it could not make, the next call
-- does. A span of which the default partition has rows gets none.
--
-- Attaching a partition reads the default one under a lock that no recording gets past. While that is large, a partition is made
-- of the next span alone, by two calls: the first adds a constraint, the second reads the table beside recordings, which proves
-- to Postgres that no row is of that span or later. As the constraint would refuse these, it stands only before the last day.
-- Who wants no partitions has it removed.
-- +goose StatementBegin
CREATE FUNCTION make_partitions(are_wanted boolean) RETURNS integer LANGUAGE plpgsql SECURITY DEFINER SET lock_timeout = '50ms' AS $$
DECLARE
    present integer := span_of(first_delivery(clock_timestamp()));
    coming  integer := span_of(first_delivery(clock_timestamp() + interval '1 day')) + 1;
    made    integer := 0;
    large   boolean := pg_relation_size('deliveries_default') > 64 * 1024 * 1024;
    upto    integer := CASE WHEN large THEN coming ELSE present + 1 END;
    wanted  text;
    stands  text;
BEGIN
    IF NOT has_table_privilege(session_user, 'deliveries', 'INSERT') THEN
        RAISE insufficient_privilege USING MESSAGE = 'make_partitions needs INSERT on deliveries';
    END IF;
    IF NOT pg_try_advisory_xact_lock(hashtextextended('make_partitions', 0)) THEN
        RETURN 0;
    END IF;
    IF are_wanted AND large AND to_regclass(partition_of(coming)) IS NULL
        AND (SELECT d.id FROM deliveries_default d ORDER BY d.id DESC LIMIT 1) < first_delivery(span_start(coming)) THEN
        wanted := 'before_' || coming;
    END IF;
    stands := (SELECT conname FROM pg_constraint WHERE conrelid = 'deliveries_default'::regclass AND contype = 'c');
    BEGIN
        IF stands IS DISTINCT FROM wanted THEN
            IF stands IS NOT NULL THEN
                EXECUTE format('ALTER TABLE deliveries_default DROP CONSTRAINT %I', stands);
            END IF;
            IF wanted IS NOT NULL THEN
                EXECUTE format('ALTER TABLE deliveries_default ADD CONSTRAINT %I CHECK (id < %L) NOT VALID',
                    wanted, first_delivery(span_start(coming)));
                RETURN 0;
            END IF;
        ELSIF wanted IS NOT NULL THEN
            EXECUTE format('ALTER TABLE deliveries_default VALIDATE CONSTRAINT %I', wanted);
        END IF;
    EXCEPTION WHEN lock_not_available THEN
        RETURN 0;
    END;
    IF NOT are_wanted OR large AND wanted IS NULL THEN
        RETURN 0;
    END IF;
    FOR span IN CASE WHEN large THEN upto ELSE present END .. upto LOOP
        CONTINUE WHEN to_regclass(partition_of(span)) IS NOT NULL;
        BEGIN
            EXECUTE format('CREATE TABLE %I (LIKE deliveries INCLUDING DEFAULTS)', partition_of(span));
            EXECUTE format('ALTER TABLE deliveries ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                partition_of(span), first_delivery(span_start(span)), first_delivery(span_start(span + 1)));
            IF wanted IS NOT NULL THEN
                EXECUTE format('ALTER TABLE deliveries_default DROP CONSTRAINT %I', wanted);
            END IF;
            made := made + 1;
        EXCEPTION WHEN lock_not_available OR check_violation THEN
            NULL;
        END;
    END LOOP;
    RETURN made;
END;
$$;
-- +goose StatementEnd

-- One row: partitions were dropped of the events accepted before a time. Nobody knows any more to whom these were delivered.
CREATE TABLE history_dropped (
    only_row boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
    before   timestamptz NOT NULL DEFAULT '-infinity'
);
INSERT INTO history_dropped DEFAULT VALUES;

-- Drops the oldest partition, with what is counted of it, if all of its events were accepted before a time. It returns its name;
-- NULL: there is none. It waits 50 ms at most for those who read or write, and they for it, and fails where they take longer.
-- +goose StatementBegin
CREATE FUNCTION drop_partition(before timestamptz) RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET lock_timeout = '50ms' AS $$
DECLARE
    oldest text := (
        SELECT min(c.relname) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'deliveries'::regclass AND c.relname ~ '^deliveries_[0-9]{8}$'
    );
    its    integer := span_of(first_delivery((substr(oldest, 12) || ' 00:00:00+00')::timestamptz));
BEGIN
    IF NOT has_table_privilege(session_user, 'deliveries', 'DELETE') THEN
        RAISE insufficient_privilege USING MESSAGE = 'drop_partition needs DELETE on deliveries';
    END IF;
    IF oldest IS NULL OR span_start(its + 1) > before THEN
        RETURN NULL;
    END IF;
    DELETE FROM history_sizes WHERE span = its;
    UPDATE history_dropped d SET before = greatest(d.before, span_start(its + 1));
    EXECUTE format('ALTER TABLE deliveries DETACH PARTITION %I', oldest);
    EXECUTE format('DROP TABLE %I', oldest);
    RETURN oldest;
END;
$$;
-- +goose StatementEnd

-- Whoever serves may call both, with the rights of the tables' owner, and in the schema of these tables alone.
-- +goose StatementBegin
DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION make_partitions(boolean) SET search_path = %I, pg_temp', current_schema());
    EXECUTE format('ALTER FUNCTION drop_partition(timestamptz) SET search_path = %I, pg_temp', current_schema());
END $$;
-- +goose StatementEnd
SELECT make_partitions(true);

-- The seq from which on a webhook's attempts were made since a time, found by halving: no delivery pays for an index of times.
-- Rows are in the order of their recording, some seconds after the attempt: whoever asks allows for that.
-- +goose StatementBegin
CREATE FUNCTION seq_since(of_webhook uuid, since timestamptz) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
DECLARE
    low    bigint := coalesce((SELECT d.seq FROM deliveries d WHERE d.webhook_id = of_webhook ORDER BY d.seq LIMIT 1), 0);
    high   bigint := coalesce((SELECT d.seq + 1 FROM deliveries d WHERE d.webhook_id = of_webhook ORDER BY d.seq DESC LIMIT 1), 0);
    middle bigint;
    probed record;
BEGIN
    WHILE low < high LOOP
        middle := (low + high) / 2;
        SELECT d.seq, d.attempted_at INTO probed FROM deliveries d
        WHERE d.webhook_id = of_webhook AND d.seq <= middle
        ORDER BY d.seq DESC
        LIMIT 1;
        IF probed.attempted_at < since THEN
            low := middle + 1;
        ELSE
            high := probed.seq;
        END IF;
    END LOOP;
    RETURN low;
END;
$$;
-- +goose StatementEnd

-- What a webhook's history takes, by which each bot is held to its budget: internal/history/budget.go. Of a webhook that was
-- deleted, a row says that deliveries of it may be left.
CREATE TABLE history_usage (
    webhook_id   uuid   PRIMARY KEY,
    -- Up to which seq deliveries are counted.
    counted_upto bigint NOT NULL DEFAULT 0,
    -- Up to which seq successes have lost their response and exchange, and their rows.
    stripped_upto bigint NOT NULL DEFAULT 0,
    removed_upto  bigint NOT NULL DEFAULT 0,
    -- When the latest attempt was made whose row was removed; NULL: none was.
    removed_before timestamptz
);

-- How many deliveries are counted, and their bytes, by the partitions' grid: what is dropped with a partition is known without
-- reading it. Whoever changes a webhook's rows holds that of history_usage.
CREATE TABLE history_sizes (
    webhook_id uuid    NOT NULL,
    span       integer NOT NULL,
    deliveries bigint  NOT NULL,
    bytes      bigint  NOT NULL,
    PRIMARY KEY (webhook_id, span)
);

-- What a delivery takes in bytes: about 500 for its row and its places in indexes, and what it holds.
CREATE FUNCTION delivery_bytes(response_body bytea, exchange bytea) RETURNS bigint LANGUAGE sql IMMUTABLE
    RETURN 500 + coalesce(octet_length(response_body), 0) + coalesce(octet_length(exchange), 0);

-- What a webhook's deliveries come to, a row for each minute, hour and day in which some were attempted, as
-- internal/history/rollup.go adds them up when it counts the history: up to history_usage.counted_upto. It outlives what
-- budgets remove. A webhook that has rows has one in history_usage.
CREATE TABLE delivery_stats (
    webhook_id uuid        NOT NULL,
    -- What the row is of, in seconds.
    step       integer     NOT NULL CHECK (step IN (60, 3600, 86400)),
    start      timestamptz NOT NULL,
    tally      jsonb       NOT NULL,
    PRIMARY KEY (webhook_id, step, start)
);
-- By which the old ones are removed.
CREATE INDEX delivery_stats_start ON delivery_stats (step, start);

-- The pass over the budgets that was begun last, whichever process makes it, and when it did something last. Each step of a
-- pass holds the row's lock, so that there is never more than one.
CREATE TABLE history_passes (
    only_row   boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
    pass       bigint      NOT NULL DEFAULT 0,
    renewed_at timestamptz NOT NULL DEFAULT '-infinity'
);
INSERT INTO history_passes DEFAULT VALUES;

-- The next attempt at delivering an event to a webhook: at most one is planned. A row is written in the transaction that
-- makes it necessary, and removed in the one that records the attempt. No foreign keys, as for deliveries: an insert
-- would lock the webhook's row, and a row whose webhook is gone is removed by whoever comes to it.
CREATE TABLE queue (
    webhook_id  uuid        NOT NULL,
    event_id    text        NOT NULL,
    seq         bigint      NOT NULL GENERATED ALWAYS AS IDENTITY,
    attempt     integer     NOT NULL,
    -- The attempt's place in the retry schedule; 0: it has none, and a failure is not attempted again.
    step        integer     NOT NULL,
    trigger     delivery_trigger NOT NULL,
    -- When it is due. What a person asked for is due since 1970, and so goes before all else. An ordered webhook's rows are due
    -- since their events were accepted, also after failures: it is the webhook that waits for a retry, until resume_at.
    due_at      timestamptz NOT NULL,
    -- The recovery that inserted it.
    recovery_id uuid,
    PRIMARY KEY (event_id, webhook_id)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.1);
CREATE INDEX queue_due ON queue (webhook_id, due_at, seq);
-- What a person asked for, which is found whatever stands before it.
CREATE INDEX queue_manual ON queue (webhook_id, due_at, seq) WHERE trigger IN ('test', 'redeliver', 'verify');
-- What a recovery has planned: others' rows do not pay for it.
CREATE INDEX queue_of_recovery ON queue (recovery_id) WHERE recovery_id IS NOT NULL;

-- When the last rows of some ordered webhooks are due, in their order, and the lock under which others are added. It lasts until
-- the transaction ends, so that who adds rows later sees these: each statement in here sees what was committed before it began.
-- It is one of 64 locks, as Postgres has room for few. NULL: none are asked for. What was due before, no new row follows: it is not
-- looked for, as it may be gone, and kept in the index by a long transaction, such as a dump's.
-- +goose StatementBegin
CREATE FUNCTION lock_order(webhook_ids uuid[]) RETURNS timestamptz[] LANGUAGE plpgsql VOLATILE STRICT AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('lock_order'), l.n)
    FROM (SELECT DISTINCT hashtext(u.id::text) & 63 AS n FROM unnest(webhook_ids) AS u (id) ORDER BY 1) AS l;
    RETURN ARRAY(
        SELECT (SELECT q.due_at FROM queue q WHERE q.webhook_id = u.id AND q.due_at > now() - interval '1 second'
                AND q.trigger NOT IN ('test', 'redeliver', 'verify')
            ORDER BY q.due_at DESC LIMIT 1)
        FROM unnest(webhook_ids) WITH ORDINALITY AS u (id, n)
        ORDER BY u.n
    );
END;
$$;
-- +goose StatementEnd

-- When the last sweep for queues that nobody woke began, whichever process made it, and up to which webhook it looked.
CREATE TABLE queue_sweeps (
    only_row   boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
    began_at   timestamptz NOT NULL DEFAULT '-infinity',
    upto       uuid        NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    -- When a pause last ended: nothing that was due by then has been woken.
    resumed_at timestamptz NOT NULL DEFAULT '-infinity'
);
INSERT INTO queue_sweeps DEFAULT VALUES;

-- What operators have paused: no attempt is made at what it covers, and what is to be sent waits in the queues. The one place
-- that says so: internal/history/pauses.go.
CREATE TABLE pauses (
    scope      text        NOT NULL CHECK (scope IN ('all', 'bot', 'host')),
    -- The bot's id, or the host as host_of has it; '': all.
    value      text        NOT NULL CHECK ((value = '') = (scope = 'all')),
    bot_id     text        GENERATED ALWAYS AS (CASE WHEN scope = 'bot' THEN value END) STORED REFERENCES bots (id) ON DELETE CASCADE,
    reason     text        NOT NULL,
    -- Who made it, as the audit log names them; '': it does not know.
    created_by text        NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (scope, value)
);

-- The pauses that cover a webhook. Postgres puts the query in place of the call, so that it costs a look at a table that is
-- nearly always empty.
CREATE FUNCTION pauses_of(webhook_bot text, webhook_origin text) RETURNS SETOF pauses LANGUAGE sql STABLE AS $$
    SELECT * FROM pauses p
    WHERE EXISTS (SELECT FROM pauses)
      AND (p.scope = 'all' OR p.scope = 'bot' AND p.value = webhook_bot OR p.scope = 'host' AND p.value = host_of(webhook_origin))
$$;

-- Recoveries of what webhooks missed. The counts change in the transactions that insert and record deliveries.
CREATE TABLE recoveries (
    id         uuid        PRIMARY KEY,
    webhook_id uuid        NOT NULL REFERENCES webhooks (id) ON DELETE CASCADE,
    -- The span of acceptance that it covers, both ends included.
    since      timestamptz NOT NULL,
    until      timestamptz NOT NULL,
    -- What of it is wanted: events of a type, and those of which an attempt failed so. '' and 0: all.
    event_type   text      NOT NULL DEFAULT '',
    error        text      NOT NULL DEFAULT '',
    status_class integer   NOT NULL DEFAULT 0,
    state      text        NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'completed', 'cancelled', 'stopped')),
    -- How far the events of the span have been looked through: up to after_*, towards upto. What was accepted since
    -- begin_at, when the webhook was disabled, comes first, as most of it was missed, and then what came before.
    begin_at   timestamptz NOT NULL,
    upto       timestamptz NOT NULL,
    after_time timestamptz NOT NULL,
    after_id   text        NOT NULL DEFAULT '',
    looked_through boolean NOT NULL DEFAULT false,
    found      integer     NOT NULL DEFAULT 0,
    delivered  integer     NOT NULL DEFAULT 0,
    failed     integer     NOT NULL DEFAULT 0,
    last_error text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    ended_at   timestamptz
);
CREATE UNIQUE INDEX recoveries_running ON recoveries (webhook_id) WHERE state = 'running';
CREATE INDEX recoveries_webhook ON recoveries (webhook_id, created_at DESC);

-- Whether a recovery has planned as many events as that of an ordered webhook does at once. Events after the place that it has come to
-- wait until it has looked through all, and do not count: it may have planned them before the webhook became ordered.
CREATE FUNCTION planned_enough(of_recovery uuid, place timestamptz) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT count(*) = 10 FROM (SELECT FROM queue q WHERE q.recovery_id = of_recovery AND q.due_at <= place LIMIT 10) AS planned
$$;

-- The recoveries that have work: to look through events, or to send within so many seconds. One that only waits, for a retry,
-- the end of a failing webhook's rest or of a pause, keeps no other waiting: neither of its bot nor of its incident. Inlined, as
-- pauses_of.
CREATE FUNCTION busy_recoveries(ahead_seconds double precision) RETURNS SETOF recoveries LANGUAGE sql STABLE AS $$
    SELECT r.* FROM recoveries r JOIN webhooks w ON w.id = r.webhook_id
    WHERE r.state = 'running' AND NOT EXISTS (SELECT FROM pauses_of(w.bot_id, w.origin))
      AND CASE
          WHEN coalesce(w.resume_at, '-infinity') > now()
              THEN NOT r.looked_through AND NOT (w.ordered AND planned_enough(r.id, r.after_time))
          ELSE NOT r.looked_through OR EXISTS (
              SELECT FROM queue q WHERE q.recovery_id = r.id AND q.due_at < now() + make_interval(secs => ahead_seconds)
          )
      END
$$;

-- Incidents, in which a fault of ours disabled webhooks: one command enables and recovers all. internal/history/incident.go.
CREATE TABLE incidents (
    id             uuid        PRIMARY KEY,
    -- It is about the webhooks that failures disabled in the span, both ends included: by one of the errors, of one of the
    -- bots; an empty list: by any, of all.
    disabled_since timestamptz NOT NULL,
    disabled_until timestamptz NOT NULL,
    errors         text[]      NOT NULL,
    bot_ids        text[]      NOT NULL,
    -- JSON: what was counted when it was started.
    plan           bytea       NOT NULL,
    state          text        NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'paused', 'completed', 'cancelled')),
    -- Who started it, as in the audit log: in whose name webhooks are enabled.
    actor_kind     text        NOT NULL,
    actor_id       text        NOT NULL,
    actor_name     text        NOT NULL,
    client         text        NOT NULL,
    request        text        NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now(),
    -- When its workflow last did something.
    updated_at     timestamptz NOT NULL DEFAULT now(),
    -- When it was completed, or its recoveries cancelled.
    ended_at       timestamptz,
    -- JSON: what had become of its webhooks by then, so that a list of incidents counts none; NULL until it has ended.
    outcome        bytea CHECK ((outcome IS NULL) = (ended_at IS NULL))
);
CREATE INDEX incidents_open ON incidents (id) WHERE ended_at IS NULL;

-- What becomes of each webhook of an incident: found when that was started, enabled, recovering and then recovered or failed;
-- or skipped. No foreign key to webhooks, as one that is deleted is skipped.
CREATE TABLE incident_webhooks (
    incident_id uuid    NOT NULL REFERENCES incidents (id) ON DELETE CASCADE,
    webhook_id  uuid    NOT NULL,
    bot_id      text    NOT NULL,
    -- The webhook's, which each enabling raises: of another generation it was enabled meanwhile.
    generation  integer NOT NULL,
    -- Its place among those of its bot: the bots take turns.
    turn        bigint  NOT NULL,
    state       text    NOT NULL DEFAULT 'found' CHECK (state IN ('found', 'enabled', 'recovering', 'recovered', 'failed', 'skipped')),
    -- Why it was skipped, or failed.
    reason      text    NOT NULL DEFAULT '',
    recovery_id uuid,
    PRIMARY KEY (incident_id, webhook_id)
);
CREATE INDEX incident_webhooks_found ON incident_webhooks (incident_id, turn) WHERE state = 'found';
CREATE INDEX incident_webhooks_enabled ON incident_webhooks (incident_id, turn) WHERE state = 'enabled';
CREATE INDEX incident_webhooks_recovering ON incident_webhooks (incident_id) WHERE state = 'recovering';

-- The disablings that an owner has yet to be notified of: written in the transaction that disables, and removed when the
-- notice was taken, or is attempted no more.
CREATE TABLE notices (
    webhook_id    uuid        NOT NULL REFERENCES webhooks (id) ON DELETE CASCADE,
    -- Of a disabling the webhook's, which each enabling raises: failures disable a webhook once in a generation. Else the number of
    -- failing_webhooks.
    generation    integer     NOT NULL,
    host          text        NOT NULL,
    failure_count integer     NOT NULL,
    -- When it was disabled, or found failing or recovered.
    noticed_at    timestamptz NOT NULL,
    event_id      text        NOT NULL,
    last_error    text        NOT NULL,
    -- When a workflow was last started that sees to the notice, or found to.
    started_at    timestamptz,
    kind          text        NOT NULL DEFAULT 'disabled' CHECK (kind IN ('disabled', 'failing', 'recovered')),
    -- Of the two others, see webhook.Notice.
    reason        text        NOT NULL DEFAULT '',
    since         timestamptz NOT NULL DEFAULT now(),
    delivered     bigint      NOT NULL DEFAULT 0,
    failed        bigint      NOT NULL DEFAULT 0,
    PRIMARY KEY (webhook_id, kind, generation)
);

-- The webhooks whose owners were last notified that they fail: internal/history/failing.go.
CREATE TABLE failing_webhooks (
    webhook_id   uuid        PRIMARY KEY REFERENCES webhooks (id) ON DELETE CASCADE,
    -- Counts the times that it was found failing.
    number       integer     NOT NULL,
    noticed_at   timestamptz NOT NULL,
    -- When it was found to work again, or to be disabled; NULL: it fails.
    ended_at     timestamptz,
    -- When its owner was last notified that it works again.
    recovered_at timestamptz
);

-- When failing webhooks were last looked for, by whichever process, and when a fuse was last blown. One row.
CREATE TABLE failing_passes (
    single    boolean     PRIMARY KEY DEFAULT true CHECK (single),
    passed_at timestamptz NOT NULL DEFAULT '-infinity',
    fuse_at   timestamptz NOT NULL DEFAULT '-infinity'
);
INSERT INTO failing_passes DEFAULT VALUES;

-- Who changed what: internal/audit. No foreign keys, as an entry outlives what it is about.
CREATE TABLE audit_log (
    id         uuid        PRIMARY KEY,
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    bot_id     text        NOT NULL,
    action     text        NOT NULL,
    -- The id of what was changed; '': the bot.
    subject    text        NOT NULL,
    -- JSON: the fields that differ. NULL where there was nothing before, or is nothing after.
    before     bytea,
    after      bytea,
    -- Who did it, as internal/audit names them.
    actor_kind text        NOT NULL,
    actor_id   text        NOT NULL,
    actor_name text        NOT NULL,
    -- What opened an actor's portal session: a key, a link, or a link that a key made.
    actor_key_id  uuid,
    actor_link_id uuid,
    client     text        NOT NULL,
    request    text        NOT NULL
);
CREATE INDEX audit_log_bot ON audit_log (bot_id, at DESC, id DESC);
CREATE INDEX audit_log_at ON audit_log (at DESC, id DESC);

-- Classes of failure that disable no webhook for now, as they look like our own network's: internal/history/fuse.go.
CREATE TABLE fuses (
    class    text        PRIMARY KEY,
    blown_at timestamptz NOT NULL DEFAULT now(),
    -- When it was reset; NULL: it is blown. The row stays until what the class had disabled is enabled again.
    reset_at timestamptz
);

-- Workers whose outbound access fails, as each says while it does: internal/ops/outages.go.
CREATE TABLE outages (
    worker  text        PRIMARY KEY,
    cause   text        NOT NULL,
    since   timestamptz NOT NULL DEFAULT now(),
    seen_at timestamptz NOT NULL DEFAULT now()
);

-- What bots have sent to endpoints that have not agreed to it: internal/allowance. A row's loss, as after a crash of
-- Postgres, gives a bot its burst again, so that no write of it need reach the disk.
CREATE UNLOGGED TABLE allowances (
    bot_id     text        NOT NULL,
    -- Host and port.
    endpoint   text        NOT NULL,
    -- What was sent is paid for until then, at the rate; the burst is how far that may be ahead of now.
    paid_until timestamptz NOT NULL,
    -- When the next queue that was refused is to come again.
    turn       timestamptz NOT NULL,
    -- The answer to the last call.
    granted    integer     NOT NULL,
    PRIMARY KEY (bot_id, endpoint)
);

-- +goose Down
SET LOCAL lock_timeout = '1s';
DROP TABLE allowances;
DROP TABLE audit_log;
DROP TABLE outages;
DROP TABLE fuses;
DROP TABLE failing_passes;
DROP TABLE failing_webhooks;
DROP TABLE notices;
DROP TABLE incident_webhooks;
DROP TABLE incidents;
DROP FUNCTION busy_recoveries;
DROP FUNCTION planned_enough;
DROP TABLE recoveries;
DROP FUNCTION pauses_of;
DROP TABLE pauses;
DROP TABLE queue_sweeps;
DROP FUNCTION lock_order;
DROP TABLE queue;
DROP TABLE history_passes;
DROP TABLE delivery_stats;
DROP FUNCTION delivery_bytes;
DROP TABLE history_sizes;
DROP TABLE history_usage;
DROP FUNCTION seq_since;
DROP FUNCTION drop_partition;
DROP TABLE history_dropped;
DROP FUNCTION make_partitions;
DROP FUNCTION partition_of;
DROP FUNCTION deliveries_of;
DROP TABLE deliveries;
DROP FUNCTION span_start;
DROP FUNCTION span_of;
DROP FUNCTION first_delivery;
DROP TYPE delivery_trigger;
DROP TABLE event_log;
DROP TABLE events;
DROP FUNCTION keep_event_log;
DROP TABLE subscriptions;
DROP TABLE webhooks;
DROP FUNCTION host_of;
DROP FUNCTION keep_subscriptions;
DROP TABLE portal_sessions;
DROP TABLE portal_links;
DROP TABLE api_keys;
DROP TABLE bots;
