-- Erasure: customers who asked to be forgotten, and what keeps them from coming back.

-- Messages that were dropped because their customer was erased.
ALTER TABLE partitions ADD COLUMN suppressed bigint NOT NULL DEFAULT 0;

-- By these what belongs to a customer is found.
CREATE INDEX outbox_customer ON outbox (account, token);
CREATE INDEX stripe_charges_customer ON stripe_charges (account, stripe_customer);

-- The key of the hashes below: made here, once, from 244 random bits, and never shown. Whoever has this row and the table
-- below can tell whether an id that they know was erased; nobody can tell the ids.
CREATE TABLE suppression_key (
    the_only_one  boolean PRIMARY KEY DEFAULT true CHECK (the_only_one),
    key           bytea NOT NULL CHECK (octet_length(key) = 32)
);
INSERT INTO suppression_key (key) VALUES (sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())));

-- HMAC-SHA256 of what must not be stored any more: customers' tokens, and charges of theirs.
CREATE TABLE suppressions (
    account  text COLLATE "C" NOT NULL,
    hash     bytea NOT NULL CHECK (octet_length(hash) = 32),
    at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (account, hash)
);

-- Who asked, and how far it is. `hash` is the customer's suppression: no id can be read here.
--   waiting   until the partitions' owners have forgotten the customer
--   erasing   messages and rows are erased
--   checking  everything was erased; it is looked at again at due_at, for what was still on its way
--   sweeping  the bucket is written anew
CREATE TABLE erasures (
    id             uuid PRIMARY KEY,
    account        text COLLATE "C" NOT NULL,
    hash           bytea NOT NULL CHECK (octet_length(hash) = 32),
    state          text COLLATE "C" NOT NULL DEFAULT 'waiting'
                   CHECK (state IN ('waiting', 'erasing', 'checking', 'sweeping', 'done')),
    requested_at   timestamptz NOT NULL DEFAULT now(),
    due_at         timestamptz NOT NULL DEFAULT now(),
    completed_at   timestamptz,
    claimed_by     uuid,
    claimed_until  timestamptz,
    -- How far these streams went when it first looked into them.
    events_end     bigint,
    webhooks_end   bigint,
    events         bigint NOT NULL DEFAULT 0,
    webhooks       bigint NOT NULL DEFAULT 0,
    alerts         bigint NOT NULL DEFAULT 0,
    dead_letters   bigint NOT NULL DEFAULT 0,
    scores         bigint NOT NULL DEFAULT 0,
    stored_rows    bigint NOT NULL DEFAULT 0,
    CHECK ((state = 'done') = (completed_at IS NOT NULL))
);
CREATE UNIQUE INDEX erasures_open ON erasures (account, hash) WHERE completed_at IS NULL;
CREATE INDEX erasures_due ON erasures (due_at) WHERE completed_at IS NULL;

-- Whom an erasure that is not done is about: the customer, and the Stripe customers that are linked to it. Deleted with
-- the last step.
CREATE TABLE erasure_customers (
    erasure       uuid NOT NULL REFERENCES erasures (id) ON DELETE CASCADE,
    account       text COLLATE "C" NOT NULL,
    token         text COLLATE "C" NOT NULL,
    customer      text COLLATE "C" NOT NULL,
    -- The owner of the customer's partition has deleted its state, and has it no more in memory.
    forgotten_at  timestamptz,
    -- What that owner had published before has arrived.
    settled_at    timestamptz,
    PRIMARY KEY (erasure, token)
);
CREATE INDEX erasure_customers_open ON erasure_customers (erasure) WHERE settled_at IS NULL;

-- Events of erased customers that came later and were dropped: their places in the stream, until their bytes are
-- overwritten there.
CREATE TABLE unwanted_events (
    sequence       bigint PRIMARY KEY,
    claimed_until  timestamptz
);
