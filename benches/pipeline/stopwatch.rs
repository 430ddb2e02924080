//! From an event that raises its customer's level to the alert that says so.

use std::{collections::HashMap, time::Instant};

use anyhow::Context as _;
use async_nats::Subscriber;
use futures_util::StreamExt as _;
use hdrhistogram::Histogram;

use super::{
    load::{event_now, token},
    site::Site,
};

/// Times alerts of customers who each fail to pay once.
pub(crate) struct Stopwatch {
    alerts: Subscriber,
    sent: HashMap<String, Instant>,
    micros: Histogram<u64>,
}

impl Stopwatch {
    /// Hears the alerts from now on.
    pub(crate) async fn start(site: &Site) -> anyhow::Result<Self> {
        let alerts = site.client.subscribe("churn.alerts.>").await?;
        Ok(Self { alerts, sent: HashMap::new(), micros: Histogram::new(3)? })
    }

    /// Has a customer fail to pay.
    pub(crate) async fn send(&mut self, site: &Site, customer: usize, id: &str) -> anyhow::Result<()> {
        let event = event_now("payment_failed", customer, id);
        self.sent.insert(token(customer), Instant::now());
        Ok(site.client.publish(event.subject, event.payload).await?)
    }

    /// Waits for the next alert.
    pub(crate) async fn hear(&mut self) -> anyhow::Result<()> {
        let alert = self.alerts.next().await.context("the subscription ended")?;
        let customer = alert.subject.split('.').nth(4).unwrap_or_default();
        if let Some(published) = self.sent.remove(customer) {
            self.micros.record(u64::try_from(published.elapsed().as_micros())?)?;
        }
        Ok(())
    }

    /// Events whose alerts have not come.
    pub(crate) fn waiting(&self) -> usize {
        self.sent.len()
    }

    /// How long alerts took, in milliseconds.
    pub(crate) fn millis(&self, quantile: f64) -> f64 {
        self.micros.value_at_quantile(quantile) as f64 / 1_000.0
    }
}
