//! The bookkeeper: notes once an hour how every account stands. Any number of instances may try; one of them does.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{
    event::time::Timestamp,
    store::{Store, StoreError},
};

/// How long to wait where somebody else is at it, or it failed.
const AGAIN_MILLIS: i64 = 60_000;
/// What has changed at the beginning of an hour should be in the tables when it is counted.
const SETTLE_MILLIS: i64 = 5_000;
const HOURS_PER_DAY: i64 = 24;

/// Notes how accounts stand.
pub struct Bookkeeper {
    /// Postgres.
    pub store: Store,
    /// The time.
    pub now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

impl Bookkeeper {
    /// Notes until `stop`.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        // Whoever starts looks after what the others left.
        let mut thinned_on = None;
        loop {
            let now = (self.now)();
            let is_noted = match self.note(now, &mut thinned_on).await {
                Ok(is_noted) => is_noted,
                Err(error) => {
                    warn!("cannot note how accounts stand, trying again: {error}");
                    false
                }
            };
            let next_hour = Timestamp::start_of_hour(now.hour() + 1).plus_millis(SETTLE_MILLIS);
            let wait = if is_noted { next_hour.millis_since(now) } else { AGAIN_MILLIS };
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(Duration::from_millis(wait.unsigned_abs())) => {}
            }
        }
    }

    async fn note(&self, now: Timestamp, thinned_on: &mut Option<i64>) -> Result<bool, StoreError> {
        let is_noted = self.store.note_hour(now).await?;
        let day = now.hour().div_euclid(HOURS_PER_DAY);
        if is_noted && *thinned_on != Some(day) {
            self.store.thin_hours(now).await?;
            *thinned_on = Some(day);
            debug!("thinned what was noted of accounts");
        }
        Ok(is_noted)
    }
}
