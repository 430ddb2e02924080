//! What requests are checked against and Postgres holds, kept in memory: keys and signing secrets.
//!
//! Everything is read again every [`REFRESH`], so that a revocation is seen by every instance within 5 seconds. What is not
//! known may have been added a moment ago and is looked for at once, all such questions sharing one look and never more than
//! four a second. When Postgres is away the known goes on counting. Knows nothing of what is kept.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use tokio::{sync::Mutex, time::Instant};

use crate::store::StoreError;

/// How often everything is read again.
pub(super) const REFRESH: Duration = Duration::from_secs(2);
/// At the least between two looks for what is not known.
const BETWEEN_LOOKS: Duration = Duration::from_millis(250);

/// What was read last.
#[derive(Default)]
pub(super) struct Cached<T> {
    known: RwLock<Arc<T>>,
    /// When the last look began. Held while looking.
    looked_at: Mutex<Option<Instant>>,
}

impl<T> Cached<T> {
    /// What is known.
    pub(super) fn get(&self) -> Arc<T> {
        Arc::clone(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes what a look finds.
    pub(super) async fn refresh(&self, look: impl Future<Output = Result<T, StoreError>>) -> Result<(), StoreError> {
        let mut looked_at = self.looked_at.lock().await;
        self.take(&mut looked_at, look).await
    }

    /// Makes sure that a look began after `asked_at`.
    pub(super) async fn look_again(
        &self,
        asked_at: Instant,
        look: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<(), StoreError> {
        let mut looked_at = self.looked_at.lock().await;
        if let Some(last) = *looked_at {
            if last >= asked_at {
                return Ok(());
            }
            tokio::time::sleep_until(last + BETWEEN_LOOKS).await;
        }
        self.take(&mut looked_at, look).await
    }

    async fn take(
        &self,
        looked_at: &mut Option<Instant>,
        look: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<(), StoreError> {
        *looked_at = Some(Instant::now());
        let found = Arc::new(look.await?);
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = found;
        Ok(())
    }
}
