-- Kinds of interventions, and what an account looked like over time.

-- Absent: nobody has said yet. Whatever fits may be made up, so the list of those that are offered stands in no CHECK.
ALTER TABLE interventions ADD COLUMN type text COLLATE "C" CHECK (type ~ '^[a-z0-9_]{1,40}$');
