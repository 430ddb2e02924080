-- Roles with less than everything, and rows that each account sees of its own only.
--
-- Every transaction says for whom it reads and writes: `churnd.account` is an account's id, or `*` for all of them, which the
-- engine's transactions say. Unset, no row of any account is there. Superusers and roles with BYPASSRLS are not held; the
-- owner is (FORCE). Later migrations that add a table with an account end with SELECT churnd_guard_accounts().

-- The setting is looked up once per statement, not once per row. Tables that others own are theirs to guard.
CREATE FUNCTION churnd_guard_accounts(only_this text DEFAULT NULL) RETURNS integer
    LANGUAGE plpgsql
AS $$
DECLARE
    unguarded record;
    guarded integer := 0;
BEGIN
    FOR unguarded IN
        SELECT c.relname AS name, a.attname AS account
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p')
          AND (a.attname IN ('account', 'account_id') OR (c.relname = 'accounts' AND a.attname = 'id'))
          AND c.relname = coalesce(only_this, c.relname)
          AND c.relowner = (SELECT relowner FROM pg_class WHERE oid = 'accounts'::regclass)
          AND NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND p.polname = 'of_the_account')
        ORDER BY c.relname
    LOOP
        EXECUTE format(
            'CREATE POLICY of_the_account ON %I USING (%I = (SELECT current_setting(''churnd.account'', true))
                OR (SELECT current_setting(''churnd.account'', true)) = ''*'')',
            unguarded.name, unguarded.account);
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', unguarded.name);
        guarded := guarded + 1;
    END LOOP;
    RETURN guarded;
END $$;
REVOKE ALL ON FUNCTION churnd_guard_accounts(text) FROM PUBLIC;

-- As in 0001; a new day is guarded like the others before it is attached.
CREATE OR REPLACE FUNCTION churnd_add_event_day(day date) RETURNS boolean
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
    PERFORM churnd_guard_accounts(child);
    EXECUTE format(
        'ALTER TABLE events ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
        child, day::text || ' 00:00:00+00', (day + 1)::text || ' 00:00:00+00');
    RETURN true;
END $$;

DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION churnd_add_event_day(date) SET search_path = %I, pg_temp', current_schema());
END $$;

-- Behind a policy only operators that give nothing away may use an index; lower() is none of them, so it gets a column.
ALTER TABLE customers
    ADD COLUMN company_key text COLLATE "C" GENERATED ALWAYS AS (lower(company_name) COLLATE "C") STORED;
CREATE INDEX customers_company_key ON customers (account_id, company_key) WHERE company_key IS NOT NULL;

SELECT churnd_guard_accounts();
