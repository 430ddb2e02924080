//! Postgres: the truth about customers' states, and who may change them.
//!
//! Owns every table and every line of SQL. Takes no decision about customers: what to store comes as the engine's
//! [`Checkpoint`](crate::engine::checkpoint::Checkpoint), what to publish leaves as rows of the outbox; nothing here
//! knows NATS or HTTP.
//!
//! Invariants: everything a checkpoint accounts for is written in the transaction that moves its watermark, and only by
//! the owner of the partition's epoch · a statement is harmless to repeat or its outcome can be looked up · the
//! connection string never leaves this module.

pub mod error; // what can fail, by what the caller can do about it
mod connect; // connection string, TLS, pool, timeouts
mod values; // how our values stand in Postgres
mod tx; // named transactions: bounded, repeated, honest about COMMIT
pub mod migrate; // the embedded migrations
pub mod roles; // who works on the tables, and with which rights
pub mod accounts; // tenants and their Stripe signing secrets
pub mod keys; // API keys: making, checking, storing
pub mod leases; // who owns which partition: types and the pure decision
pub mod partitioning; // how many partitions, and their doubling
pub mod session; // one instance's standing: its connection, heartbeat and leases
pub mod checkpoint; // the one transaction
pub mod states; // customers' states: load, due, pages
pub mod outbox; // messages to publish
pub mod fleet; // how many events of an account came, and when they did not
pub mod stripe; // links, charges, waiting disputes
pub mod archive; // every event, by day
pub mod suppression; // who must not be stored any more, as keyed hashes
pub mod erasure; // erasing a customer: who asked, how far it is
pub mod unwanted; // dropped events, to be overwritten in the stream
mod erase_rows; // what is deleted of a customer
pub mod queries; // the read side: history, alerts, timeline, sums
pub mod customers; // lists of customers, and who they are
pub mod interventions; // what people did about a risk
pub mod report; // what of it worked
pub mod overview; // how accounts stand, and stood
pub mod dashboard; // who is signed in, who saw which alert
pub mod trend; // how customers came to their scores
pub mod channels; // where alerts go, and which of them
pub mod deliveries; // alerts on their way to channels, and how that went
pub mod lanes; // the work on one channel: claimed, done, recorded
pub mod subject_access; // what else is stored of a customer
pub mod ledger; // what the pipeline asks, as traits

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use deadpool_postgres::Pool;
use tokio::sync::OnceCell;

pub use connect::Config;
pub use error::StoreError;
use suppression::SuppressionKey;

/// The way to all tables; cheap to clone.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

struct Shared {
    pool: Pool,
    transaction_timeout: Duration,
    lease: Duration,
    suppression_key: OnceCell<SuppressionKey>,
}

impl Store {
    /// Prepares the pool; the first call that needs a connection opens one.
    pub fn connect(config: &Config) -> Result<Self, StoreError> {
        let shared = Shared {
            pool: config.pool()?,
            transaction_timeout: config.transaction_timeout(),
            lease: Duration::from_secs(config.lease_seconds),
            suppression_key: OnceCell::new(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Asks the server for its version, such as 150004 for 15.4; serves to see whether it is there.
    pub async fn ping(&self) -> Result<u32, StoreError> {
        let rows = self.statement("ask for the server's version", SERVER_VERSION, &[]).await?;
        let version: Option<i32> = rows.first().and_then(|row| row.try_get(0).ok());
        version.and_then(|version| u32::try_from(version).ok()).ok_or_else(|| {
            StoreError::unavailable("ask for the server's version", "the server did not say its version")
        })
    }

    /// Connections in use and connections open.
    pub fn pool_status(&self) -> PoolStatus {
        let status = self.shared.pool.status();
        PoolStatus { open: status.size, idle: status.available, waiting: status.waiting, limit: status.max_size }
    }

    /// Closes the pool: whoever asks for a connection from now on is refused.
    pub fn close(&self) {
        self.shared.pool.close();
    }

    /// How long a lease lasts after its last renewal.
    pub fn lease(&self) -> Duration {
        self.shared.lease
    }

    fn pool(&self) -> &Pool {
        &self.shared.pool
    }

    fn transaction_timeout(&self) -> Duration {
        self.shared.transaction_timeout
    }
}

const SERVER_VERSION: &str = "SELECT current_setting('server_version_num')::integer";

/// How the pool stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolStatus {
    /// Connections that are open.
    pub open: usize,
    /// Open ones nobody uses.
    pub idle: usize,
    /// Callers that wait for one.
    pub waiting: usize,
    /// How many there may be.
    pub limit: usize,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Store").field("pool", &self.pool_status()).finish_non_exhaustive()
    }
}
