//! What is measured by looking now and then: connections, consumers, and what piles up in tables.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use async_nats::{Client, connection::State};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::{
    event::time::Timestamp,
    store::{Store, channels::ChannelKind},
    stream::reader::{ReaderCounters, Reseek},
    telemetry::metrics::{ChannelLabel, Metrics, ReasonLabel},
};

const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How often what is done with is removed from the tables.
const CLEAN_EVERY: u64 = 1_800;
const CLEAN_AT_ONCE: usize = 10_000;
const DAY_MILLIS: i64 = 86_400_000;
/// How long published messages and alerts that were kept back can be looked up.
const OUTBOX_DAYS: i64 = 180;
/// A dispute can come this long after its charge.
const CHARGE_DAYS: i64 = 400;

/// Looks, and sets gauges.
pub(super) struct Gauges {
    metrics: Metrics,
    readers: Arc<ReaderCounters>,
    clients: [Client; 2],
    reseeks: [u64; Reseek::ALL.len()],
    connects: u64,
}

impl Gauges {
    pub(super) fn new(metrics: Metrics, readers: Arc<ReaderCounters>, clients: [&Client; 2]) -> Self {
        let clients = clients.map(Clone::clone);
        let connects = connects(&clients);
        Self { metrics, readers, clients, reseeks: [0; Reseek::ALL.len()], connects }
    }

    pub(super) async fn run(
        mut self,
        store: Store,
        now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        let mut every = tokio::time::interval(LOOK_EVERY);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut looks = 0_u64;
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                _ = every.tick() => {}
            }
            self.look();
            self.look_at_deliveries(&store, now()).await;
            if looks % CLEAN_EVERY == CLEAN_EVERY / 2 {
                clean(&store, now()).await;
            }
            looks += 1;
        }
    }

    /// What waits of all accounts, and where nothing is sent. Each instance shows the same.
    async fn look_at_deliveries(&self, store: &Store, now: Timestamp) {
        let (backlog, troubled) = match (store.delivery_backlog().await, store.troubled_channels().await) {
            (Ok(backlog), Ok(troubled)) => (backlog, troubled),
            (Err(error), _) | (_, Err(error)) => return debug!("cannot look at the deliveries: {error}"),
        };
        self.metrics.deliveries_pending.set(i64::try_from(backlog.pending).unwrap_or(i64::MAX));
        let age = backlog.oldest.map(|oldest| Duration::from_millis(now.millis_since(oldest).max(0).unsigned_abs()));
        self.metrics.delivery_oldest_age_seconds.waits_since(age.and_then(|age| Instant::now().checked_sub(age)));
        for kind in ChannelKind::ALL {
            let paused = troubled.iter().filter(|channel| channel.kind() == kind && channel.is_paused_by_us()).count();
            let label = ChannelLabel { channel: kind.as_str() };
            self.metrics.channels_paused.get_or_create(&label).set(i64::try_from(paused).unwrap_or(i64::MAX));
        }
    }

    fn look(&mut self) {
        let connected = self.clients.iter().all(|client| client.connection_state() == State::Connected);
        self.metrics.nats_connected.set(connected.into());
        let connects = connects(&self.clients);
        self.metrics.nats_reconnects.inc_by(connects - self.connects);
        self.connects = connects;
        for (reason, counted) in Reseek::ALL.into_iter().zip(&mut self.reseeks) {
            let now = self.readers.reseeks(reason);
            if now > *counted {
                let label = ReasonLabel { reason: reason.as_str() };
                self.metrics.consumer_recreated.get_or_create(&label).inc_by(now - *counted);
                if reason == Reseek::MissingHeartbeat {
                    self.metrics.consumer_heartbeats_missed.inc_by(now - *counted);
                }
                *counted = now;
            }
        }
    }
}

fn connects(clients: &[Client; 2]) -> u64 {
    clients.iter().map(|client| client.statistics().connects.load(Ordering::Relaxed)).sum()
}

async fn clean(store: &Store, now: Timestamp) {
    let outbox = store.prune_outbox(now.plus_millis(-OUTBOX_DAYS * DAY_MILLIS), CLEAN_AT_ONCE).await;
    let deliveries = store.prune_deliveries(now.plus_millis(-OUTBOX_DAYS * DAY_MILLIS), CLEAN_AT_ONCE).await;
    let charges = store.prune_charges(now.plus_millis(-CHARGE_DAYS * DAY_MILLIS)).await;
    if let Err(error) = outbox.and(deliveries).map(|_| ()).and(charges) {
        debug!("cannot remove what is done with, trying again later: {error}");
    }
}
