//! The keys that count, held in memory: checking one asks no database.
//!
//! All active keys are read again every [`REFRESH`], so that a revocation is seen by every instance within 5 seconds. A key that
//! is well formed and unknown may have been made a moment ago: it is looked for at once, all such questions sharing one
//! look and never more than four a second. When Postgres is away the known keys go on counting.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::warn;
use uuid::Uuid;

use crate::{
    event::{ids::AccountId, time::Timestamp},
    store::{
        Store, StoreError,
        keys::{KeyHash, KeyKind, StoredKey, read_key},
    },
};

/// How often all keys are read again.
pub const REFRESH: Duration = Duration::from_secs(2);
/// How often the last uses are written down.
const NOTE_USES: Duration = Duration::from_secs(30);
/// At the least between two looks for an unknown key.
const BETWEEN_LOOKS: Duration = Duration::from_millis(250);

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
    known: RwLock<Arc<HashMap<KeyHash, Arc<Key>>>>,
    /// When the last look began. Held while looking.
    looked_at: tokio::sync::Mutex<Option<Instant>>,
    used: Mutex<HashMap<Uuid, Timestamp>>,
}

impl KeyRing {
    /// Nothing known yet.
    pub fn new(store: Store, now: Arc<dyn Fn() -> Timestamp + Send + Sync>) -> Self {
        Self(Arc::new(Inner {
            store,
            now,
            known: RwLock::default(),
            looked_at: tokio::sync::Mutex::default(),
            used: Mutex::default(),
        }))
    }

    /// What a key opens.
    pub async fn open(&self, text: &str) -> Result<Arc<Key>, KeyRefusal> {
        let (_, hash) = read_key(text).map_err(|_| KeyRefusal::Invalid)?;
        let key = match self.known(&hash) {
            Some(key) => key,
            None => {
                self.look_again(Instant::now()).await.map_err(KeyRefusal::Unavailable)?;
                self.known(&hash).ok_or(KeyRefusal::Invalid)?
            }
        };
        self.0.used.lock().unwrap_or_else(PoisonError::into_inner).insert(key.id, (self.0.now)());
        Ok(key)
    }

    /// Reads all keys again.
    pub async fn refresh(&self) -> Result<(), StoreError> {
        let mut looked_at = self.0.looked_at.lock().await;
        *looked_at = Some(Instant::now());
        self.look().await
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
        self.0.known.read().unwrap_or_else(PoisonError::into_inner).get(hash).cloned()
    }

    /// Makes sure that a look began after `asked_at`.
    async fn look_again(&self, asked_at: Instant) -> Result<(), StoreError> {
        let mut looked_at = self.0.looked_at.lock().await;
        if let Some(last) = *looked_at {
            if last >= asked_at {
                return Ok(());
            }
            tokio::time::sleep_until(last + BETWEEN_LOOKS).await;
        }
        *looked_at = Some(Instant::now());
        self.look().await
    }

    async fn look(&self) -> Result<(), StoreError> {
        let keys = self.0.store.active_keys().await?;
        let known = keys.into_iter().map(|key| (key.hash, Arc::new(Key::of(key)))).collect();
        *self.0.known.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(known);
        Ok(())
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
