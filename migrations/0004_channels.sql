-- Where alerts go, and how messages to people went.

-- Channels of an account, and how the work on each stands: whoever claims a channel sends its messages alone, one after the
-- other. `target` holds URLs, tokens and signing secrets in clear: they must be sent as they are. Grant the table to nobody
-- but the daemon. A channel that was removed keeps its row, for what it sent, and loses its target.
CREATE TABLE channels (
    id             uuid PRIMARY KEY,
    account        text COLLATE "C" NOT NULL REFERENCES accounts (id),
    name           text COLLATE "C" NOT NULL,
    kind           text COLLATE "C" NOT NULL CHECK (kind IN ('slack', 'email', 'webhook')),
    target         jsonb NOT NULL,
    settings       jsonb NOT NULL,
    templates      jsonb NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now(),
    removed_at     timestamptz,
    paused_at      timestamptz,
    paused_reason  text,
    -- Since when nothing arrives, how many tries failed since then, and before when none makes sense.
    failing_since  timestamptz,
    failures       integer NOT NULL DEFAULT 0,
    retry_at       timestamptz,
    last_error     text,
    claimed_by     uuid,
    claimed_until  timestamptz,
    CHECK ((paused_at IS NULL) = (paused_reason IS NULL))
) WITH (fillfactor = 50);
CREATE UNIQUE INDEX channels_name ON channels (account, name) WHERE removed_at IS NULL;

-- One row for each alert and each channel that takes it: the queue, and afterwards the record of what was sent.
--
-- The table of the same name was laid out before anything was sent and never held a row, so it is made anew. The columns that
-- the release before reads when it exports or erases a customer (account, alert_id, channel, target, state, attempts,
-- created_at, delivered_at) are still there.
DROP TABLE deliveries;
CREATE TABLE deliveries (
    id                bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account           text COLLATE "C" NOT NULL,
    channel_id        uuid NOT NULL REFERENCES channels (id),
    channel           text COLLATE "C" NOT NULL CHECK (channel IN ('slack', 'email', 'webhook')),
    -- What the channel was called.
    target            text NOT NULL,
    alert_id          text COLLATE "C" NOT NULL,
    -- The customer's token; none where the alert is about the account, or made up for a test.
    token             text COLLATE "C",
    body              bytea NOT NULL,
    is_test           boolean NOT NULL DEFAULT false,
    -- What the message is recognized by; written before it is first tried, and shared by the rows of a digest.
    message_key       text COLLATE "C",
    state             text COLLATE "C" NOT NULL DEFAULT 'pending'
                      CHECK (state IN ('pending', 'delivered', 'refused', 'canceled')),
    attempts          integer NOT NULL DEFAULT 0,
    next_attempt_at   timestamptz NOT NULL,
    held_reason       text COLLATE "C" CHECK (held_reason IN ('quiet_hours', 'limit', 'retry')),
    last_error        text,
    -- By what the receiver knows the message.
    reference         text,
    created_at        timestamptz NOT NULL,
    first_attempt_at  timestamptz,
    delivered_at      timestamptz,
    UNIQUE (channel_id, alert_id),
    CHECK ((state = 'delivered') = (delivered_at IS NOT NULL))
) WITH (fillfactor = 80);
CREATE INDEX deliveries_due ON deliveries (channel_id, next_attempt_at) WHERE state = 'pending';
CREATE INDEX deliveries_sent ON deliveries (channel_id, delivered_at) WHERE state = 'delivered';
CREATE INDEX deliveries_customer ON deliveries (account, token, id);
CREATE INDEX deliveries_account ON deliveries (account, id);
