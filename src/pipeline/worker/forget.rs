//! Forgetting erased customers: the owner of a partition drops them from memory, and its next checkpoint deletes them.
//!
//! A customer leaves memory only between two checkpoints, when nothing of it is on its way into the tables. From then on
//! the partition refuses it by name, so that what was loaded before, or is being loaded now, cannot bring it back; whoever
//! owns the partition later finds its suppression with the first look. What was handed to the outbox before is waited for.

use std::{collections::HashSet, future::Future, pin::Pin, sync::Arc, time::Duration};

use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::{Worker, owned::key_of};
use crate::{
    event::ids::StreamSequence,
    pipeline::{outbox::OutboxSender, warm::Warm},
    store::{
        erasure::{Forgotten, ToForget},
        ledger::Ledger,
    },
};

/// How often erasures are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(1);

type Look = Pin<Box<dyn Future<Output = Option<Vec<ToForget>>> + Send>>;

/// The looks for erasures.
pub(super) struct Forgetting {
    look: Option<Look>,
    next: Instant,
}

impl Default for Forgetting {
    fn default() -> Self {
        Self { look: None, next: Instant::now() }
    }
}

impl Forgetting {
    /// Looks again at once.
    pub(super) fn hurry(&mut self) {
        self.next = Instant::now();
    }

    /// Begins a look if it is time.
    pub(super) fn look_if_due(&mut self, store: &Arc<dyn Ledger>) {
        if self.look.is_none() && Instant::now() >= self.next {
            self.look = Some(Box::pin(look(Arc::clone(store))));
            self.next = Instant::now() + LOOK_EVERY;
        }
    }

    /// Resolves when a look found something or nothing; never while there is none, or where it failed.
    pub(super) async fn found(&mut self) -> Vec<ToForget> {
        if let Some(look) = &mut self.look {
            let found = look.await;
            self.look = None;
            if let Some(found) = found {
                return found;
            }
        }
        std::future::pending().await
    }
}

async fn look(store: Arc<dyn Ledger>) -> Option<Vec<ToForget>> {
    match store.customers_to_forget().await {
        Ok(found) => Some(found),
        Err(error) => {
            debug!("cannot look for erasures, trying again: {error}");
            None
        }
    }
}

/// What a partition is to forget, and what it has forgotten.
#[derive(Default)]
pub(super) struct Forget {
    /// With the next checkpoint.
    wanted: Vec<Forgotten>,
    /// All customers of the erasures under way, whatever their partition: messages to them may wait anywhere.
    everybody: Vec<Forgotten>,
    /// Keys that this owner refuses, whatever was loaded of them.
    refused: HashSet<Box<str>>,
    /// Events of erased customers that were dropped since the last checkpoint.
    unwanted: Vec<StreamSequence>,
}

impl Forget {
    /// The customer was forgotten under this lease.
    pub(super) fn refuses(&self, key: &str) -> bool {
        self.refused.contains(key)
    }

    pub(super) fn refuses_some(&self) -> bool {
        !self.refused.is_empty()
    }

    /// Drops an event: with the checkpoint that counts it, it is noted to be overwritten.
    pub(super) fn drop_event(&mut self, sequence: StreamSequence) {
        self.unwanted.push(sequence);
    }

    /// How many events were dropped since the last checkpoint.
    pub(super) fn dropped(&self) -> usize {
        self.unwanted.len()
    }

    pub(super) fn take_unwanted(&mut self) -> Vec<StreamSequence> {
        std::mem::take(&mut self.unwanted)
    }

    pub(super) fn is_wanted(&self) -> bool {
        !self.wanted.is_empty()
    }
}

impl super::Owned {
    /// Forgets who is to be forgotten; gives what the next checkpoint must delete. None may be under way.
    pub(super) fn forget(&mut self, warm: &Warm) -> Vec<Forgotten> {
        let wanted = std::mem::take(&mut self.forget.wanted);
        for account in wanted.iter().map(|row| &row.account).collect::<HashSet<_>>() {
            let everybody = self.forget.everybody.iter().chain(&wanted).filter(|row| row.account == *account);
            let tokens: HashSet<&Box<str>> = everybody.map(|row| &row.token).collect();
            let tokens: Vec<Box<str>> = tokens.into_iter().cloned().collect();
            self.engine.forget(account.as_str(), &tokens);
        }
        for row in &wanted {
            let key = key_of(row.account.as_str(), &row.token);
            warm.forget(&key);
            self.forget.refused.insert(key);
        }
        wanted
    }
}

impl Worker {
    /// Takes what a look for erasures found.
    pub(super) fn take_erasures(&mut self, found: Vec<ToForget>) {
        let everybody: Vec<Forgotten> = found.iter().map(forgotten).collect();
        let mut settled = Vec::new();
        let layout = self.layout;
        for owned in self.owned.values_mut() {
            owned.forget.wanted.clear();
            owned.forget.everybody.clone_from(&everybody);
            // Who is not under way any more has a suppression that every look finds. Something may still be loading.
            if self.work.is_none() && !owned.forget.refused.is_empty() {
                let open: HashSet<Box<str>> =
                    everybody.iter().map(|row| key_of(row.account.as_str(), &row.token)).collect();
                owned.forget.refused.retain(|key| open.contains(key));
            }
        }
        for row in found.iter().filter(|row| !row.settled) {
            let partition = layout.of(row.account.as_str(), &row.token);
            let Some(owned) = self.owned.get_mut(&partition) else { continue };
            if row.forgotten {
                settled.push(forgotten(row));
            } else {
                owned.forget.wanted.push(forgotten(row));
                self.checkpointing.note_change();
            }
        }
        if !settled.is_empty() {
            let (store, outbox) = (self.tools.store.clone(), self.outbox.clone());
            self.tools.tasks.spawn(settle(store, outbox, settled));
        }
    }
}

fn forgotten(row: &ToForget) -> Forgotten {
    Forgotten { erasure: row.erasure, account: row.account.clone(), token: row.token.clone() }
}

/// Waits until what was handed to the outbox has been published, then says so. What fails is tried at the next look.
async fn settle(store: Arc<dyn Ledger>, outbox: OutboxSender, forgotten: Vec<Forgotten>) {
    if !outbox.drained().await {
        return;
    }
    match store.settle_forgotten(&forgotten).await {
        Ok(()) => {
            let count = forgotten.len();
            info!(customers = count, "forgot {count} erased customers: nothing of them is in memory any more");
        }
        Err(error) => warn!("cannot note that customers were forgotten, trying again: {error}"),
    }
}
