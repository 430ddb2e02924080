-- Kinds of interventions, and what an account looked like over time.

-- Absent: nobody has said yet. Whatever fits may be made up, so the list of those that are offered stands in no CHECK.
ALTER TABLE interventions ADD COLUMN type text COLLATE "C" CHECK (type ~ '^[a-z0-9_]{1,40}$');

-- How an account stood, once an hour: how many customers had which level or had churned, and for each currency what the active
-- ones bring a month and what of it is at risk, in minor units: {"usd": [120000, 45000]}. No customer is named here. After
-- eight days one row a day is left.
CREATE TABLE account_hours (
    account   text COLLATE "C" NOT NULL REFERENCES accounts (id),
    hour      timestamptz NOT NULL,
    noted_at  timestamptz NOT NULL DEFAULT now(),
    high      bigint NOT NULL,
    medium    bigint NOT NULL,
    low       bigint NOT NULL,
    churned   bigint NOT NULL,
    mrr       jsonb NOT NULL,
    PRIMARY KEY (account, hour)
);

-- Published alerts by day. Rows of the outbox change once, when they are published, and leave an index then anyway.
CREATE INDEX outbox_alerts ON outbox (account, at) WHERE kind = 'alert';
