-- How many events of an account come, to notice when its tracking breaks.

-- Live product events by the quarter of an hour in which the stream stored them (slot, counted from 1970), added up by the
-- checkpoints that account for them. `shard` only keeps instances out of each other's rows: it is the lowest partition of
-- the checkpoint that wrote, and an account's volume is the sum over all of them.
CREATE TABLE account_volume (
    account  text COLLATE "C" NOT NULL,
    slot     bigint NOT NULL,
    shard    smallint NOT NULL,
    events   bigint NOT NULL,
    PRIMARY KEY (account, slot, shard)
) WITH (
    fillfactor = 70,
    autovacuum_vacuum_scale_factor = 0.05,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0
);
CREATE INDEX account_volume_slot ON account_volume USING brin (slot) WITH (pages_per_range = 32, autosummarize = on);

-- Times in which an account's events did not come. While one is open, and as long as what was missed shows in windows,
-- alerts that only missing events would raise are kept back. `expected` and `seen` are events per 90 minutes.
CREATE TABLE account_guards (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account      text COLLATE "C" NOT NULL,
    since        timestamptz NOT NULL,
    noticed_at   timestamptz NOT NULL,
    expected     bigint NOT NULL,
    seen         bigint NOT NULL,
    alert_id     text COLLATE "C" NOT NULL,
    released_at  timestamptz
);
-- At most one at a time: of several instances the first to notice tells.
CREATE UNIQUE INDEX account_guards_open ON account_guards (account) WHERE released_at IS NULL;
CREATE INDEX account_guards_released ON account_guards (released_at);
