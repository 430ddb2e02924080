//! Transactions with a name: bounded in time, repeated on conflict, with an honest answer about COMMIT.
//!
//! Invariant: whoever gets `Ok` knows it is durable; whoever gets any error but `OutcomeUnknown` knows nothing was
//! written. A connection that ran into a timeout is thrown away, never handed to the next.

use std::time::{Duration, Instant};

use deadpool_postgres::{
    ClientWrapper, Object, Transaction,
    tokio_postgres::{Row, types::ToSql},
};
use tokio::time::timeout;

use super::{Store, error::StoreError};

/// How often a transaction that lost against another, or met a dead connection, is repeated.
const REPETITIONS: u32 = 3;

/// Parameters of a statement.
pub(super) type Parameters<'a> = &'a [&'a (dyn ToSql + Sync)];

/// An open transaction that knows what it is for.
pub(super) struct Tx<'a> {
    inner: Transaction<'a>,
    doing: &'static str,
}

impl<'a> Tx<'a> {
    /// Opens a transaction on a connection of the caller's own.
    pub(super) async fn begin(connection: &'a mut ClientWrapper, doing: &'static str) -> Result<Self, StoreError> {
        let inner = connection.transaction().await.map_err(|error| StoreError::of_postgres(doing, &error))?;
        Ok(Self { inner, doing })
    }

    /// Commits it.
    pub(super) async fn commit(self) -> Result<(), StoreError> {
        self.inner.commit().await.map_err(|error| StoreError::of_commit(self.doing, &error))
    }

    pub(super) async fn query(&self, sql: &str, parameters: Parameters<'_>) -> Result<Vec<Row>, StoreError> {
        let statement = self.inner.prepare_cached(sql).await.map_err(|error| self.failed(&error))?;
        self.inner.query(&statement, parameters).await.map_err(|error| self.failed(&error))
    }

    pub(super) async fn execute(&self, sql: &str, parameters: Parameters<'_>) -> Result<u64, StoreError> {
        let statement = self.inner.prepare_cached(sql).await.map_err(|error| self.failed(&error))?;
        self.inner.execute(&statement, parameters).await.map_err(|error| self.failed(&error))
    }

    pub(super) fn inner(&self) -> &Transaction<'a> {
        &self.inner
    }

    pub(super) fn failed(&self, error: &deadpool_postgres::tokio_postgres::Error) -> StoreError {
        StoreError::of_postgres(self.doing, error)
    }
}

impl Store {
    /// Runs `work` in one transaction and commits it; repeats the whole of it when it lost against another.
    pub(super) async fn transaction<T>(
        &self,
        doing: &'static str,
        work: impl AsyncFn(&Tx<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
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

    async fn attempt<T>(
        &self,
        doing: &'static str,
        work: &impl AsyncFn(&Tx<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let patience = self.transaction_timeout();
        let mut connection = self.connection(doing).await?;
        let done = {
            let body = async {
                let tx = Tx::begin(&mut connection, doing).await?;
                let value = work(&tx).await?;
                Ok((value, tx))
            };
            match timeout(patience, body).await {
                Ok(Ok((value, tx))) => match timeout(patience, tx.commit()).await {
                    Ok(committed) => committed.map(|()| value),
                    Err(_) => Err(StoreError::OutcomeUnknown {
                        doing,
                        cause: super::error::Cause::text("the server took too long"),
                    }),
                },
                Ok(Err(error)) => Err(error),
                Err(_) => Err(StoreError::unavailable(doing, "the transaction took too long")),
            }
        };
        if let Err(StoreError::Unavailable { .. } | StoreError::OutcomeUnknown { .. }) = &done {
            discard(connection);
        }
        done
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
            discard(connection);
        }
        done
    }

    /// A connection of the pool.
    pub(super) async fn connection(&self, doing: &'static str) -> Result<Object, StoreError> {
        self.pool().get().await.map_err(|error| StoreError::of_pool(doing, &error))
    }
}

/// Closes a connection instead of giving it back: an answer may still be on its way through it.
fn discard(connection: Object) {
    drop(Object::take(connection));
}
