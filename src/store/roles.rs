//! Who works on the tables: the owner makes them, the daemon's role works with rows, readers look.
//!
//! Roles are made by whoever may; here they get what they need and nothing more, again after each migration. The daemon's
//! role needs neither DDL nor a way around row-level security, and is refused if it has one.

use super::{Store, error::StoreError, values::RowReader};

const DOING: &str = "grant what the roles need";

/// Tables whose rows open something: no reader's business.
const SECRET: [&str; 5] = ["api_keys", "stripe_secrets", "channels", "dashboard_sessions", "suppression_key"];

const FIND_ROLE: &str = "SELECT rolsuper, rolbypassrls, pg_has_role(oid, $2, 'MEMBER') AS owns
    FROM pg_roles WHERE rolname = $1";
const OWNED: &str = "SELECT quote_ident(relname) AS name FROM pg_class
    WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p') AND pg_has_role(relowner, 'USAGE')
    ORDER BY relname";
const DEFINERS: &str = "SELECT p.oid::regprocedure::text AS name FROM pg_proc p
    WHERE p.pronamespace = current_schema()::regnamespace AND p.prosecdef AND p.proname LIKE 'churnd\\_%'
    ORDER BY p.oid::regprocedure::text";
const HERE: &str =
    "SELECT quote_ident(current_schema()) AS schema, relowner::regrole::text AS owner, current_user::text AS me,
        has_schema_privilege('public', current_schema(), 'CREATE') AS open,
        pg_has_role(relowner, 'USAGE') AS owns
    FROM pg_class WHERE oid = 'accounts'::regclass";
const STANDING: &str = "SELECT current_user::text AS me, r.rolsuper OR r.rolbypassrls AS unbound,
        pg_has_role((SELECT relowner FROM pg_class WHERE oid = 'accounts'::regclass), 'USAGE') AS owns,
        has_schema_privilege(current_schema(), 'CREATE') AS creates,
        (SELECT count(*) FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
         WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p')
           AND a.attname IN ('account', 'account_id') AND a.attnum > 0 AND NOT a.attisdropped
           AND (c.relowner = (SELECT relowner FROM pg_class WHERE oid = 'accounts'::regclass)
                OR (NOT r.rolsuper AND has_table_privilege(c.oid, 'SELECT')))
           AND NOT (c.relrowsecurity AND c.relforcerowsecurity)) AS unguarded
    FROM pg_roles r WHERE r.rolname = current_user";

/// What the role that we connect as could do besides its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// What it is called.
    pub role: String,
    /// A superuser, or one that row-level security does not hold.
    pub is_unbound: bool,
    /// It may change the tables.
    pub may_change_tables: bool,
    /// Tables with rows of accounts that no policy guards.
    pub unguarded: u64,
}

/// What a role is to be allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// All work of the daemon, and of commands other than `migrate`.
    Work,
    /// Reading everything that opens nothing.
    Read,
}

impl Store {
    /// Gives a role what it needs, and takes from it what it does not; to be called by the tables' owner.
    pub async fn grant(&self, role: &str, grant: Grant) -> Result<(), StoreError> {
        let rows = self.statement(DOING, HERE, &[]).await?;
        let row = RowReader { table: "pg_class", row: rows.first().ok_or_else(absent_tables)? };
        let (schema, owner, me) = (row.text("schema")?, row.text("owner")?, row.text("me")?);
        if !row.get::<bool>("owns")? {
            return Err(StoreError::Config(format!(
                "the tables belong to {owner}, and only it can grant: run `churnd migrate` with its connection string, not as {me}"
            )));
        }
        self.check_role(role, &owner).await?;
        let role = quoted(role);
        let mut sql = format!("GRANT USAGE ON SCHEMA {schema} TO {role};");
        if row.get::<bool>("open")? {
            sql += &format!("REVOKE CREATE ON SCHEMA {schema} FROM PUBLIC;");
        }
        for table in names(&self.statement(DOING, OWNED, &[]).await?)? {
            sql += &format!("REVOKE ALL ON {table} FROM {role};");
            sql += &match (grant, table.as_str()) {
                (Grant::Read, table) if SECRET.contains(&table) => String::new(),
                (Grant::Read, _) | (Grant::Work, "schema_migrations") => format!("GRANT SELECT ON {table} TO {role};"),
                (Grant::Work, _) => format!("GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {role};"),
            };
        }
        if grant == Grant::Work {
            for function in names(&self.statement(DOING, DEFINERS, &[]).await?)? {
                sql += &format!("GRANT EXECUTE ON FUNCTION {function} TO {role};");
            }
            // What a later migration adds is there for the daemon at once.
            sql += &format!(
                "ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {role};
                 ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT EXECUTE ON FUNCTIONS TO {role};"
            );
        }
        let connection = self.connection(DOING).await?;
        let whole = format!("BEGIN; {sql} COMMIT;");
        let done = connection.batch_execute(&whole).await.map_err(|error| StoreError::of_postgres(DOING, &error));
        if done.is_err() {
            drop(deadpool_postgres::Object::take(connection));
        }
        done
    }

    /// What the role that we connect as could do besides its work.
    pub async fn standing(&self) -> Result<Standing, StoreError> {
        let rows = self.statement("look at our role", STANDING, &[]).await?;
        let row = RowReader { table: "pg_roles", row: rows.first().ok_or_else(absent_tables)? };
        Ok(Standing {
            role: row.text("me")?,
            is_unbound: row.get("unbound")?,
            may_change_tables: row.get::<bool>("owns")? || row.get::<bool>("creates")?,
            unguarded: row.number("unguarded")?,
        })
    }

    async fn check_role(&self, role: &str, owner: &str) -> Result<(), StoreError> {
        let rows = self.statement(DOING, FIND_ROLE, &[&role, &owner.trim_matches('"')]).await?;
        let Some(row) = rows.first() else {
            let name = quoted(role);
            return Err(StoreError::Config(format!(
                "there is no role {role}: have somebody who may run CREATE ROLE {name} LOGIN NOSUPERUSER NOBYPASSRLS PASSWORD '…'"
            )));
        };
        let row = RowReader { table: "pg_roles", row };
        if row.get::<bool>("rolsuper")? || row.get::<bool>("rolbypassrls")? {
            return Err(StoreError::Config(format!(
                "the role {role} is a superuser or has BYPASSRLS, so nothing would hold it: take another"
            )));
        }
        if row.get::<bool>("owns")? {
            return Err(StoreError::Config(format!(
                "the role {role} is the owner of the tables, or a member of it, and can change them: take another"
            )));
        }
        Ok(())
    }
}

fn absent_tables() -> StoreError {
    StoreError::Config("the tables are not there: run `churnd migrate`".to_owned())
}

fn names(rows: &[deadpool_postgres::tokio_postgres::Row]) -> Result<Vec<String>, StoreError> {
    rows.iter().map(|row| RowReader { table: "pg_class", row }.text("name")).collect()
}

/// A name as an SQL identifier.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
