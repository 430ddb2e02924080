//! From one version to the next: what earlier schemas hold is read and scored the same, a migration may run beside a daemon, and
//! what is too new is refused by name before anything is changed.

use std::{fmt::Write as _, fs, path::PathBuf, process::Command, time::Duration};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{
    model::{instant, traffic::Traffic},
    support::{
        Cluster, Feed, Observer,
        cluster::{APP_ROLE, OWNER_ROLE, READ_ROLE, as_role, tools},
        daemon::{self, Daemon},
        eventually, http,
        invariants::{Expected, violations},
        now,
        storm::outgoing,
    },
};

const SOON: Duration = Duration::from_secs(90);
/// 1 March 2026: everything in the dumps lies before it.
const AS_OF: i64 = 1_772_323_200_000;
/// The schemas that dumps are kept of. A release that adds a migration adds the dump of the schema before it.
const SCHEMAS: std::ops::RangeInclusive<u32> = 1..=7;

fn golden(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests/it/golden", name].iter().collect()
}

/// Runs SQL on a database.
async fn run(url: &str, sql: &str) {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
    daemon::in_background(connection);
    client.batch_execute(sql).await.unwrap();
}

/// One line for each customer: what the API answers as of then.
async fn risks(daemon: &Daemon, key: &str, customers: impl Iterator<Item = &String>) -> String {
    let mut lines = String::new();
    for customer in customers {
        let id: String = url::form_urlencoded::byte_serialize(customer.as_bytes()).collect();
        let as_of = instant::utc(AS_OF + 86_400_000);
        let path = format!("/api/customers/{id}/risk?as_of={as_of}");
        let answer = http::request(daemon.address(), "GET", &path, &[("x-api-key", key)], b"").await.unwrap();
        let risk = answer.json();
        assert_eq!(answer.status, 200, "{customer}: {risk}");
        writeln!(lines, "{customer}\t{}\t{}\t{}", risk["score"], risk["level"], risk["factors"]).unwrap();
    }
    lines
}

fn customers(golden: &str) -> Vec<String> {
    golden.lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_earlier_schemas_hold_is_read_and_scored_the_same() {
    let mut cluster = Cluster::start().await;
    let expected = fs::read_to_string(golden("risks.txt")).unwrap();
    let customers = customers(&expected);
    assert!(customers.len() >= 40, "the dumps hold few customers");
    for version in SCHEMAS {
        cluster.database = format!("schema_{version}_{}", uuid::Uuid::new_v4().simple());
        cluster.postgres().create_database(&cluster.database, None).await.unwrap();
        let dump = fs::read_to_string(golden(&format!("schema_{version}.sql"))).unwrap();
        let hand_over = format!("ALTER DATABASE {} OWNER TO {OWNER_ROLE}", cluster.database);
        run(&cluster.superuser_url(), &hand_over).await;
        let owner = as_role(&cluster.superuser_url(), OWNER_ROLE);
        run(&owner, &dump).await;

        let told = refusal(&cluster, &[("CHURND__POSTGRES__URL", &owner)]).await;
        assert!(told.contains(&format!("has schema version {version}, this churnd needs")), "{told}");
        assert!(told.contains("run `churnd migrate`"), "{told}");
        let migrate = ["migrate", "--app-role", APP_ROLE, "--read-role", READ_ROLE];
        let applied = daemon::command(&migrate, vec![("CHURND__POSTGRES__URL".to_owned(), owner)]).await;
        assert!(applied.contains(&format!("applied {:04}", version + 1)), "{applied}");
        let key = cluster.command(&["key", "add", "--account", "acme", "--kind", "secret"]).await;
        let daemon = Daemon::builder(&cluster, "one").setting("CHURND__ROLES", "bridge").start().await;
        assert_eq!(risks(&daemon, key.trim(), customers.iter()).await, expected, "schema {version}");
    }
    // And worked on: the stream is another one now, so it is read from its beginning.
    let mut daemon = Daemon::start(&cluster, "two").await;
    let (feed, observer) = (Feed::open(&cluster).await, Observer::of(&cluster).await);
    feed.event(&customers[0], &json!({"event": "payment_failed", "id": "of-the-new-version"})).await;
    // The watermarks are those of the stream before, so they tell nothing yet.
    eventually(SOON, async || match observer.risk(&customers[0], None).await? {
        risk if risk["factors"].to_string().contains("payment failure") => Ok(()),
        risk => Err(risk.to_string()),
    })
    .await;
    assert_eq!(daemon.stop().await.code(), Some(0), "{}", daemon.log().text());
    let names = observer.number("SELECT count(*) FROM customer_states").await.unwrap();
    assert_eq!(usize::try_from(names).unwrap(), customers.len(), "the customer is the one that was there");
}

// -- refusals -------------------------------------------------------------------------------------------------------------

/// Starts a daemon that must refuse, and gives what it says last.
async fn refusal(cluster: &Cluster, settings: &[(&str, &str)]) -> String {
    let builder = Daemon::builder(cluster, "refusing");
    let mut daemon = settings.iter().fold(builder, |builder, (name, value)| builder.setting(name, value)).spawn();
    let status = daemon.ended(SOON).await;
    assert!(!status.success(), "it runs");
    eventually(SOON, async || {
        let text = daemon.log().text();
        text.lines().last().map(str::to_owned).filter(|line| line.contains("churnd: ")).ok_or(text)
    })
    .await
}

/// Everything that a daemon could have changed.
async fn everything(cluster: &Cluster) -> String {
    let sql = cluster.sql().await;
    let tables =
        sql.query("SELECT tablename::text FROM pg_tables WHERE schemaname = 'public' ORDER BY 1", &[]).await.unwrap();
    let mut all = String::new();
    for table in tables.iter().map(|row| row.get::<_, String>(0)) {
        let digest = format!("SELECT md5(coalesce(string_agg(t::text, '' ORDER BY t::text), '')) FROM {table} t");
        writeln!(all, "{table} {}", sql.query_one(&digest, &[]).await.unwrap().get::<_, String>(0)).unwrap();
    }
    let jetstream = cluster.jetstream().await;
    for name in ["CHURN_EVENTS", "CHURN_WEBHOOKS", "CHURN_ALERTS", "CHURN_DEAD", "KV_churn_risk"] {
        let stream = jetstream.get_stream(name).await.unwrap();
        let info = stream.cached_info();
        let config = serde_json::to_value(&info.config).unwrap();
        writeln!(all, "{name} {} {config}", info.state.last_sequence).unwrap();
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_new_is_refused_by_name_and_nothing_is_changed() {
    let cluster = Cluster::start().await;
    let (feed, observer) = (Feed::open(&cluster).await, Observer::of(&cluster).await);
    let mut daemon = Daemon::start(&cluster, "one").await;
    feed.event("c1", &json!({"event": "payment_failed", "id": "1"})).await;
    observer.caught_up(SOON).await;
    assert_eq!(daemon.stop().await.code(), Some(0));
    let sql = cluster.sql().await;

    // A schema of the future.
    sql.batch_execute("INSERT INTO schema_migrations (version, name, checksum) VALUES (99, 'later', '')")
        .await
        .unwrap();
    let before = everything(&cluster).await;
    let told = refusal(&cluster, &[]).await;
    assert!(told.contains("the database has schema version 99, this churnd knows "), "{told}");
    assert!(told.contains("run a newer churnd"), "{told}");
    assert_eq!(everything(&cluster).await, before);
    sql.batch_execute("DELETE FROM schema_migrations WHERE version = 99").await.unwrap();

    // Rules of the future.
    let rules = cluster.dir().join("rules.toml");
    fs::write(&rules, include_str!("../../config/rules.toml").replacen("version = 1", "version = 2", 1)).unwrap();
    let before = everything(&cluster).await;
    let told = refusal(&cluster, &[("CHURND__RULES__FILE", rules.to_str().unwrap())]).await;
    assert!(told.contains("rules.toml:") && told.contains("reads version 1 of rules files"), "{told}");
    assert_eq!(everything(&cluster).await, before);

    // Streams of the future: split into more partitions.
    let jetstream = cluster.jetstream().await;
    let found = jetstream.get_stream("CHURN_EVENTS").await.unwrap().cached_info().config.clone();
    let mut split = found.clone();
    let transform = split.subject_transform.as_mut().unwrap();
    transform.destination = transform.destination.replace("partition(16,", "partition(64,");
    jetstream.update_stream(split).await.unwrap();
    let before = everything(&cluster).await;
    let told = refusal(&cluster, &[]).await;
    assert!(told.contains("CHURN_EVENTS") && told.contains("64"), "{told}");
    assert_eq!(everything(&cluster).await, before);
    jetstream.update_stream(found).await.unwrap();

    // A state of the future, which is found when its customer has an event.
    sql.batch_execute("UPDATE customer_states SET snapshot = set_byte(snapshot, 0, 2)").await.unwrap();
    let state = "SELECT md5(t::text) FROM customer_states t";
    let row = |rows: Vec<tokio_postgres::Row>| rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>();
    let before = row(observer.rows(state, &[]).await.unwrap());
    let owner = "SELECT watermark FROM partitions
        WHERE role = 'engine' AND id = (SELECT partition FROM customer_states LIMIT 1)";
    let watermark = observer.number(owner).await.unwrap();
    feed.event("c1", &json!({"event": "payment_failed", "id": "2"})).await;
    let told = refusal(&cluster, &[]).await;
    assert!(told.contains("customer c1 of account acme"), "{told}");
    assert!(told.contains("snapshot of format 2") && told.contains("run a newer churnd"), "{told}");
    assert_eq!(row(observer.rows(state, &[]).await.unwrap()), before);
    assert_eq!(observer.number(owner).await.unwrap(), watermark, "the event waits for the newer churnd");
    // The newer one takes it from there.
    sql.batch_execute("UPDATE customer_states SET snapshot = set_byte(snapshot, 0, 1)").await.unwrap();
    let _daemon = Daemon::start(&cluster, "one").await;
    observer.caught_up(SOON).await;
    assert_eq!(observer.number("SELECT sum(applied)::bigint FROM partitions WHERE role = 'engine'").await.unwrap(), 2);
}

// -- a migration beside a daemon ------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_goes_on_while_the_next_version_s_tables_are_made() {
    /// What the next release may bring: new columns of hot tables, a new table.
    const NEXT: &str = "SET lock_timeout = '2s';
        BEGIN;
        ALTER TABLE customer_states ADD COLUMN of_the_next integer;
        ALTER TABLE partitions ADD COLUMN of_the_next integer NOT NULL DEFAULT 7;
        CREATE TABLE of_the_next (account text PRIMARY KEY);
        SELECT churnd_guard_accounts();
        INSERT INTO schema_migrations (version, name, checksum) VALUES (98, 'next', '');
        COMMIT";
    let cluster = Cluster::start().await;
    let (feed, observer) = (Feed::open(&cluster).await, Observer::of(&cluster).await);
    let until = now();
    let traffic = Traffic::draw(23, 20_000, 1_000, until);
    let mut daemon =
        Daemon::builder(&cluster, "old").setting("CHURND__PIPELINE__CHECKPOINT_INTERVAL_MS", "20").start().await;
    let mut parts = traffic.sent.chunks(traffic.sent.len().div_ceil(3)).map(outgoing);
    feed.send_all(parts.next().unwrap()).await;
    let migrating = async {
        let url = as_role(&cluster.superuser_url(), OWNER_ROLE);
        let (sql, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
        daemon::in_background(connection);
        eventually(SOON, async || match sql.batch_execute(NEXT).await {
            Ok(()) => Ok(()),
            Err(error) => {
                sql.batch_execute("ROLLBACK").await.unwrap();
                Err(error.to_string())
            }
        })
        .await;
    };
    tokio::join!(feed.send_all(parts.next().unwrap()), migrating);
    feed.send_all(parts.next().unwrap()).await;
    observer.caught_up(SOON).await;
    assert_eq!(daemon.has_ended(), None, "{}", daemon.log().text());
    let expected = Expected { histories: &traffic.histories, messages: traffic.messages(), as_of: until };
    let found = violations(&observer, &expected).await.unwrap();
    assert!(found.is_empty(), "{found:#?}");
    assert_eq!(daemon.stop().await.code(), Some(0));
    // Stopped, it is not taken back: there is no way down.
    let told = refusal(&cluster, &[]).await;
    assert!(told.contains("schema version 98") && told.contains("run a newer churnd"), "{told}");
}

// -- making the dumps -----------------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
#[ignore = "writes the dumps: only when a schema was released that has none"]
async fn write_dumps() {
    let cluster = Cluster::start().await;
    let (feed, observer) = (Feed::open(&cluster).await, Observer::of(&cluster).await);
    let traffic = Traffic::draw(11, 600, 50, AS_OF);
    let builder = Daemon::builder(&cluster, "one").setting("CHURND__ROLES", "engine,bridge");
    let mut daemon = builder.setting("CHURND__PIPELINE__SETTLE_SECONDS", "1").start().await;
    feed.send_all(outgoing(&traffic.sent)).await;
    observer.caught_up(SOON).await;
    eventually(SOON, async || {
        let scored = observer.number("SELECT count(*) FROM customer_states WHERE score IS NOT NULL").await?;
        if usize::try_from(scored) == Ok(traffic.histories.len()) {
            Ok(())
        } else {
            Err(format!("{scored} are scored"))
        }
    })
    .await;
    let key = cluster.command(&["key", "add", "--account", "acme", "--kind", "secret"]).await;
    fs::write(golden("risks.txt"), risks(&daemon, key.trim(), traffic.histories.keys()).await).unwrap();
    assert_eq!(daemon.stop().await.code(), Some(0));
    for version in SCHEMAS {
        let name = format!("schema_{version}");
        cluster.postgres().create_database(&name, None).await.unwrap();
        earlier(&cluster, &name, version).await;
        let dump = Command::new(tools().find_postgres().unwrap().join("pg_dump"))
            .args(["--inserts", "--rows-per-insert=100", "--no-owner", "--no-privileges", "--no-comments"])
            .arg(cluster.postgres().url_of(&name))
            .output()
            .unwrap();
        assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
        let text = String::from_utf8(dump.stdout).unwrap();
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with("--") && !line.starts_with('\\'));
        let text: String = lines.map(|line| format!("{line}\n")).collect();
        fs::write(golden(&format!("{name}.sql")), text).unwrap();
    }
}

/// An earlier schema with those of the rows that it has a place for.
async fn earlier(cluster: &Cluster, name: &str, version: u32) {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let mut files: Vec<PathBuf> = fs::read_dir(directory).unwrap().flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "sql"));
    files.sort();
    let url = cluster.postgres().url_of(name);
    run(
        &url,
        "CREATE TABLE schema_migrations (version integer PRIMARY KEY, name text NOT NULL,
        checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())",
    )
    .await;
    for file in files.iter().take(usize::try_from(version).unwrap()) {
        let (number, called) = file.file_stem().unwrap().to_str().unwrap().split_once('_').unwrap();
        let sql = fs::read_to_string(file).unwrap();
        run(&url, &sql).await;
        let (number, checksum) = (number.parse::<u32>().unwrap(), hex::encode(Sha256::digest(sql.as_bytes())));
        run(&url, &format!("INSERT INTO schema_migrations VALUES ({number}, '{called}', '{checksum}')")).await;
    }
    let (from, to) = (cluster.sql().await, {
        let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
        daemon::in_background(connection);
        client
    });
    to.batch_execute("SET session_replication_role = replica").await.unwrap();
    let tables = "SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
        WHERE nspname = 'public' AND relkind IN ('r', 'p') AND NOT relispartition AND relname <> 'schema_migrations'";
    for table in to.query(tables, &[]).await.unwrap().iter().map(|row| row.get::<_, String>(0)) {
        let rows = from.query_one(&format!("SELECT coalesce(json_agg(t), '[]') FROM {table} t"), &[]).await.unwrap();
        let rows: Value = rows.get(0);
        let columns = "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
            WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''";
        let columns: String = to.query_one(columns, &[&table]).await.unwrap().get(0);
        // Migrations may put in rows of their own.
        to.batch_execute(&format!("DELETE FROM {table}")).await.unwrap();
        // An identity that is always generated takes its own value this way.
        let insert = format!(
            "INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE
            SELECT {columns} FROM json_populate_recordset(NULL::{table}, $1)"
        );
        to.execute(&insert, &[&rows]).await.unwrap_or_else(|error| panic!("{table}: {error:?}"));
    }
    let sequences = "SELECT format('SELECT setval(%L, max(%I)) FROM %I', pg_get_serial_sequence(c.relname, a.attname), a.attname, c.relname)
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = relnamespace
        WHERE nspname = 'public' AND a.attidentity <> '' AND relkind IN ('r', 'p') AND NOT relispartition";
    for advance in to.query(sequences, &[]).await.unwrap().iter().map(|row| row.get::<_, String>(0)) {
        to.batch_execute(&advance).await.unwrap();
    }
}
