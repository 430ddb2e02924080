//! Roles and rows: the daemon's role can do its work and nothing else, and no account's transaction sees another's rows.

use std::{fs, path::Path};

use deadpool_postgres::tokio_postgres;

use super::{
    Config, Store, StoreError,
    server::{Database, config},
};
use crate::{event::ids::AccountId, store::roles::Grant};

const PASSWORD: &str = "of-a-test";

/// A migrated database with its owner, who is no superuser, a role for the daemon, and one that reads.
struct Roles {
    database: Database,
    /// The superuser.
    admin: Store,
    owner: Store,
    app: Store,
    reader: Store,
}

impl Roles {
    async fn make() -> Self {
        let database = Database::empty().await;
        let admin = database.store();
        for part in ["owner", "app", "reader"] {
            let create =
                format!("CREATE ROLE {} LOGIN NOSUPERUSER NOBYPASSRLS PASSWORD '{PASSWORD}'", of(&database, part));
            admin.run(&create).await;
        }
        let (name, owner) = (database.name(), of(&database, "owner"));
        admin.run(&format!("ALTER DATABASE {name} OWNER TO {owner}; ALTER SCHEMA public OWNER TO {owner}")).await;
        let [owner, app, reader] = ["owner", "app", "reader"].map(|part| Self::store_as(&database, part, 4));
        owner.migrate().await.unwrap();
        owner.grant(&of(&database, "app"), Grant::Work).await.unwrap();
        owner.grant(&of(&database, "reader"), Grant::Read).await.unwrap();
        Self { database, admin, owner, app, reader }
    }

    fn store_as(database: &Database, part: &str, pool_size: usize) -> Store {
        Store::connect(&Config { pool_size, ..config(&Self::url_as(database, part)) }).unwrap()
    }

    fn url_as(database: &Database, part: &str) -> String {
        let url = database.url();
        let (_, rest) = url.split_once('@').unwrap();
        format!("postgres://{}:{PASSWORD}@{rest}", of(database, part))
    }

    /// Every table with rows of accounts, and the column that says whose; from the catalogue, so a new one is among them.
    async fn tables(&self) -> Vec<(String, String)> {
        let tables = "SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
            WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
              AND (a.attname IN ('account', 'account_id') OR c.relname = 'accounts' AND a.attname = 'id') ORDER BY 1";
        let line =
            |line: &str| line.split_once('|').map(|(table, column)| (table.to_owned(), column.to_owned())).unwrap();
        self.admin.ask(tables).await.lines().map(line).collect()
    }

    /// One row of each account in every table, whatever the tables ask of rows otherwise.
    async fn fill(&self) {
        self.app.run("SELECT churnd_add_event_day(current_date)").await;
        self.admin
            .run("DO $$ DECLARE c record; BEGIN
                FOR c IN SELECT conrelid::regclass AS t, conname FROM pg_constraint
                    WHERE connamespace = 'public'::regnamespace AND contype IN ('c', 'f') AND conparentid = 0 AND coninhcount = 0
                LOOP EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', c.t, c.conname); END LOOP; END $$")
            .await;
        for (table, account) in self.tables().await {
            let values = format!(
                "SELECT string_agg(quote_ident(attname), ', '), string_agg(CASE
                    WHEN attname = '{account}' THEN '$account$'
                    WHEN typname = 'timestamptz' THEN 'now()' WHEN typname = 'uuid' THEN 'gen_random_uuid()'
                    WHEN typname = 'bytea' THEN 'gen_random_uuid()::text::bytea' WHEN typname IN ('text', 'varchar') THEN 'gen_random_uuid()::text'
                    WHEN typname = 'jsonb' THEN '''{{}}''' WHEN typname = 'bool' THEN 'false' WHEN typname LIKE '\\_%' THEN '''{{}}'''
                    ELSE '1' END, ', ')
                 FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid
                 WHERE attrelid = '{table}'::regclass AND attnum > 0 AND NOT attisdropped AND attidentity = '' AND attgenerated = ''
                   AND attnotnull AND (NOT atthasdef OR attname = '{account}')"
            );
            let row = self.admin.ask(&values).await;
            let (columns, values) = row.split_once('|').unwrap();
            if table.starts_with("events_") {
                continue;
            }
            for name in ["acme", "other"] {
                let values = values.replace("$account$", &format!("'{name}'"));
                self.admin.run(&format!("INSERT INTO {table} ({columns}) VALUES ({values})")).await;
            }
        }
    }

    /// What the daemon's role counts when a connection says for whom it works, or says nothing; or why it is refused.
    async fn count(&self, account: Option<&str>, sql: &str) -> String {
        let url = Self::url_as(&self.database, "app");
        let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
        let ask = async move {
            if let Some(account) = account {
                client.batch_execute(&format!("SET churnd.account = '{account}'")).await.unwrap();
            }
            client.query_one(sql, &[]).await
        };
        match futures_util::future::join(ask, connection).await.0 {
            Ok(row) => row.get::<_, i64>(0).to_string(),
            Err(error) => error.code().map_or(error.to_string(), |code| code.code().to_owned()),
        }
    }
}

fn of(database: &Database, part: &str) -> String {
    format!("{part}_of_{}", database.name())
}

#[tokio::test]
async fn no_account_sees_or_touches_rows_of_another_in_any_table() {
    let roles = Roles::make().await;
    roles.fill().await;
    let tables = roles.tables().await;
    assert!(tables.len() > 20, "{tables:?}");
    for (table, account) in &tables {
        let count = format!("SELECT count(*) FROM {table}");
        let of_other = format!("{count} WHERE {account} <> 'acme'");
        let touched = |change: &str| format!("WITH changed AS ({change} RETURNING 1) SELECT count(*) FROM changed");
        let steal = touched(&format!("UPDATE {table} SET {account} = 'acme' WHERE {account} = 'other'"));
        let give = touched(&format!("UPDATE {table} SET {account} = 'other'"));
        let delete = touched(&format!("DELETE FROM {table} WHERE {account} = 'other'"));
        assert_eq!(roles.count(None, &count).await, "0", "{table}: rows without saying whose");
        assert_eq!(roles.count(Some(""), &count).await, "0", "{table}");
        assert_eq!(roles.count(Some("*"), &count).await, "2", "{table}: what the engine sees");
        assert_eq!(roles.count(Some("acme"), &count).await, "1", "{table}");
        assert_eq!(roles.count(Some("acme"), &of_other).await, "0", "{table}");
        assert_eq!(roles.count(Some("acme"), &steal).await, "0", "{table}: taken");
        assert_eq!(roles.count(Some("acme"), &delete).await, "0", "{table}: deleted");
        assert_eq!(roles.count(Some("acme"), &give).await, "42501", "{table}: written for another");
    }
    let standing = roles.app.standing().await.unwrap();
    assert!(!standing.is_unbound && !standing.may_change_tables && standing.unguarded == 0, "{standing:?}");
    roles.owner.run("CREATE TABLE forgotten (account text)").await;
    assert_eq!(roles.app.standing().await.unwrap().unguarded, 1);
    let standing = roles.admin.standing().await.unwrap();
    assert!(standing.is_unbound && standing.may_change_tables, "{standing:?}");
}

#[tokio::test]
async fn a_query_without_its_condition_still_answers_for_its_account_only() {
    let roles = Roles::make().await;
    roles.fill().await;
    let acme = AccountId::parse("acme").unwrap();
    let everything = "SELECT DISTINCT account FROM customer_states";
    let rows = roles.app.statement_of(&acme, "test", everything, &[]).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>(), ["acme"]);
    let within = move |tx: std::sync::Arc<crate::store::tx::Tx>| async move { tx.query(everything, &[]).await };
    assert_eq!(roles.app.transaction_of(&acme, "test", within).await.unwrap().len(), 1);
    assert_eq!(roles.app.statement("test", everything, &[]).await.unwrap().len(), 2);
}

#[tokio::test]
async fn no_connection_goes_back_to_the_pool_with_an_account_in_it() {
    let roles = Roles::make().await;
    let acme = AccountId::parse("acme").unwrap();
    let app = Roles::store_as(&roles.database, "app", 2);
    for turn in 0..40_u8 {
        let asked = match turn % 4 {
            0 => "SELECT count(*) FROM customers",
            1 => "SELECT 1 / (SELECT count(*) FROM customers)",
            2 => "INSERT INTO accounts (id, name) VALUES ('other', 'x')",
            _ => "SELECT count(*) FROM customers, pg_sleep(0.01)",
        };
        let asking = app.statement_of(&acme, "test", asked, &[]);
        if turn % 4 == 3 {
            // Whoever asked goes away before the answer.
            let mut asking = std::pin::pin!(asking);
            for _ in 0..turn / 4 {
                tokio::select! { biased; _ = &mut asking => break, () = tokio::task::yield_now() => {} }
            }
        } else {
            assert_eq!(asking.await.is_ok(), turn % 4 == 0, "{asked}");
        }
        let (one, other) = tokio::join!(app.ask("SHOW churnd.account"), app.ask("SHOW churnd.account"));
        assert_eq!((one.as_str(), other.as_str()), ("*", "*"), "after {asked}");
        let state = "SELECT count(*) FROM pg_stat_activity WHERE usename = current_user AND state LIKE 'idle in%'";
        assert_eq!(app.ask(state).await, "0", "after {asked}");
    }
}

#[tokio::test]
async fn roles_can_do_their_work_and_nothing_else() {
    let roles = Roles::make().await;
    let owner = of(&roles.database, "owner");
    let forbidden = [
        "CREATE TABLE mine (x int)".to_owned(),
        "CREATE TABLE IF NOT EXISTS events_19700101 PARTITION OF events FOR VALUES FROM ('1970-01-01') TO ('1970-01-02')".to_owned(),
        "ALTER TABLE customers ADD COLUMN x int".to_owned(),
        "ALTER TABLE customers DISABLE ROW LEVEL SECURITY".to_owned(),
        "DROP POLICY of_the_account ON customers".to_owned(),
        "CREATE POLICY all_of_it ON customers USING (true)".to_owned(),
        "DROP TABLE outbox".to_owned(),
        "TRUNCATE outbox".to_owned(),
        "CREATE INDEX ON customers (email)".to_owned(),
        "CREATE VIEW mine AS SELECT 1".to_owned(),
        "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'".to_owned(),
        "CREATE SCHEMA mine".to_owned(),
        "CREATE ROLE mine".to_owned(),
        "ALTER ROLE CURRENT_USER BYPASSRLS".to_owned(),
        format!("SET ROLE {owner}"),
        "ALTER SYSTEM SET fsync = off".to_owned(),
        "SET session_replication_role = replica".to_owned(),
        "COPY accounts TO PROGRAM 'cat'".to_owned(),
        "COPY accounts TO '/tmp/accounts'".to_owned(),
        "SELECT pg_read_file('/etc/passwd')".to_owned(),
        "SELECT churnd_guard_accounts()".to_owned(),
        "UPDATE schema_migrations SET checksum = ''".to_owned(),
        "DELETE FROM schema_migrations".to_owned(),
    ];
    for statement in &forbidden {
        for store in [&roles.app, &roles.reader] {
            let refused = store.statement("test", statement, &[]).await.err().map(|error| format!("{error:?}"));
            let refused = refused.unwrap_or_default();
            let known = ["42501", "must be owner", "permission denied"].iter().any(|word| refused.contains(word));
            assert!(known, "{statement}: {refused}");
        }
    }
    for statement in [
        "SELECT hash FROM api_keys",
        "SELECT secret FROM stripe_secrets",
        "SELECT * FROM channels",
        "SELECT * FROM dashboard_sessions",
        "SELECT * FROM suppression_key",
        "INSERT INTO accounts (id, name) VALUES ('a', 'a')",
        "SELECT churnd_add_event_day(current_date)",
    ] {
        let refused = roles.reader.statement("test", statement, &[]).await.unwrap_err();
        assert!(format!("{refused:?}").contains("42501"), "{statement}: {refused:?}");
    }
    assert_eq!(roles.reader.ask("SELECT count(*) FROM customer_states").await, "0");
    // A table of somebody else's in the same schema is in nobody's way.
    roles.admin.run("CREATE TABLE theirs (account text)").await;
    assert_eq!(roles.app.ask("SELECT churnd_add_event_day(current_date)").await, "t");
    assert_eq!(roles.app.standing().await.unwrap().unguarded, 0);
    assert_eq!(roles.app.ask("SELECT churnd_drop_event_days(current_date + 1)").await, "1");
    // What a later migration adds is there at once.
    roles.owner.run("CREATE TABLE later (account text); SELECT churnd_guard_accounts()").await;
    roles.app.run("INSERT INTO later VALUES ('acme')").await;
}

#[tokio::test]
async fn what_cannot_be_granted_is_told_with_what_to_do() {
    let roles = Roles::make().await;
    let told = async |store: &Store, role: &str| match store.grant(role, Grant::Work).await {
        Err(StoreError::Config(text)) => text,
        other => panic!("{role}: {other:?}"),
    };
    assert!(
        told(&roles.owner, "nobody_there").await.contains("CREATE ROLE \"nobody_there\" LOGIN NOSUPERUSER NOBYPASSRLS")
    );
    assert!(told(&roles.owner, "churnd").await.contains("is a superuser"));
    let owner = of(&roles.database, "owner");
    assert!(told(&roles.owner, &owner).await.contains("is the owner of the tables"));
    let app = of(&roles.database, "app");
    assert!(told(&roles.app, &app).await.contains(&format!("the tables belong to {owner}")));
    // Again, as after each upgrade.
    roles.owner.grant(&app, Grant::Work).await.unwrap();
}

/// What is asked for one account is asked in that account's transaction; the rest is listed here with its reason.
#[test]
fn functions_about_an_account_are_bound_to_it() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store");
    let files = [directory.clone(), directory.join("channels")].into_iter().flat_map(|directory| {
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file())
    });
    let (mut unbound, mut bound) = (Vec::new(), 0);
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        for function in text.split("async fn ").skip(1) {
            let (head, body) = function.split_once('{').unwrap_or((function, ""));
            if !head.contains("account: &AccountId") {
                continue;
            }
            let body: String = body.split("\n    }").next().unwrap_or_default().split_whitespace().collect();
            bound += body.matches("_of(account,").count();
            if body.contains(".statement(") || body.contains(".transaction(") {
                unbound.push(format!("{}: {}", path.display(), head.lines().next().unwrap_or_default()));
            }
        }
    }
    assert_eq!(unbound, Vec::<String>::new());
    assert!(bound > 30, "only {bound} were found");
}
