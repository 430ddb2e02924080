-- churnd's tables. Forward only: never edit a migration that was released, add the next one.
--
-- Rules of the house
--   * Text that orders or joins rows is COLLATE "C": bytes compare as they do in the daemon, whatever the database's locale.
--   * The hot tables (customer_states, risk_scores, outbox) and customers carry no foreign keys: one unknown account must
--     never refuse the checkpoint of all others.
--   * U+0000, which Postgres' text cannot hold, is written as U+FFFF '0' (and U+FFFF itself as U+FFFF 'f').
--   * Instants are UTC.

-- Tenants and their keys --------------------------------------------------------------------------------------------

CREATE TABLE accounts (
    id          text COLLATE "C" PRIMARY KEY CHECK (id ~ '^[a-z0-9_-]{1,32}$'),
    name        text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE api_keys (
    id               uuid PRIMARY KEY,
    account_id       text COLLATE "C" NOT NULL REFERENCES accounts (id),
    kind             text COLLATE "C" NOT NULL CHECK (kind IN ('publishable', 'secret')),
    prefix           text COLLATE "C" NOT NULL,
    hash             bytea NOT NULL UNIQUE CHECK (octet_length(hash) = 32),
    allowed_origins  text[] NOT NULL DEFAULT '{}',
    rate_per_minute  integer CHECK (rate_per_minute > 0),
    created_at       timestamptz NOT NULL DEFAULT now(),
    last_used_at     timestamptz,
    revoked_at       timestamptz
);
CREATE INDEX api_keys_account ON api_keys (account_id, kind, created_at);
CREATE INDEX api_keys_prefix ON api_keys (prefix);

-- Signing secrets of Stripe's webhooks. They stand here in clear: an HMAC cannot be checked against a hash. Grant the table
-- to nobody but the daemon.
CREATE TABLE stripe_secrets (
    id          uuid PRIMARY KEY,
    account     text COLLATE "C" NOT NULL REFERENCES accounts (id),
    secret      text NOT NULL CHECK (length(secret) >= 16),
    label       text NOT NULL DEFAULT '',
    created_at  timestamptz NOT NULL DEFAULT now(),
    revoked_at  timestamptz,
    UNIQUE (account, secret)
);

-- Customers -----------------------------------------------------------------------------------------------------------

CREATE TABLE customers (
    id                  uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    account_id          text COLLATE "C" NOT NULL,
    external_id         text COLLATE "C" NOT NULL,
    company_name        text,
    email               text,
    stripe_customer_id  text COLLATE "C",
    mrr                 bigint,
    currency            text COLLATE "C",
    created_at          timestamptz NOT NULL DEFAULT now(),
    updated_at          timestamptz NOT NULL DEFAULT now(),
    UNIQUE (account_id, external_id)
) WITH (fillfactor = 90);

-- One row per customer, rewritten by every checkpoint that saw an event of it. Updates stay on their page (HOT) as long as
-- neither due_hour nor score changes: snapshot, due_at and updated_at are in no index.
CREATE TABLE customer_states (
    partition     smallint NOT NULL,
    account       text COLLATE "C" NOT NULL,
    token         text COLLATE "C" NOT NULL,
    customer      text COLLATE "C" NOT NULL,
    snapshot      bytea NOT NULL,
    score         smallint NOT NULL CHECK (score BETWEEN 0 AND 100),
    level         text COLLATE "C" NOT NULL,
    status        text COLLATE "C" NOT NULL,
    mrr_minor     bigint,
    mrr_currency  text COLLATE "C",
    due_hour      bigint,
    due_at        timestamptz,
    updated_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (account, token)
) WITH (
    fillfactor = 50,
    autovacuum_vacuum_scale_factor = 0.05,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_insert_scale_factor = 0.1,
    autovacuum_analyze_scale_factor = 0.1,
    autovacuum_vacuum_cost_delay = 0,
    vacuum_truncate = false
);
CREATE INDEX customer_states_due ON customer_states (partition, due_hour) WHERE due_hour IS NOT NULL;
CREATE INDEX customer_states_page ON customer_states (partition, account, token);
CREATE INDEX customer_states_at_risk ON customer_states (account, score DESC, token) WHERE level <> 'low';

-- The history of scores: one row per change, only ever appended.
CREATE TABLE risk_scores (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    partition  smallint NOT NULL,
    account    text COLLATE "C" NOT NULL,
    token      text COLLATE "C" NOT NULL,
    customer   text COLLATE "C" NOT NULL,
    at         timestamptz NOT NULL,
    score      smallint NOT NULL,
    level      text COLLATE "C" NOT NULL,
    status     text COLLATE "C" NOT NULL,
    factors    jsonb NOT NULL
) WITH (autovacuum_vacuum_insert_scale_factor = 0.1);
CREATE INDEX risk_scores_customer ON risk_scores (account, token, id);
CREATE INDEX risk_scores_at ON risk_scores USING brin (at) WITH (pages_per_range = 32, autosummarize = on);

-- Messages to publish, written in the transaction of the state that caused them.
CREATE TABLE outbox (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    partition     smallint NOT NULL,
    kind          text COLLATE "C" NOT NULL CHECK (kind IN ('alert', 'held_alert', 'event')),
    account       text COLLATE "C" NOT NULL,
    token         text COLLATE "C" NOT NULL,
    customer      text COLLATE "C" NOT NULL,
    message_id    text COLLATE "C" NOT NULL UNIQUE,
    subject       text COLLATE "C" NOT NULL,
    body          bytea NOT NULL,
    at            timestamptz NOT NULL,
    published_at  timestamptz
) WITH (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX outbox_unpublished ON outbox (partition, id) WHERE published_at IS NULL AND kind <> 'held_alert';
CREATE INDEX outbox_account ON outbox (account, id);

-- Ownership -------------------------------------------------------------------------------------------------------------

-- Who may write a partition (owner, epoch, lease_until) and how far it is (watermark). The epoch grows with each change of
-- owner; writes of an older one are refused. last_checkpoint names the last transaction, so that an unknown outcome of
-- COMMIT can be looked up even where the watermark did not move.
CREATE TABLE partitions (
    role             text COLLATE "C" NOT NULL CHECK (role IN ('engine', 'archive')),
    id               smallint NOT NULL CHECK (id >= 0),
    owner            text,
    session          uuid,
    epoch            bigint NOT NULL DEFAULT 0,
    lease_until      timestamptz,
    watermark        bigint NOT NULL DEFAULT 0,
    watermark_time   timestamptz,
    stream_created   timestamptz,
    rules_hash       text COLLATE "C",
    last_checkpoint  uuid,
    received         bigint NOT NULL DEFAULT 0,
    applied          bigint NOT NULL DEFAULT 0,
    duplicate        bigint NOT NULL DEFAULT 0,
    late             bigint NOT NULL DEFAULT 0,
    dead             bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (role, id),
    CHECK ((owner IS NULL) = (session IS NULL))
) WITH (
    fillfactor = 20,
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 500,
    autovacuum_vacuum_cost_delay = 0,
    vacuum_truncate = false
);

-- Who runs. lock_key is the advisory lock that the instance's own connection holds for as long as it lives.
CREATE TABLE instances (
    session          uuid NOT NULL,
    role             text COLLATE "C" NOT NULL,
    instance         text NOT NULL,
    lock_key         bigint NOT NULL,
    started_at       timestamptz NOT NULL DEFAULT now(),
    heartbeat_until  timestamptz NOT NULL,
    PRIMARY KEY (session, role)
) WITH (
    fillfactor = 20,
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 500,
    autovacuum_vacuum_cost_delay = 0,
    vacuum_truncate = false
);

-- Stripe ----------------------------------------------------------------------------------------------------------------

CREATE TABLE stripe_links (
    account          text COLLATE "C" NOT NULL,
    stripe_customer  text COLLATE "C" NOT NULL,
    customer         text COLLATE "C" NOT NULL,
    at               timestamptz NOT NULL,
    PRIMARY KEY (account, stripe_customer)
);
CREATE INDEX stripe_links_customer ON stripe_links (account, customer);

-- Which Stripe customer a charge or payment intent belongs to: disputes name nothing else.
CREATE TABLE stripe_charges (
    account          text COLLATE "C" NOT NULL,
    charge           text COLLATE "C" NOT NULL,
    stripe_customer  text COLLATE "C" NOT NULL,
    at               timestamptz NOT NULL,
    PRIMARY KEY (account, charge)
);
CREATE INDEX stripe_charges_at ON stripe_charges USING brin (at);

-- Disputes that came before anything told whose charge they are about.
CREATE TABLE stripe_pending (
    account   text COLLATE "C" NOT NULL,
    charge    text COLLATE "C" NOT NULL,
    event_id  text COLLATE "C" NOT NULL,
    body      bytea NOT NULL,
    at        timestamptz NOT NULL,
    PRIMARY KEY (account, charge, event_id)
);

-- What people did about a risk, and how messages to people went --------------------------------------------------------

CREATE TABLE interventions (
    id              uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    account_id      text COLLATE "C" NOT NULL,
    token           text COLLATE "C" NOT NULL,
    external_id     text COLLATE "C" NOT NULL,
    action          text NOT NULL,
    note            text,
    status          text COLLATE "C" NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'closed')),
    outcome         text COLLATE "C" CHECK (outcome IN ('saved', 'lost', 'no_response', 'not_needed')),
    score_at_start  smallint,
    level_at_start  text COLLATE "C",
    score_at_end    smallint,
    mrr_minor       bigint,
    mrr_currency    text COLLATE "C",
    created_by      text,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    closed_at       timestamptz,
    CHECK ((status = 'closed') = (closed_at IS NOT NULL))
);
CREATE INDEX interventions_customer ON interventions (account_id, token, created_at);
CREATE INDEX interventions_open ON interventions (account_id, created_at) WHERE status = 'open';

CREATE TABLE deliveries (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account          text COLLATE "C" NOT NULL,
    alert_id         text COLLATE "C" NOT NULL,
    channel          text COLLATE "C" NOT NULL CHECK (channel IN ('slack', 'email', 'webhook')),
    target           text NOT NULL,
    idempotency_key  text COLLATE "C" NOT NULL UNIQUE,
    state            text COLLATE "C" NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'delivered', 'given_up')),
    attempts         integer NOT NULL DEFAULT 0,
    next_attempt_at  timestamptz,
    last_error       text,
    created_at       timestamptz NOT NULL DEFAULT now(),
    delivered_at     timestamptz,
    UNIQUE (alert_id, channel, target)
) WITH (fillfactor = 80);
CREATE INDEX deliveries_due ON deliveries (next_attempt_at) WHERE state = 'pending';
CREATE INDEX deliveries_account ON deliveries (account, id);

-- The archive -----------------------------------------------------------------------------------------------------------

-- Every event as it was stored, one partition per UTC day of its storing, filled by COPY, dropped by day. `properties` is
-- the event's JSON as text: it was checked on its way in, and no limit of a JSON type may refuse it here (cast it to query).
CREATE TABLE events (
    sequence     bigint NOT NULL,
    stored_at    timestamptz NOT NULL,
    partition    smallint NOT NULL,
    account      text COLLATE "C" NOT NULL,
    token        text COLLATE "C" NOT NULL,
    customer     text COLLATE "C",
    name         text COLLATE "C" NOT NULL,
    event_id     text COLLATE "C",
    occurred_at  timestamptz NOT NULL,
    user_id      text,
    properties   text
) PARTITION BY RANGE (stored_at);
CREATE INDEX events_customer ON events (account, token, stored_at, sequence);

-- Days come and go through these two functions, so that the role that archives needs no right to create or drop anything.
-- The new day is attached rather than created in place: that locks out neither readers nor writers of the other days.
CREATE FUNCTION churnd_add_event_day(day date) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET lock_timeout = '5s'
AS $$
DECLARE
    child text := 'events_' || to_char(day, 'YYYYMMDD');
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('churnd events ' || current_schema(), 0));
    IF to_regclass(quote_ident(current_schema()) || '.' || quote_ident(child)) IS NOT NULL THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE events INCLUDING ALL) WITH (autovacuum_vacuum_insert_scale_factor = 0.5)', child);
    EXECUTE format(
        'ALTER TABLE events ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
        child, day::text || ' 00:00:00+00', (day + 1)::text || ' 00:00:00+00');
    RETURN true;
END $$;

CREATE FUNCTION churnd_drop_event_days(before date) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET lock_timeout = '5s'
AS $$
DECLARE
    child record;
    dropped integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('churnd events ' || current_schema(), 0));
    FOR child IN
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'events'::regclass AND c.relname ~ '^events_[0-9]{8}$'
          AND to_date(substr(c.relname, 8), 'YYYYMMDD') < before
        ORDER BY c.relname
    LOOP
        EXECUTE format('DROP TABLE %I', child.relname);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END $$;

REVOKE ALL ON FUNCTION churnd_add_event_day(date) FROM PUBLIC;
REVOKE ALL ON FUNCTION churnd_drop_event_days(date) FROM PUBLIC;

-- Bound to this schema: nobody's search_path decides what the definer's rights are used on.
DO $$
DECLARE
    signature text;
BEGIN
    FOREACH signature IN ARRAY ARRAY['churnd_add_event_day(date)', 'churnd_drop_event_days(date)'] LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = %I, pg_temp', signature, current_schema());
    END LOOP;
END $$;
