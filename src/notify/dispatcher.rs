//! The dispatcher: sends what waits in the table, each channel by itself, and writes down what came of it.
//!
//! A channel is claimed while it is worked on, so its messages go one after the other, of all instances. Channels where nothing
//! arrives take half of the places at the most: however many hang, the others go on. After a failure the whole channel waits,
//! then the message that was tried least is tried first, so that neither an outage nor one odd message holds up the rest.
//!
//! Nothing here asks a clock: the instant comes in with each turn.

use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};
use uuid::Uuid;

use super::{
    alert::Alert,
    message::{Notice, Told},
    plan::{HOUR_MILLIS, Message, plan},
    retry::{self, MOST_FOR_CHANNEL, MOST_FOR_MESSAGE},
    send::{Failure, Receipt},
    sender::Sender,
    settings::NotifyConfig,
};
use crate::{
    engine::{alert::AlertKind, checkpoint::Level},
    event::{ids::CustomerId, time::Timestamp},
    store::{
        Store, StoreError,
        channels::{Channel, ChannelKind, Target, Templates},
        lanes::{KeyedRow, Outcome, WaitingRow},
    },
    telemetry::metrics::{ChannelLabel, DeliveryLabels, Metrics},
};

/// How long a claim lasts after each message: longer than any try.
const CLAIM: Duration = Duration::from_secs(300);
/// How often the table is looked at: other instances and commands write to it too.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Deliveries of a channel that are planned at once.
const PLANNED: usize = 5_000;
/// Messages of a channel that are sent before others get its place.
const IN_A_ROW: usize = 50;

/// Who brings a message to its target.
pub trait Deliver: Send + Sync + 'static {
    /// One try.
    fn send(
        &self,
        target: &Target,
        templates: &Templates,
        notice: &Notice,
        replaces: Option<&str>,
    ) -> impl Future<Output = Result<Receipt, Failure>> + Send;
}

impl Deliver for Sender {
    async fn send(
        &self,
        target: &Target,
        templates: &Templates,
        notice: &Notice,
        replaces: Option<&str>,
    ) -> Result<Receipt, Failure> {
        Self::send(self, target, templates, notice, replaces).await
    }
}

/// What a dispatcher works with.
pub struct Parts<D> {
    /// Where deliveries wait.
    pub store: Store,
    /// Who sends.
    pub deliver: D,
    /// What is counted.
    pub metrics: Metrics,
    /// The settings under `[notify]`.
    pub config: NotifyConfig,
    /// After how long a try counts as hanging.
    pub patience: Duration,
    /// Companies' names are stored, and told.
    pub store_contact: bool,
}

/// Sends what waits.
pub struct Dispatcher<D> {
    parts: Parts<D>,
    me: Uuid,
    random: RandomState,
    stop: CancellationToken,
}

/// What came of a message.
enum Sent {
    /// The next one can be tried.
    Next,
    /// Nothing more of the channel for now.
    Enough,
}

impl<D: Deliver> Dispatcher<D> {
    /// A dispatcher that takes up nothing new once `stop` is cancelled.
    pub fn new(parts: Parts<D>, stop: CancellationToken) -> Self {
        Self { parts, me: Uuid::new_v4(), random: RandomState::new(), stop }
    }

    /// Does everything that is due at an instant.
    pub async fn turn(&self, now: Timestamp) -> Result<(), StoreError> {
        loop {
            let lanes = self.claim(now, &HashSet::new(), 0).await?;
            if lanes.is_empty() {
                return Ok(());
            }
            let mut working: FuturesUnordered<_> = lanes.into_iter().map(|channel| self.work(channel, now)).collect();
            while let Some(worked) = working.next().await {
                worked?;
            }
        }
    }

    /// Sends what is due, whenever something is, until `stop`; then finishes the messages that are being sent.
    pub async fn run(self, now: Arc<dyn Fn() -> Timestamp + Send + Sync>, came: Arc<Notify>) -> anyhow::Result<()> {
        let mut working = FuturesUnordered::new();
        let (mut busy, mut failing): (HashSet<Uuid>, usize) = (HashSet::new(), 0);
        let mut wait = Duration::ZERO;
        while !self.stop.is_cancelled() {
            tokio::select! {
                Some((id, was_failing)) = working.next() => {
                    busy.remove(&id);
                    failing -= usize::from(was_failing);
                }
                () = came.notified() => {}
                () = tokio::time::sleep(wait) => {}
                () = self.stop.cancelled() => break,
            }
            match self.claim(now(), &busy, failing).await {
                Ok(lanes) => {
                    for channel in lanes {
                        let (id, was_failing) = (channel.id, channel.failing_since.is_some());
                        busy.insert(id);
                        failing += usize::from(was_failing);
                        let (dispatcher, at) = (&self, now());
                        working.push(async move {
                            if let Err(error) = dispatcher.work(channel, at).await {
                                debug!(channel.id = %id, "cannot go on with a channel, trying again: {error}");
                            }
                            (id, was_failing)
                        });
                    }
                    wait = self.until_due(now()).await;
                }
                Err(error) => {
                    debug!("cannot look at the deliveries, trying again: {error}");
                    wait = LOOK_EVERY;
                }
            }
        }
        while working.next().await.is_some() {}
        Ok(())
    }

    async fn until_due(&self, now: Timestamp) -> Duration {
        const LEAST: Duration = Duration::from_millis(50);
        let due = self.parts.store.next_delivery_due().await.ok().flatten();
        let millis = due.map_or(i64::MAX, |due| due.millis_since(now)).max(0).unsigned_abs();
        Duration::from_millis(millis).clamp(LEAST, LOOK_EVERY)
    }

    async fn claim(&self, now: Timestamp, busy: &HashSet<Uuid>, failing: usize) -> Result<Vec<Channel>, StoreError> {
        let (store, at_once) = (&self.parts.store, self.parts.config.at_once);
        let besides: Vec<Uuid> = busy.iter().copied().collect();
        let free = at_once.saturating_sub(busy.len());
        if free == 0 || self.stop.is_cancelled() {
            return Ok(Vec::new());
        }
        let mut lanes = store.claim_lanes(self.me, CLAIM, now, false, free, &besides).await?;
        let left = (free - lanes.len()).min((at_once / 2).max(1).saturating_sub(failing));
        if left > 0 {
            lanes.extend(store.claim_lanes(self.me, CLAIM, now, true, left, &besides).await?);
        }
        Ok(lanes)
    }

    /// Works on a claimed channel and gives it back.
    async fn work(&self, channel: Channel, now: Timestamp) -> Result<(), StoreError> {
        let id = channel.id;
        let worked = self.send_due(&channel, now).await;
        // A claim that cannot be given back runs out.
        if let Err(error) = self.parts.store.release_lane(self.me, id).await {
            debug!(channel.id = %id, "cannot give a channel back: {error}");
        }
        worked
    }

    async fn send_due(&self, channel: &Channel, now: Timestamp) -> Result<(), StoreError> {
        let (store, mut count) = (&self.parts.store, 0);
        let mut failing = channel.failing_since.is_some();
        loop {
            let mut waiting = store.waiting(channel.id, PLANNED).await?;
            waiting.retain(|row| channel.paused.is_none() || row.is_test);
            let sent = store.sent_since(channel.id, now.plus_millis(-HOUR_MILLIS)).await?;
            let planned = plan(&channel.settings, &waiting, &sent, now);
            for hold in &planned.hold {
                store.hold(channel.id, &hold.rows, hold.until, hold.reason).await?;
            }
            if planned.send.is_empty() {
                return Ok(());
            }
            let mut messages = planned.send;
            if failing {
                // What was never tried tells best whether the channel works again.
                messages.sort_by_key(|message| message.key.is_some());
            }
            for message in messages {
                if count == IN_A_ROW || self.stop.is_cancelled() {
                    return Ok(());
                }
                count += 1;
                match self.send(channel, message, &waiting, now).await? {
                    Sent::Enough => return Ok(()),
                    Sent::Next if failing => {
                        failing = false;
                        break;
                    }
                    Sent::Next => {}
                }
            }
        }
    }

    async fn send(
        &self,
        channel: &Channel,
        message: Message,
        waiting: &[WaitingRow],
        now: Timestamp,
    ) -> Result<Sent, StoreError> {
        let store = &self.parts.store;
        let Some(paused) = store.keep_lane(self.me, channel.id, CLAIM).await? else { return Ok(Sent::Enough) };
        if paused && channel.paused.is_none() {
            return Ok(Sent::Enough);
        }
        let key = match (message.key, message.rows.as_slice()) {
            (Some(key), _) => key,
            (None, [one]) => {
                waiting.iter().find(|row| row.id == *one).map(|row| row.alert_id.clone()).unwrap_or_default()
            }
            (None, _) => format!("digest-{}", Uuid::new_v4()),
        };
        let rows = store.begin_message(self.me, channel.id, &key, &message.rows, now).await?;
        // They were erased meanwhile, or are another's.
        let Some(first) = rows.first() else { return Ok(Sent::Next) };
        let alerts = self.told(channel, &rows).await?;
        if alerts.is_empty() {
            let error = "the alert cannot be read";
            store.record_try(self.me, channel.id, &key, now, Outcome::Refused { error }).await?;
            return Ok(Sent::Next);
        }
        let replaces = self.replaces(channel, &rows).await?;
        let notice = Notice { key, alerts };
        let begun = Instant::now();
        let attempt = self.parts.deliver.send(&channel.target, &channel.templates, &notice, replaces.as_deref());
        let limit = self.parts.patience;
        let result = tokio::time::timeout(limit, attempt).await.unwrap_or_else(|_| {
            Err(Failure::Again { reason: format!("no answer within {} s", limit.as_secs()), after: None })
        });
        let kind = channel.kind().as_str();
        let took = begun.elapsed().as_secs_f64();
        self.parts.metrics.delivery_duration_seconds.get_or_create(&ChannelLabel { channel: kind }).observe(took);
        // A test tells its result at once, whatever it is.
        let result = match result {
            Err(Failure::Again { reason, .. } | Failure::Gone { reason }) if first.is_test => {
                Err(Failure::Refused { reason })
            }
            result => result,
        };
        self.record(channel, &notice.key, first, result, now).await
    }

    async fn record(
        &self,
        channel: &Channel,
        key: &str,
        first: &KeyedRow,
        result: Result<Receipt, Failure>,
        now: Timestamp,
    ) -> Result<Sent, StoreError> {
        let (store, kind) = (&self.parts.store, channel.kind().as_str());
        let attempt = |result| {
            self.parts.metrics.delivery_attempts.get_or_create(&DeliveryLabels { channel: kind, result }).inc();
        };
        let ended = |result, count: usize| {
            let label = DeliveryLabels { channel: kind, result };
            self.parts.metrics.deliveries.get_or_create(&label).inc_by(count as u64);
        };
        match result {
            Ok(receipt) => {
                attempt("delivered");
                let reference = receipt.reference.as_deref();
                let outcome = Outcome::Delivered { reference };
                ended("delivered", store.record_try(self.me, channel.id, key, now, outcome).await?);
                // Several failures in a row were the channel's, not a message's: whatever they hit may go now.
                if channel.failures >= 2 {
                    info!(channel.id = %channel.id, account = %channel.account, "a {kind} channel works again");
                    store.heal_lane(channel.id, now).await?;
                }
                Ok(Sent::Next)
            }
            Err(Failure::Again { reason, after }) => {
                attempt("again");
                let patience = self.parts.config.pause_after();
                let expired = |since: Timestamp| now.millis_since(since) >= millis(patience);
                if expired(first.first_attempt_at) && !channel.failing_since.is_some_and(expired) {
                    // The channel works, only this message does not.
                    let error = format!("given up: {reason}");
                    let outcome = Outcome::Refused { error: &error };
                    ended("refused", store.record_try(self.me, channel.id, key, now, outcome).await?);
                    return Ok(Sent::Next);
                }
                let wait = |failures: u32, most| now.plus(retry::wait(failures, self.random(), most, after));
                let outcome = Outcome::Again {
                    error: &reason,
                    message_at: wait(first.attempts + 1, MOST_FOR_MESSAGE),
                    channel_at: wait(channel.failures + 1, MOST_FOR_CHANNEL),
                };
                store.record_try(self.me, channel.id, key, now, outcome).await?;
                warn!(channel.id = %channel.id, account = %channel.account, "a {kind} channel takes nothing now, trying again: {reason}");
                if channel.failing_since.is_some_and(expired) {
                    let hours = patience.as_secs() / 3_600;
                    self.pause(channel, key, &format!("nothing arrived for {hours} h: {reason}"), now).await?;
                }
                Ok(Sent::Enough)
            }
            Err(Failure::Refused { reason }) => {
                attempt("refused");
                let outcome = Outcome::Refused { error: &reason };
                ended("refused", store.record_try(self.me, channel.id, key, now, outcome).await?);
                warn!(channel.id = %channel.id, account = %channel.account, "a {kind} channel refused a message: {reason}");
                Ok(Sent::Next)
            }
            Err(Failure::Gone { reason }) => {
                attempt("gone");
                self.pause(channel, key, &reason, now).await?;
                Ok(Sent::Enough)
            }
        }
    }

    async fn pause(&self, channel: &Channel, key: &str, reason: &str, now: Timestamp) -> Result<(), StoreError> {
        let outcome = Outcome::Gone { error: reason };
        self.parts.store.record_try(self.me, channel.id, key, now, outcome).await?;
        error!(
            channel.id = %channel.id, account = %channel.account,
            "paused a {} channel, its alerts wait for `churnd channel resume`: {reason}", channel.kind()
        );
        Ok(())
    }

    /// The alerts of rows, with what else may be told of their customers.
    async fn told(&self, channel: &Channel, rows: &[KeyedRow]) -> Result<Vec<Told>, StoreError> {
        let mut told = Vec::with_capacity(rows.len());
        for row in rows {
            let Ok(alert) = serde_json::from_slice::<Alert>(&row.body) else {
                self.parts.metrics.count_error("notify", "unreadable_alert");
                continue;
            };
            let customer = alert.customer_id.as_deref().filter(|_| self.parts.store_contact && row.token.is_some());
            let company = match customer.and_then(|id| CustomerId::parse(id).ok()) {
                Some(id) => {
                    self.parts.store.profile(&channel.account, &id).await?.and_then(|who| who.contact.company_name)
                }
                None => None,
            };
            told.push(Told { alert, company });
        }
        Ok(told)
    }

    /// The message about the same customer that a single one takes the place of, while its risk goes on.
    async fn replaces(&self, channel: &Channel, rows: &[KeyedRow]) -> Result<Option<String>, StoreError> {
        let ([row], ChannelKind::Slack) = (rows, channel.kind()) else { return Ok(None) };
        let Some(token) = &row.token else { return Ok(None) };
        let last = self.parts.store.last_message(channel, token).await?;
        Ok(last.filter(|last| !last.key.starts_with("digest-") && goes_on(&last.body)).and_then(|last| last.reference))
    }

    fn random(&self) -> f64 {
        let bits = self.random.hash_one(Uuid::new_v4()) >> 11;
        bits as f64 / (1_u64 << 53) as f64
    }
}

/// Whether what an alert told of goes on after it.
fn goes_on(body: &[u8]) -> bool {
    serde_json::from_slice::<Alert>(body)
        .is_ok_and(|alert| alert.level != Level::Low && alert.kind != AlertKind::CustomerRecovered)
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}
