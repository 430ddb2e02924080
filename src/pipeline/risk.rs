//! Reading a customer's risk: from the worker that owns the customer, else from what is stored.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};

use super::{
    rulebook::RuleBook,
    worker::{RiskAnswer, RiskQuestion, report},
};
use crate::{
    engine::{
        alert::RiskReport,
        snapshot::{self, SnapshotError},
    },
    event::{ids::AccountId, time::Timestamp},
    store::{Store, StoreError},
};

/// Answers questions about customers; clones answer alike.
#[derive(Clone)]
pub struct RiskDesk {
    /// The worker of this instance, if it has one.
    pub worker: Option<mpsc::Sender<RiskQuestion>>,
    /// Postgres.
    pub store: Store,
    /// The rules in force.
    pub rules: watch::Receiver<Arc<RuleBook>>,
    /// The time.
    pub now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

/// Why a risk cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum RiskError {
    /// Nothing is known of such a customer.
    #[error("no customer of this id has been seen in this account")]
    UnknownCustomer,
    /// The score of the past is not kept: see the history.
    #[error("`asOf` lies before the customer's newest event, which happened at {newest}")]
    TooEarly {
        /// The newest event.
        newest: Timestamp,
    },
    /// Postgres cannot be asked now.
    #[error("the customer cannot be looked up now")]
    Store(#[from] StoreError),
    /// What is stored cannot be read.
    #[error("what is stored of the customer cannot be read")]
    Snapshot(#[from] SnapshotError),
}

impl RiskDesk {
    /// A customer's risk as of an instant, now if none is given.
    pub async fn risk(
        &self,
        account: &AccountId,
        token: &str,
        as_of: Option<Timestamp>,
    ) -> Result<RiskReport, RiskError> {
        let answer = match self.ask_worker(account, token, as_of).await {
            Some(RiskAnswer::NotHere) | None => self.look_up(account, token, as_of).await?,
            Some(answer) => answer,
        };
        match answer {
            RiskAnswer::Report(report) => Ok(*report),
            RiskAnswer::TooEarly { newest } => Err(RiskError::TooEarly { newest }),
            RiskAnswer::NotHere => Err(RiskError::UnknownCustomer),
        }
    }

    async fn ask_worker(&self, account: &AccountId, token: &str, as_of: Option<Timestamp>) -> Option<RiskAnswer> {
        let (answer, answered) = oneshot::channel();
        let question = RiskQuestion { key: format!("{account}.{token}"), as_of, answer };
        self.worker.as_ref()?.send(question).await.ok()?;
        answered.await.ok()
    }

    async fn look_up(
        &self,
        account: &AccountId,
        token: &str,
        as_of: Option<Timestamp>,
    ) -> Result<RiskAnswer, RiskError> {
        let stored = self.store.state_of(account, token).await?.ok_or(RiskError::UnknownCustomer)?;
        let state = snapshot::decode(&stored.snapshot)?;
        let rules = self.rules.borrow().of(account.as_str());
        Ok(report(stored.customer, &state, &rules, as_of, (self.now)()))
    }
}
