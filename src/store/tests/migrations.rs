//! Migrations: races, refusals, and a daemon's role without the right to change tables.

use super::{
    StoreError,
    rows::{hours, state, write_of},
    server::{Database, store},
};
use crate::{
    event::ids::{AccountId, Epoch, PartitionId, StreamSequence},
    store::{
        archive::ArchiveWrite,
        leases::{Role, Target},
        migrate::{MIGRATIONS, Migration, expected_version},
        roles::Grant,
    },
};

#[tokio::test]
async fn of_two_callers_at_once_one_migrates_and_both_succeed() {
    let database = Database::empty().await;
    let (one, other) = (database.store(), database.store());
    assert_eq!(one.schema_version().await.unwrap(), 0);
    assert!(matches!(one.check_schema().await, Err(StoreError::SchemaTooOld { found: 0, .. })));
    let (first, second) = tokio::join!(one.migrate(), other.migrate());
    let mut applied = [first.unwrap().len(), second.unwrap().len()];
    applied.sort_unstable();
    assert_eq!(applied, [0, expected_version() as usize]);
    assert_eq!(one.schema_version().await.unwrap(), expected_version());
    one.check_schema().await.unwrap();
}

#[tokio::test]
async fn a_newer_or_changed_database_is_refused() {
    let (_database, store) = Database::migrated().await;
    store.run("UPDATE schema_migrations SET checksum = 'other' WHERE version = 1").await;
    assert!(matches!(store.migrate().await, Err(StoreError::SchemaChanged { version: 1, .. })));
    store.run("INSERT INTO schema_migrations (version, name, checksum) VALUES (99, 'later', '')").await;
    for error in [store.migrate().await.err(), store.check_schema().await.err()] {
        assert!(matches!(error, Some(StoreError::SchemaTooNew { found: 99, known }) if known == expected_version()));
    }
}

/// What a next release may bring.
fn with_one_more() -> Vec<Migration> {
    let known = MIGRATIONS.iter().map(|known| Migration { ..*known });
    let sql = "ALTER TABLE accounts ADD COLUMN of_the_next_release integer";
    known.chain([Migration { version: expected_version() + 1, name: "next", sql }]).collect()
}

#[tokio::test]
async fn a_migration_never_keeps_others_waiting_for_long() {
    let (database, store) = Database::migrated().await;
    store.add_account(&AccountId::parse("acme").unwrap(), "Acme").await.unwrap();
    let mut long = store.connection("test").await.unwrap();
    let reading = long.transaction().await.unwrap();
    reading.batch_execute("SELECT * FROM accounts").await.unwrap();
    let (watching, known) = (database.store(), with_one_more());
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'accounts'::regclass";
    let stepping_back = async {
        // It gets into the queue, and out of it again although the table is still in use.
        for expected in ["1", "0", "1"] {
            while watching.ask(waiting).await != expected {
                tokio::task::yield_now().await;
            }
            if expected == "0" {
                assert_eq!(watching.ask("SELECT count(*) FROM accounts").await, "1", "others have their turn");
            }
        }
        reading.rollback().await.unwrap();
    };
    let (migrated, ()) = tokio::join!(store.migrate_with(&known), stepping_back);
    assert_eq!(migrated.unwrap().len(), 1);
    assert_eq!(watching.ask("SELECT count(of_the_next_release) FROM accounts").await, "0");
    // This version does not know what that was.
    let refused = watching.check_schema().await.unwrap_err().to_string();
    assert!(refused.contains(&format!("schema version {}", expected_version() + 1)), "{refused}");
    assert!(refused.contains("run a newer churnd"), "{refused}");
}

/// With what `churnd migrate --app-role` grants.
#[tokio::test]
async fn the_daemon_s_role_needs_no_right_to_change_tables() {
    let database = Database::empty().await;
    let admin = database.store();
    admin
        .run(&format!(
            "CREATE ROLE owner_role LOGIN PASSWORD 'o'; ALTER DATABASE {} OWNER TO owner_role;
        DROP ROLE IF EXISTS churnd_app; CREATE ROLE churnd_app LOGIN PASSWORD 'a'",
            database.name()
        ))
        .await;
    let url = |user: &str, password: &str| {
        format!("postgres://{user}:{password}@127.0.0.1:{}/{}", database.server.postgres.port(), database.name())
    };
    let owner = store(&url("owner_role", "o"));
    owner.migrate().await.unwrap();
    owner.grant("churnd_app", Grant::Work).await.unwrap();

    let daemon = store(&url("churnd_app", "a"));
    assert_eq!(daemon.migrate().await.unwrap(), []);
    daemon.add_account(&AccountId::parse("acme").unwrap(), "Acme").await.unwrap();
    daemon.ensure_partitions(Role::Engine, 1).await.unwrap();
    daemon.ensure_partitions(Role::Archive, 1).await.unwrap();
    let session = daemon.open_session("a").await.unwrap();
    assert_eq!(session.acquire_and_renew(Role::Archive, Target::FairShare).await.unwrap().gained.len(), 1);
    daemon.store_checkpoint(&write_of(0, 1, |checkpoint| checkpoint.states.push(state("one")))).await.unwrap();
    let write = ArchiveWrite {
        id: uuid::Uuid::new_v4(),
        partition: PartitionId(0),
        epoch: Epoch(1),
        from: StreamSequence(0),
        to: StreamSequence(1),
        to_time: None,
        stream_created: None,
        events: vec![super::archive::event(1, hours(0))],
        contacts: Vec::new(),
    };
    daemon.copy_events(&write).await.unwrap();
    assert_eq!(daemon.drop_archive_before(hours(48)).await.unwrap(), 1);
    let error = daemon.connection("test").await.unwrap().batch_execute("CREATE TABLE mine ()").await.unwrap_err();
    assert_eq!(error.code().map(|code| code.code()), Some("42501"));
}

#[tokio::test]
async fn a_refused_connection_says_why_and_not_the_password() {
    let database = Database::empty().await;
    let port = database.server.postgres.port();
    for url in [
        format!("postgres://churnd:hunter2@127.0.0.1:{port}/{}", database.name()),
        "postgres://churnd:hunter2@127.0.0.1:1/nowhere".to_owned(),
        database.server.postgres.url_of("hunter3"),
    ] {
        let error = store(&url).ping().await.unwrap_err();
        let shown = format!("{error:?} {error} {}", std::error::Error::source(&error).unwrap());
        assert!(!shown.contains("hunter2") && !shown.contains("@127"), "{shown}");
        assert_eq!(error.is_transient(), url.contains(":1/"), "{shown}");
    }
}
