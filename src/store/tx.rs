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
    tokio_postgres::{self, Row, Statement, types::ToSql},
};
use futures_util::future::join3;
use tokio::time::timeout;

use super::{
    Store,
    error::{Cause, StoreError},
};
use crate::event::ids::AccountId;

/// How often a transaction that lost against another, or met a dead connection, is repeated.
const REPETITIONS: u32 = 3;

/// The setting that says whose rows a transaction is about; the policies of migration 8 go by it.
pub(super) const ACCOUNT: &str = "churnd.account";
/// Its value where a transaction is about all accounts, which every connection begins with.
pub(super) const EVERYBODY: &str = "*";

/// Whose rows a transaction can see and write.
#[derive(Clone, Copy, Debug)]
enum Scope<'a> {
    Everybody,
    Of(&'a AccountId),
}

impl Scope<'_> {
    /// Opens a transaction of this scope; what it sets ends with it. An account's id holds nothing to be quoted.
    fn begin(self) -> String {
        match self {
            Self::Everybody => "BEGIN".to_owned(),
            Self::Of(account) => format!("BEGIN; SET LOCAL {ACCOUNT} = '{account}'"),
        }
    }
}

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
    /// Opens a transaction about all accounts.
    pub(super) async fn begin(connection: C, doing: &'static str) -> Result<Self, StoreError> {
        Self::begin_in(Scope::Everybody, connection, doing).await
    }

    async fn begin_in(scope: Scope<'_>, connection: C, doing: &'static str) -> Result<Self, StoreError> {
        let tx = Self { connection: Some(connection), doing };
        tx.client().batch_execute(&scope.begin()).await.map_err(|error| tx.failed(&error))?;
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
        self.transaction_in(Scope::Everybody, doing, work).await
    }

    /// The same, seeing and writing rows of one account only, whatever its statements say.
    pub(super) async fn transaction_of<T, F>(
        &self,
        account: &AccountId,
        doing: &'static str,
        work: impl Fn(Arc<Tx>) -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        self.transaction_in(Scope::Of(account), doing, work).await
    }

    async fn transaction_in<T, F>(
        &self,
        scope: Scope<'_>,
        doing: &'static str,
        work: impl Fn(Arc<Tx>) -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let mut repetitions = 0;
        loop {
            let started = Instant::now();
            let outcome = self.attempt(scope, doing, &work).await;
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

    async fn attempt<T, F>(
        &self,
        scope: Scope<'_>,
        doing: &'static str,
        work: impl Fn(Arc<Tx>) -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let patience = self.transaction_timeout();
        let connection = self.connection(doing).await?;
        let body = async {
            let tx = Arc::new(Tx::begin_in(scope, connection, doing).await?);
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
        self.statement_in(Scope::Everybody, doing, sql, parameters).await
    }

    /// The same, seeing and writing rows of one account only, whatever it says.
    pub(super) async fn statement_of(
        &self,
        account: &AccountId,
        doing: &'static str,
        sql: &str,
        parameters: Parameters<'_>,
    ) -> Result<Vec<Row>, StoreError> {
        self.statement_in(Scope::Of(account), doing, sql, parameters).await
    }

    async fn statement_in(
        &self,
        scope: Scope<'_>,
        doing: &'static str,
        sql: &str,
        parameters: Parameters<'_>,
    ) -> Result<Vec<Row>, StoreError> {
        let mut repetitions = 0;
        loop {
            match self.attempt_statement(scope, doing, sql, parameters).await {
                Err(error) if error.is_worth_repeating() && repetitions < REPETITIONS => repetitions += 1,
                outcome => return outcome,
            }
        }
    }

    async fn attempt_statement(
        &self,
        scope: Scope<'_>,
        doing: &'static str,
        sql: &str,
        parameters: Parameters<'_>,
    ) -> Result<Vec<Row>, StoreError> {
        let connection = self.connection(doing).await?;
        let query = async {
            let statement = connection.prepare_cached(sql).await?;
            match scope {
                Scope::Everybody => connection.query(&statement, parameters).await,
                Scope::Of(_) => query_in(&connection, scope, &statement, parameters).await,
            }
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

/// One statement in a transaction of its own, in one round trip: all three are sent before the first is answered. So
/// whoever stops waiting leaves nothing open, and after a failure COMMIT undoes.
async fn query_in(
    connection: &ClientWrapper,
    scope: Scope<'_>,
    statement: &Statement,
    parameters: Parameters<'_>,
) -> Result<Vec<Row>, tokio_postgres::Error> {
    let begin = scope.begin();
    let (begun, answered, ended) = join3(
        connection.batch_execute(&begin),
        connection.query(statement, parameters),
        connection.batch_execute("COMMIT"),
    )
    .await;
    begun?;
    let rows = answered?;
    ended?;
    Ok(rows)
}
