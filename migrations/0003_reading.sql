-- Reading over HTTP: lists by money, search by company, interventions under their clients' ids.

-- When the contact was said: of two, the later counts, in whatever order they come.
ALTER TABLE customers ADD COLUMN contact_at timestamptz;
CREATE INDEX customers_company ON customers (account_id, (lower(company_name) COLLATE "C"))
    WHERE company_name IS NOT NULL;

-- Customers at risk by what they bring, and by what of it is at risk. Neither stands in the way of HOT updates: the score is
-- in an index already, and what a customer brings hardly ever changes. The expressions are total: an amount that is out
-- of all bounds must not refuse a checkpoint.
CREATE INDEX customer_states_by_mrr ON customer_states (account, (coalesce(mrr_minor, -1)) DESC, token)
    WHERE level <> 'low';
CREATE INDEX customer_states_by_mrr_at_risk ON customer_states
    (account, (CASE WHEN mrr_minor IS NULL THEN -1 ELSE least(greatest(mrr_minor, 0), 90000000000000000) * score END) DESC,
     token)
    WHERE level <> 'low';

-- Ids of interventions may come from clients, so they are unique within an account, not beyond it.
ALTER TABLE interventions DROP CONSTRAINT interventions_pkey;
ALTER TABLE interventions ADD PRIMARY KEY (account_id, id);
ALTER TABLE interventions ADD COLUMN level_at_end text COLLATE "C";
ALTER TABLE interventions DROP CONSTRAINT interventions_outcome_check;
UPDATE interventions SET outcome = 'no_reply' WHERE outcome = 'no_response';
ALTER TABLE interventions ADD CONSTRAINT interventions_outcome_check
    CHECK (outcome IN ('saved', 'lost', 'no_reply', 'not_needed'));
DROP INDEX interventions_customer;
DROP INDEX interventions_open;
CREATE INDEX interventions_customer ON interventions (account_id, token, created_at, id);
CREATE INDEX interventions_account ON interventions (account_id, created_at, id);
CREATE INDEX interventions_open ON interventions (account_id, created_at, id) WHERE status = 'open';
