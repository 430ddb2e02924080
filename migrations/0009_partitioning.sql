-- The number of partitions, and its doubling while everything runs.

-- One row from the first start of an engine on. A customer belongs to partition hash(account, token) mod `number`, whatever
-- number its messages and rows carry; those are old ones where a doubling is not over.
CREATE TABLE partitioning (
    single        boolean PRIMARY KEY DEFAULT true CHECK (single),
    -- In force: `partitions` has this many rows of the role engine.
    number        integer NOT NULL CHECK (number BETWEEN 1 AND 1024),
    -- What the installation began with: rows of risk_scores carry any number from this on.
    first_number  integer NOT NULL CHECK (first_number > 0 AND number % first_number = 0),
    -- The least number that rows of customer_states carry.
    labelled      integer NOT NULL CHECK (labelled > 0 AND number % labelled = 0),
    -- Messages of the event stream behind this sequence carry the number in force. NULL: not known yet.
    filters_from  bigint CHECK (filters_from >= 0),
    -- Grows with each change that owners must know before they may read on.
    generation    bigint NOT NULL DEFAULT 0,
    changed_at    timestamptz NOT NULL DEFAULT now()
);
INSERT INTO partitioning (number, first_number, labelled, filters_from)
SELECT count(*), count(*), count(*), 0 FROM partitions WHERE role = 'engine' HAVING count(*) > 0;

-- Who takes a partition must know the generation it is in. A churnd from before this table writes no `taken_in`: its
-- attempt to take a partition of a later generation is refused, so it can read nothing by an old number.
ALTER TABLE partitions
    ADD COLUMN generation bigint NOT NULL DEFAULT 0,
    ADD COLUMN taken_in bigint NOT NULL DEFAULT 0,
    ADD CONSTRAINT partitions_taken_knowingly CHECK (owner IS NULL OR taken_in = generation);

-- When the owner took it.
ALTER TABLE partitions ADD COLUMN taken_at timestamptz;
