//! Transactions with a name: bounded in time, repeated on conflict, with an honest answer about COMMIT.
//!
//! Invariant: whoever gets `Ok` knows it is durable; whoever gets any error but `OutcomeUnknown` knows nothing was
//! written. A connection that ran into a timeout, or whose transaction was abandoned, is closed, never handed to the next.

use std::{
    ops::Deref,
    sync::Arc,
    time::{Duration, Instant},
};

use deadpool_postgres::{
    ClientWrapper, Object,
    tokio_postgres::{self, Row, types::ToSql},
};
use tokio::time::timeout;

use super::{
    Store,
    error::{Cause, StoreError},
};

/// How often a transaction that lost against another, or met a dead connection, is repeated.
const REPETITIONS: u32 = 3;

/// Parameters of a statement.
pub(super) type Parameters<'a> = &'a [&'a (dyn ToSql + Sync)];

/// An open transaction that knows what it is for. Abandoning it closes its connection, which undoes it.
pub(super) struct Tx<C: Connection = Object> {
    connection: Option<C>,
    doing: &'static str,
}

/// A connection of the pool's or of the caller's own.
pub(super) trait Connection: Deref<Target = ClientWrapper> {
    /// Closes it instead of giving it back.
    fn close(self);
}

impl Connection for Object {
    fn close(self) {
        drop(Self::take(self));
    }
}

/// A connection that belongs to no pool.
pub(super) struct OwnConnection(pub(super) ClientWrapper);

impl Deref for OwnConnection {
    type Target = ClientWrapper;

    fn deref(&self) -> &ClientWrapper {
        &self.0
    }
}

impl Connection for OwnConnection {
    fn close(self) {}
}

impl<C: Connection> Tx<C> {
    /// Opens a transaction.
    pub(super) async fn begin(connection: C, doing: &'static str) -> Result<Self, StoreError> {
        let tx = Self { connection: Some(connection), doing };
        tx.client().batch_execute("BEGIN").await.map_err(|error| tx.failed(&error))?;
        Ok(tx)
    }

    pub(super) async fn query(&self, sql: &str, parameters: Parameters<'_>) -> Result<Vec<Row>, StoreError> {
        let statement = self.client().prepare_cached(sql).await.map_err(|error| self.failed(&error))?;
        self.client().query(&statement, parameters).await.map_err(|error| self.failed(&error))
    }

    pub(super) async fn execute(&self, sql: &str, parameters: Parameters<'_>) -> Result<u64, StoreError> {
        let statement = self.client().prepare_cached(sql).await.map_err(|error| self.failed(&error))?;
        self.client().execute(&statement, parameters).await.map_err(|error| self.failed(&error))
    }

    /// Commits it and gives the connection back.
    pub(super) async fn commit(mut self) -> Result<C, StoreError> {
        self.client().batch_execute("COMMIT").await.map_err(|error| StoreError::of_commit(self.doing, &error))?;
        Ok(self.connection.take().expect("the connection is there until the transaction ends"))
    }

    /// Undoes it and gives the connection back to where it came from.
    async fn roll_back(mut self) {
        if self.client().batch_execute("ROLLBACK").await.is_ok() {
            drop(self.connection.take());
        }
    }

    pub(super) fn client(&self) -> &ClientWrapper {
        self.connection.as_deref().expect("the connection is there until the transaction ends")
    }

    pub(super) fn failed(&self, error: &tokio_postgres::Error) -> StoreError {
        StoreError::of_postgres(self.doing, error)
    }
}

impl<C: Connection> Drop for Tx<C> {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.close();
        }
    }
}

impl Store {
    /// Runs `work` in one transaction and commits it; repeats the whole of it when it lost against another.
    pub(super) async fn transaction<T, F>(
        &self,
        doing: &'static str,
        work: impl Fn(Arc<Tx>) -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let mut repetitions = 0;
        loop {
            let started = Instant::now();
            let outcome = self.attempt(doing, &work).await;
            let elapsed = started.elapsed();
            match &outcome {
                Err(error) if error.is_worth_repeating() && repetitions < REPETITIONS => {
                    repetitions += 1;
                    tracing::debug!(repetitions, ?elapsed, "repeating the transaction to {doing}: {error}");
                    tokio::time::sleep(Duration::from_millis(5 << repetitions)).await;
                }
                _ => {
                    tracing::trace!(?elapsed, repetitions, ok = outcome.is_ok(), "ended the transaction to {doing}");
                    return outcome;
                }
            }
        }
    }

    async fn attempt<T, F>(&self, doing: &'static str, work: impl Fn(Arc<Tx>) -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let patience = self.transaction_timeout();
        let connection = self.connection(doing).await?;
        let body = async {
            let tx = Arc::new(Tx::begin(connection, doing).await?);
            let outcome = work(Arc::clone(&tx)).await;
            Ok((outcome, Arc::into_inner(tx).expect("the work is over, and kept no part of the transaction")))
        };
        let (outcome, tx) = match timeout(patience, body).await {
            Ok(ran) => ran?,
            Err(_) => return Err(StoreError::unavailable(doing, "the transaction took too long")),
        };
        match outcome {
            Ok(value) => match timeout(patience, tx.commit()).await {
                Ok(committed) => committed.map(|_| value),
                Err(_) => Err(StoreError::OutcomeUnknown { doing, cause: Cause::text("the server took too long") }),
            },
            Err(error @ StoreError::Unavailable { .. }) if !error.is_conflict() => Err(error),
            Err(error) => match timeout(patience, tx.roll_back()).await {
                Ok(()) | Err(_) => Err(error),
            },
        }
    }

    /// Runs one statement outside of any transaction; it must be harmless to run it twice.
    pub(super) async fn statement(
        &self,
        doing: &'static str,
        sql: &str,
        parameters: Parameters<'_>,
    ) -> Result<Vec<Row>, StoreError> {
        let mut repetitions = 0;
        loop {
            match self.attempt_statement(doing, sql, parameters).await {
                Err(error) if error.is_worth_repeating() && repetitions < REPETITIONS => repetitions += 1,
                outcome => return outcome,
            }
        }
    }

    async fn attempt_statement(
        &self,
        doing: &'static str,
        sql: &str,
        parameters: Parameters<'_>,
    ) -> Result<Vec<Row>, StoreError> {
        let connection = self.connection(doing).await?;
        let query = async {
            let statement = connection.prepare_cached(sql).await?;
            connection.query(&statement, parameters).await
        };
        let done = match timeout(self.transaction_timeout(), query).await {
            Ok(outcome) => outcome.map_err(|error| StoreError::of_postgres(doing, &error)),
            Err(_) => Err(StoreError::unavailable(doing, "the server took too long")),
        };
        if let Err(StoreError::Unavailable { .. }) = &done {
            connection.close();
        }
        done
    }

    /// A connection of the pool.
    pub(super) async fn connection(&self, doing: &'static str) -> Result<Object, StoreError> {
        self.pool().get().await.map_err(|error| StoreError::of_pool(doing, &error))
    }
}
