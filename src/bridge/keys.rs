//! The keys that count, held in memory: checking one asks no database.
//!
//! How fresh they are is the business of `cached`. When they were used is written down now and then, not with each
//! request.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::warn;
use uuid::Uuid;

use super::cached::{Cached, REFRESH};
use crate::{
    event::{ids::AccountId, time::Timestamp},
    store::{
        Store, StoreError,
        keys::{KeyHash, KeyKind, StoredKey, read_key},
    },
};

/// How often the last uses are written down.
const NOTE_USES: Duration = Duration::from_secs(30);

/// A key that counts.
#[derive(Debug, PartialEq, Eq)]
pub struct Key {
    /// Its id.
    pub id: Uuid,
    /// The account it opens.
    pub account: AccountId,
    /// What it may do.
    pub kind: KeyKind,
    /// Web origins it may be used from; all when empty.
    pub allowed_origins: Vec<String>,
    /// Its own rate, requests a minute.
    pub rate_per_minute: Option<u32>,
}

/// Why a key does not open anything.
#[derive(Debug, thiserror::Error)]
pub enum KeyRefusal {
    /// The text is no key, or a key that never was, or was revoked.
    #[error("the key is not valid")]
    Invalid,
    /// It is not known, and Postgres cannot be asked now.
    #[error("the key cannot be looked up now")]
    Unavailable(#[source] StoreError),
}

/// The keys that count; clones share what they know.
#[derive(Clone)]
pub struct KeyRing(Arc<Inner>);

struct Inner {
    store: Store,
    now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    known: Cached<HashMap<KeyHash, Arc<Key>>>,
    used: Mutex<HashMap<Uuid, Timestamp>>,
}

impl KeyRing {
    /// Nothing known yet.
    pub fn new(store: Store, now: Arc<dyn Fn() -> Timestamp + Send + Sync>) -> Self {
        Self(Arc::new(Inner { store, now, known: Cached::default(), used: Mutex::default() }))
    }

    /// What a key opens.
    pub async fn open(&self, text: &str) -> Result<Arc<Key>, KeyRefusal> {
        let (_, hash) = read_key(text).map_err(|_| KeyRefusal::Invalid)?;
        let key = match self.known(&hash) {
            Some(key) => key,
            None => {
                self.0.known.look_again(Instant::now(), self.look()).await.map_err(KeyRefusal::Unavailable)?;
                self.known(&hash).ok_or(KeyRefusal::Invalid)?
            }
        };
        self.0.used.lock().unwrap_or_else(PoisonError::into_inner).insert(key.id, (self.0.now)());
        Ok(key)
    }

    /// Reads all keys again.
    pub async fn refresh(&self) -> Result<(), StoreError> {
        self.0.known.refresh(self.look()).await
    }

    /// Keeps the keys fresh and writes down when they were used, until `stop`.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut refresh = tokio::time::interval(REFRESH);
        let mut note = tokio::time::interval(NOTE_USES);
        refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);
        note.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = refresh.tick() => {
                    if let Err(error) = self.refresh().await {
                        warn!("cannot read the keys, going on with those known: {error}");
                    }
                }
                _ = note.tick() => self.note_uses().await,
            }
        }
        self.note_uses().await;
        Ok(())
    }

    fn known(&self, hash: &KeyHash) -> Option<Arc<Key>> {
        self.0.known.get().get(hash).cloned()
    }

    async fn look(&self) -> Result<HashMap<KeyHash, Arc<Key>>, StoreError> {
        let keys = self.0.store.active_keys().await?;
        Ok(keys.into_iter().map(|key| (key.hash, Arc::new(Key::of(key)))).collect())
    }

    async fn note_uses(&self) {
        let used = std::mem::take(&mut *self.0.used.lock().unwrap_or_else(PoisonError::into_inner));
        if used.is_empty() {
            return;
        }
        let used: Vec<(Uuid, Timestamp)> = used.into_iter().collect();
        if let Err(error) = self.0.store.touch_keys(&used).await {
            warn!("cannot write down when keys were used: {error}");
        }
    }
}

impl Key {
    fn of(stored: StoredKey) -> Self {
        Self {
            id: stored.id,
            account: stored.account,
            kind: stored.kind,
            allowed_origins: stored.allowed_origins,
            rate_per_minute: stored.rate_per_minute,
        }
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("KeyRing")
    }
}
