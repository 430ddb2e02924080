//! The intake: an alert of the stream becomes a delivery for each channel that takes it, and is acknowledged then.
//!
//! Doing it twice is harmless, because an alert has one delivery for each channel.

use std::{sync::Arc, time::Duration};

use async_nats::jetstream;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};
use uuid::Uuid;

use super::alert::Alert;
use crate::{
    event::{ids::CustomerId, subject, time::Timestamp},
    store::{Store, StoreError, channels::Settings, deliveries::NewDelivery},
    stream::{
        ALERTS,
        durable::{self, Delivery, Verdict},
    },
    telemetry::metrics::Metrics,
};

/// The durable consumer that all instances share.
const CONSUMER: &str = "notify";
/// Alerts that are taken at once.
const AT_ONCE: usize = 8;
/// How long an alert waits that cannot be taken now.
const PATIENCE: Duration = Duration::from_secs(2);

/// Takes alerts.
pub struct Intake {
    /// Where deliveries wait.
    pub store: Store,
    /// What is counted.
    pub metrics: Metrics,
    /// The time.
    pub now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// Told when something came.
    pub came: Arc<Notify>,
}

impl Intake {
    /// Takes alerts until `stop`.
    pub async fn run(self, context: jetstream::Context, stop: CancellationToken) -> anyhow::Result<()> {
        durable::consume(&context, ALERTS, CONSUMER, AT_ONCE, stop, |delivery| self.take(delivery)).await;
        Ok(())
    }

    async fn take(&self, delivery: Delivery) -> Verdict {
        let alert = match serde_json::from_slice::<Alert>(&delivery.payload) {
            Ok(alert) if delivery.subject.split('.').nth(2) == Some(alert.account.as_str()) => alert,
            _ => {
                // It stays in the stream, for whoever wants to see it. What it says may be somebody's name.
                error!(sequence = %delivery.sequence, "alert {} cannot be read, nobody is told of it", delivery.sequence);
                self.metrics.count_error("notify", "unreadable_alert");
                return Verdict::Done;
            }
        };
        match self.enqueue(&alert, &delivery.payload).await {
            Ok(()) => Verdict::Done,
            Err(error) => {
                warn!(sequence = %delivery.sequence, "cannot take alert {}, trying again: {error}", delivery.sequence);
                self.metrics.count_error("notify", "enqueue");
                Verdict::Again(PATIENCE)
            }
        }
    }

    async fn enqueue(&self, alert: &Alert, body: &[u8]) -> Result<(), StoreError> {
        let channels = self.store.list_channels(&alert.account).await?;
        let takers: Vec<Uuid> =
            channels.iter().filter(|channel| takes(&channel.settings, alert)).map(|channel| channel.id).collect();
        if takers.is_empty() {
            return Ok(());
        }
        let customer = alert.customer_id.as_deref().and_then(|id| CustomerId::parse(id).ok());
        let token = customer.as_ref().map(subject::encode);
        let new = NewDelivery {
            account: &alert.account,
            alert_id: &alert.id,
            token: token.as_ref().map(subject::Token::as_str),
            body,
            is_test: false,
            at: (self.now)(),
        };
        if !self.store.enqueue_alert(&new, &takers).await?.is_empty() {
            self.came.notify_one();
        }
        Ok(())
    }
}

/// Whether a channel takes an alert. What is about the account concerns everybody.
fn takes(settings: &Settings, alert: &Alert) -> bool {
    if alert.customer_id.is_none() {
        return true;
    }
    let of_level = alert.level.max(alert.previous_level) >= settings.minimum_level;
    let of_money = settings.minimum_mrr.is_none_or(|least| alert.mrr.is_some_and(|mrr| mrr.minor >= least));
    of_level && of_money
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        engine::checkpoint::Level,
        notify::sample::{Sample, notice},
    };

    fn alert(sample: Sample) -> Alert {
        notice(sample).alerts.remove(0).alert
    }

    #[test]
    fn a_channel_takes_what_is_high_enough_before_or_after_and_worth_it() {
        let (raised, lowered, anomaly) = (alert(Sample::Raised), alert(Sample::Lowered), alert(Sample::Anomaly));
        for (level, mrr, expected) in [
            (Level::Low, None, [true, true, true]),
            (Level::High, None, [true, true, true]),
            (Level::High, Some(4_900), [true, true, true]),
            (Level::High, Some(4_901), [true, false, true]),
            (Level::Low, Some(120_001), [false, false, true]),
        ] {
            let settings = Settings { minimum_level: level, minimum_mrr: mrr, ..Settings::default() };
            assert_eq!([&raised, &lowered, &anomaly].map(|alert| takes(&settings, alert)), expected, "{settings:?}");
        }
        let high = Settings { minimum_level: Level::High, ..Settings::default() };
        let small = Alert { level: Level::Medium, previous_level: Level::Low, ..raised.clone() };
        assert!(!takes(&high, &small));
        let unknown = Alert { mrr: None, ..raised };
        assert!(!takes(&Settings { minimum_mrr: Some(1), ..Settings::default() }, &unknown));
    }
}
