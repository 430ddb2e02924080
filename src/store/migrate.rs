//! The embedded migrations: forward only, one transaction each, one runner at a time.
//!
//! The daemon never migrates by itself unless it is told to; it compares [`Store::schema_version`] with
//! [`expected_version`] and refuses to run on other tables than it was built for.

use std::time::Duration;

use deadpool_postgres::{
    ClientWrapper, Object,
    tokio_postgres::{self, error::SqlState},
};
use sha2::{Digest, Sha256};

use super::{Store, error::StoreError};

/// One step of the tables' history.
pub(super) struct Migration {
    pub(super) version: u32,
    pub(super) name: &'static str,
    pub(super) sql: &'static str,
}

pub(super) const MIGRATIONS: &[Migration] = &[
    Migration { version: 1, name: "initial", sql: include_str!("../../migrations/0001_initial.sql") },
    Migration { version: 2, name: "erasure", sql: include_str!("../../migrations/0002_erasure.sql") },
    Migration { version: 3, name: "reading", sql: include_str!("../../migrations/0003_reading.sql") },
    Migration { version: 4, name: "channels", sql: include_str!("../../migrations/0004_channels.sql") },
    Migration { version: 5, name: "dashboard", sql: include_str!("../../migrations/0005_dashboard.sql") },
    Migration { version: 6, name: "fleet", sql: include_str!("../../migrations/0006_fleet.sql") },
    Migration { version: 7, name: "outcomes", sql: include_str!("../../migrations/0007_outcomes.sql") },
    Migration { version: 8, name: "roles", sql: include_str!("../../migrations/0008_roles.sql") },
    Migration { version: 9, name: "partitioning", sql: include_str!("../../migrations/0009_partitioning.sql") },
];

/// The advisory lock all runners take; any constant does, as long as it never changes.
const LOCK: i64 = 0x6368_7572_6e64_0001;
/// The oldest server that is supported.
const OLDEST_SERVER: u32 = 150_000;
const DOING: &str = "migrate the database";
/// How long a migration waits for a table that is in use. Whoever comes after it waits as well, so it must be short: a daemon
/// that runs meanwhile stands still for that long.
const LOCK_WAIT: &str = "SET LOCAL lock_timeout = '2s'";
/// How long the others have their turn before it tries again, and how often it does.
const TURN_OF_OTHERS: Duration = Duration::from_secs(1);
const TRIES: u32 = 100;

const TABLE_EXISTS: &str = "SELECT to_regclass('schema_migrations') IS NOT NULL";
const CREATE_TABLE: &str = "CREATE TABLE schema_migrations (
    version integer PRIMARY KEY,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)";
const APPLIED: &str = "SELECT version, name, checksum FROM schema_migrations ORDER BY version";
const RECORD: &str = "INSERT INTO schema_migrations (version, name, checksum) VALUES ($1, $2, $3)";

/// A migration that was applied just now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppliedMigration {
    /// Its number.
    pub version: u32,
    /// Its name.
    pub name: &'static str,
}

/// A migration as the database remembers it.
struct Recorded {
    version: u32,
    name: String,
    checksum: String,
}

/// The schema version this binary is built for.
pub fn expected_version() -> u32 {
    MIGRATIONS.last().map_or(0, |migration| migration.version)
}

impl Store {
    /// Applies what the database lacks and says what that was; safe to call from several processes at once.
    pub async fn migrate(&self) -> Result<Vec<AppliedMigration>, StoreError> {
        self.migrate_with(MIGRATIONS).await
    }

    /// The newest migration in the database; 0 for an empty one.
    pub async fn schema_version(&self) -> Result<u32, StoreError> {
        let doing = "read the schema version";
        let exists = self.statement(doing, TABLE_EXISTS, &[]).await?;
        if !exists.iter().any(|row| row.get(0)) {
            return Ok(0);
        }
        let rows = self.statement(doing, "SELECT coalesce(max(version), 0) FROM schema_migrations", &[]).await?;
        Ok(rows.first().map_or(0, |row| row.get::<_, i32>(0)).unsigned_abs())
    }

    /// The schema version this binary is built for.
    pub fn expected_version(&self) -> u32 {
        expected_version()
    }

    /// Refuses a database that this binary is not built for.
    pub async fn check_schema(&self) -> Result<(), StoreError> {
        let (found, needed) = (self.schema_version().await?, expected_version());
        match found.cmp(&needed) {
            std::cmp::Ordering::Less => Err(StoreError::SchemaTooOld { found, needed }),
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Greater => Err(StoreError::SchemaTooNew { found, known: needed }),
        }
    }

    pub(super) async fn migrate_with(&self, known: &[Migration]) -> Result<Vec<AppliedMigration>, StoreError> {
        self.check_server().await?;
        // A connection of its own, closed afterwards: it carries a session's lock and other timeouts than the pool's.
        let mut connection = Object::take(self.connection(DOING).await?);
        let failed = |error| StoreError::of_postgres(DOING, &error);
        connection
            .batch_execute(&format!(
                "SET statement_timeout = 0; SET lock_timeout = 0; SET idle_in_transaction_session_timeout = 0; \
                 SET client_min_messages = warning; SELECT pg_advisory_lock({LOCK})"
            ))
            .await
            .map_err(failed)?;
        // Asked for first: a role without the right to create tables may still find that nothing is missing.
        if !connection.query_one(TABLE_EXISTS, &[]).await.map_err(failed)?.get::<_, bool>(0) {
            connection.batch_execute(CREATE_TABLE).await.map_err(failed)?;
        }
        let recorded = read_recorded(&connection).await?;
        let mut applied = Vec::new();
        for migration in missing(known, &recorded)? {
            migration.apply(&mut connection).await?;
            tracing::info!(migration.version, "applied migration {}: {}", migration.version, migration.name);
            applied.push(AppliedMigration { version: migration.version, name: migration.name });
        }
        Ok(applied)
    }

    async fn check_server(&self) -> Result<(), StoreError> {
        let version = self.ping().await?;
        if version < OLDEST_SERVER {
            return Err(StoreError::Config(format!(
                "postgres has version {}: churnd needs 15 or newer",
                version / 10_000
            )));
        }
        let rows = self.statement(DOING, "SELECT current_setting('server_encoding')", &[]).await?;
        match rows.first().map(|row| row.get::<_, String>(0)) {
            Some(encoding) if encoding != "UTF8" => Err(StoreError::Config(format!(
                "the database's encoding is {encoding}: create it with ENCODING 'UTF8' TEMPLATE template0"
            ))),
            _ => Ok(()),
        }
    }
}

impl Migration {
    /// Applies it in one transaction; where a table is in use it steps back and tries again.
    async fn apply(&self, connection: &mut ClientWrapper) -> Result<(), StoreError> {
        let failed = |error: tokio_postgres::Error| StoreError::of_postgres(DOING, &error);
        for tried in 1.. {
            let tx = connection.transaction().await.map_err(failed)?;
            tx.batch_execute(LOCK_WAIT).await.map_err(failed)?;
            match tx.batch_execute(self.sql).await {
                Ok(()) => {
                    let version = i32::try_from(self.version).unwrap_or(i32::MAX);
                    tx.execute(RECORD, &[&version, &self.name, &self.checksum()]).await.map_err(failed)?;
                    return tx.commit().await.map_err(|error| StoreError::of_commit(DOING, &error));
                }
                Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) && tried < TRIES => {
                    tx.rollback().await.map_err(failed)?;
                    tracing::warn!(self.version, "a table is in use: migration {} waits for its turn", self.version);
                    tokio::time::sleep(TURN_OF_OTHERS).await;
                }
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(())
    }

    fn checksum(&self) -> String {
        hex::encode(Sha256::digest(self.sql.as_bytes()))
    }
}

async fn read_recorded(connection: &ClientWrapper) -> Result<Vec<Recorded>, StoreError> {
    let rows = connection.query(APPLIED, &[]).await.map_err(|error| StoreError::of_postgres(DOING, &error))?;
    let read = |row: &deadpool_postgres::tokio_postgres::Row| Recorded {
        version: row.get::<_, i32>(0).unsigned_abs(),
        name: row.get(1),
        checksum: row.get(2),
    };
    Ok(rows.iter().map(read).collect())
}

/// Which known migrations are not recorded yet; an error when the record does not fit what is known.
fn missing<'a>(known: &'a [Migration], recorded: &[Recorded]) -> Result<Vec<&'a Migration>, StoreError> {
    let newest_known = known.last().map_or(0, |migration| migration.version);
    if let Some(newest) = recorded.last().filter(|newest| newest.version > newest_known) {
        return Err(StoreError::SchemaTooNew { found: newest.version, known: newest_known });
    }
    for record in recorded {
        let same = known.iter().any(|known| known.version == record.version && known.checksum() == record.checksum);
        if !same {
            return Err(StoreError::SchemaChanged { version: record.version, name: record.name.clone() });
        }
    }
    let newest_recorded = recorded.last().map_or(0, |record| record.version);
    Ok(known.iter().filter(|migration| migration.version > newest_recorded).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(migration: &Migration) -> Recorded {
        Recorded { version: migration.version, name: migration.name.to_owned(), checksum: migration.checksum() }
    }

    const TWO: [Migration; 2] = [
        Migration { version: 1, name: "one", sql: "SELECT 1" },
        Migration { version: 2, name: "two", sql: "SELECT 2" },
    ];

    #[test]
    fn the_embedded_migrations_are_numbered_without_gaps() {
        assert!(MIGRATIONS.iter().zip(1..).all(|(migration, version)| migration.version == version));
    }

    #[test]
    fn only_what_is_not_recorded_is_missing() {
        let versions = |recorded: &[Recorded]| {
            missing(&TWO, recorded).unwrap().iter().map(|migration| migration.version).collect::<Vec<_>>()
        };
        assert_eq!(versions(&[]), [1, 2]);
        assert_eq!(versions(&[record(&TWO[0])]), [2]);
        assert_eq!(versions(&[record(&TWO[0]), record(&TWO[1])]), Vec::<u32>::new());
    }

    #[test]
    fn a_newer_database_is_refused_by_both_versions() {
        let error = missing(&TWO[..1], &[record(&TWO[0]), record(&TWO[1])]).err().unwrap();
        assert!(matches!(error, StoreError::SchemaTooNew { found: 2, known: 1 }), "{error}");
    }

    #[test]
    fn a_changed_migration_is_refused_by_name() {
        let changed = Recorded { checksum: "other".to_owned(), ..record(&TWO[0]) };
        let error = missing(&TWO, &[changed]).err().unwrap();
        assert!(error.to_string().contains("migration 1 (one)"), "{error}");
    }
}
