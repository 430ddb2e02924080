//! The accounts that exist: an account is known for every message that was stored after it was added.

use std::{
    collections::HashSet,
    sync::{Arc, RwLock},
};

use tokio::sync::Mutex;

use crate::{
    event::{ids::AccountId, time::Timestamp},
    store::{StoreError, ledger::Ledger},
};

/// How far the clocks of this machine and of NATS may differ.
const CLOCKS_APART_MILLIS: i64 = 500;

/// The known accounts; clones share what they know.
#[derive(Clone)]
pub struct Accounts {
    store: Arc<dyn Ledger>,
    now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    known: Arc<RwLock<Known>>,
    /// Held while looking: who waits for it finds what the one before found.
    looking: Arc<Mutex<()>>,
}

#[derive(Debug, Default)]
struct Known {
    accounts: HashSet<AccountId>,
    /// When the look began that found these.
    looked_at: Option<Timestamp>,
}

impl Accounts {
    /// Nothing known yet.
    pub fn new(store: Arc<dyn Ledger>, now: Arc<dyn Fn() -> Timestamp + Send + Sync>) -> Self {
        Self { store, now, known: Arc::default(), looking: Arc::default() }
    }

    /// Whether the account exists, as far as known.
    pub fn contains(&self, account: &str) -> bool {
        let Ok(account) = AccountId::parse(account) else { return false };
        self.known.read().expect("no holder of this lock panics").accounts.contains(&account)
    }

    /// Whether accounts that were added before `stored_at` are known: then an unknown one did not exist.
    pub fn knows_all_before(&self, stored_at: Timestamp) -> bool {
        let looked_at = self.known.read().expect("no holder of this lock panics").looked_at;
        looked_at.is_some_and(|looked_at| looked_at >= stored_at.plus_millis(CLOCKS_APART_MILLIS))
    }

    /// Looks the accounts up, unless those that were added before `stored_at` are known already.
    pub async fn look_for_those_before(&self, stored_at: Timestamp) -> Result<(), StoreError> {
        let _turn = self.looking.lock().await;
        if self.knows_all_before(stored_at) {
            return Ok(());
        }
        self.look().await
    }

    /// Looks the accounts up.
    pub async fn refresh(&self) -> Result<(), StoreError> {
        let _turn = self.looking.lock().await;
        self.look().await
    }

    async fn look(&self) -> Result<(), StoreError> {
        let looked_at = Some((self.now)());
        let accounts = self.store.known_accounts().await?;
        *self.known.write().expect("no holder of this lock panics") = Known { accounts, looked_at };
        Ok(())
    }
}
