//! The accounts that exist, kept fresh enough that a new one is served within seconds.

use std::{
    collections::HashSet,
    sync::{Arc, RwLock},
    time::{Duration, Instant},
};

use crate::{
    event::ids::AccountId,
    store::{Store, StoreError},
};

/// How often an unknown account makes us look again.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The known accounts; clones share what they know.
#[derive(Clone, Debug)]
pub struct Accounts {
    store: Store,
    known: Arc<RwLock<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    accounts: HashSet<AccountId>,
    looked_at: Option<Instant>,
}

impl Accounts {
    /// Nothing known yet.
    pub fn new(store: Store) -> Self {
        Self { store, known: Arc::default() }
    }

    /// Whether the account exists, as far as known.
    pub fn contains(&self, account: &str) -> bool {
        let Ok(account) = AccountId::parse(account) else { return false };
        self.known.read().expect("no holder of this lock panics").accounts.contains(&account)
    }

    /// Looks the accounts up in the store, unless that was done a moment ago.
    pub async fn refresh(&self) -> Result<(), StoreError> {
        let fresh = |known: &Known| known.looked_at.is_some_and(|at| at.elapsed() < LOOK_AGAIN_AFTER);
        if fresh(&self.known.read().expect("no holder of this lock panics")) {
            return Ok(());
        }
        let accounts = self.store.known_accounts().await?;
        *self.known.write().expect("no holder of this lock panics") =
            Known { accounts, looked_at: Some(Instant::now()) };
        Ok(())
    }
}
