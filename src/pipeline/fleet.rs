//! The fleet guard at work: judges each account's volume, remembers when events did not come, and has it told once.
//!
//! Every instance judges every account by what all of them counted; the table lets one of them tell. A judgement is made
//! as of an instant up to which everything is known to be counted: the stream's end was asked for then, and every
//! partition's watermark has passed it since. While that takes its time, the last judgement stands.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::outbox::OutboxSender;
use crate::{
    engine::{
        alert::AlertKind,
        checkpoint::Level,
        fleet::{
            self, ACCOUNT_TOKEN, Judgement, Outage, Outages, Policy, SLOTS_KEPT, Volume, slot_of, slots_compared,
            slots_now,
        },
    },
    event::{
        ids::{AccountId, PartitionId, StreamSequence},
        subject,
        time::Timestamp,
    },
    store::{
        Store,
        fleet::{Guard, NewGuard},
    },
    stream::{EVENTS, erase::last_sequence, publisher::Publisher},
    telemetry::metrics::{AlertLabels, Metrics},
};

/// How often the volumes are judged.
const JUDGE_EVERY: Duration = Duration::from_secs(10);
/// How often it is tried until there is a first judgement: silence waits for it.
const FIRST_JUDGE_EVERY: Duration = Duration::from_millis(250);
/// Rounds after which old volumes are removed: an hour of them.
const ROUNDS_TO_CLEAN: u64 = 360;
const CLEAN_AT_ONCE: usize = 10_000;
const DAY_MILLIS: i64 = 86_400_000;
/// How long after its end an outage is reckoned with.
const RECKONED_DAYS: i64 = 90;
/// How long after their end guards can be looked up.
const GUARD_DAYS: i64 = 180;

/// What is known of outages.
#[derive(Clone, Debug, Default)]
pub struct Fleet {
    /// The outages that evaluations reckon with.
    pub outages: Arc<Outages>,
    /// The volumes were judged at least once since the start, or need not be.
    pub judged: bool,
}

/// An instant, and the stream's end as it was then or a little later.
struct Mark {
    at: Timestamp,
    last: StreamSequence,
}

/// What came on the days that volumes are compared with: the same for as long as slot and guards are.
struct Days {
    slot: i64,
    guards: Vec<Guard>,
    volumes: BTreeMap<AccountId, Volume>,
}

/// Judges the accounts' volumes.
pub struct FleetGuard {
    store: Store,
    publisher: Publisher,
    metrics: Metrics,
    now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    outbox: OutboxSender,
    /// How many there were at the last look: any of them may publish what is told.
    partitions: u16,
    policy: Policy,
    fleet: watch::Sender<Fleet>,
    mark: Option<Mark>,
    days: Option<Days>,
}

impl FleetGuard {
    /// A guard that knows the outages which the table holds.
    pub async fn open(
        store: Store,
        publisher: Publisher,
        metrics: Metrics,
        now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
        outbox: OutboxSender,
        policy: Policy,
    ) -> anyhow::Result<Self> {
        let fleet = watch::Sender::default();
        let guard =
            Self { store, publisher, metrics, now, outbox, partitions: 1, policy, fleet, mark: None, days: None };
        guard.load().await?;
        Ok(guard)
    }

    /// Where outages are heard of.
    pub fn subscribe(&self) -> watch::Receiver<Fleet> {
        self.fleet.subscribe()
    }

    /// Judges until `stop`.
    pub async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        let (mut rounds, mut failing) = (0_u64, false);
        loop {
            let outcome = self.round().await;
            if let Err(error) = &outcome {
                self.metrics.count_error("fleet", "judge");
                if !failing {
                    warn!("cannot judge the accounts' volumes, trying again; the last judgements stand: {error:#}");
                }
            }
            failing = outcome.is_err();
            if rounds % ROUNDS_TO_CLEAN == ROUNDS_TO_CLEAN / 2 {
                self.clean().await;
            }
            rounds += 1;
            let pause = if self.fleet.borrow().judged { JUDGE_EVERY } else { FIRST_JUDGE_EVERY };
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn round(&mut self) -> anyhow::Result<()> {
        let guards = self.load().await?;
        let mark = match self.mark.take() {
            Some(mark) => mark,
            None => Mark { at: (self.now)(), last: last_sequence(self.publisher.context(), EVENTS).await? },
        };
        let low = self.store.low_watermark().await?;
        self.partitions = u16::try_from(low.partitions).unwrap_or(1);
        if low.partitions == 0 || low.watermark < mark.last {
            self.mark = Some(mark);
            return Ok(());
        }
        if self.judge(mark.at, &guards).await? {
            self.load().await?;
        }
        self.fleet.send_if_modified(|fleet| !std::mem::replace(&mut fleet.judged, true));
        Ok(())
    }

    /// Reads the guards; evaluations hear of it if they changed.
    async fn load(&self) -> anyhow::Result<Vec<Guard>> {
        let guards = self.store.guards((self.now)().plus_millis(-RECKONED_DAYS * DAY_MILLIS)).await?;
        let mut outages = Outages::default();
        for guard in &guards {
            outages.add(&guard.account, guard.outage);
        }
        self.metrics.accounts_guarded.set(i64::try_from(outages.open()).unwrap_or(i64::MAX));
        self.fleet.send_if_modified(|fleet| {
            let changed = *fleet.outages != outages;
            if changed {
                fleet.outages = Arc::new(outages);
            }
            changed
        });
        Ok(guards)
    }

    /// Judges every account as of `now`; says whether anything was found, be it that another instance told first: then the
    /// guards in the table are others than these.
    async fn judge(&mut self, now: Timestamp, guards: &[Guard]) -> anyhow::Result<bool> {
        let fits = |days: &Days| days.slot == slot_of(now) && days.guards == guards;
        let days = match self.days.take().filter(fits) {
            Some(days) => days,
            None => self.load_days(now, guards).await?,
        };
        let wanted: Vec<_> = days.volumes.keys().map(|account| (account, slots_now(now))).collect();
        let mut current = self.store.volumes(&wanted).await?;
        let mut found = false;
        for (account, compared) in &days.volumes {
            let mut volume = current.remove(account).unwrap_or_default();
            volume.first = compared.first;
            volume.slots.extend(&compared.slots);
            let of_account = || guards.iter().filter(|guard| guard.account == *account);
            let outages: Vec<Outage> = of_account().map(|guard| guard.outage).collect();
            let open = of_account().find(|guard| guard.outage.until.is_none());
            let judgement = fleet::assess(&volume, &outages, self.policy, now);
            found |= judgement != Judgement::AsBefore;
            self.act(account, judgement, open, now).await?;
        }
        self.days = Some(days);
        if found {
            self.outbox.look();
        }
        Ok(found)
    }

    async fn load_days(&self, now: Timestamp, guards: &[Guard]) -> anyhow::Result<Days> {
        let firsts = self.store.first_slots().await?;
        let mut outages: BTreeMap<&AccountId, Vec<Outage>> =
            firsts.keys().map(|account| (account, Vec::new())).collect();
        for guard in guards {
            outages.entry(&guard.account).or_default().push(guard.outage);
        }
        let wanted: Vec<_> = outages
            .iter()
            .flat_map(|(account, outages)| slots_compared(outages, now).into_iter().map(move |slots| (*account, slots)))
            .collect();
        let mut found = self.store.volumes(&wanted).await?;
        let volumes = outages.keys().map(|account| {
            let first = firsts.get(*account).copied();
            let slots = found.remove(*account).unwrap_or_default().slots;
            ((*account).clone(), Volume { first, slots })
        });
        Ok(Days { slot: slot_of(now), guards: guards.to_vec(), volumes: volumes.collect() })
    }

    /// Stores what follows from a judgement, unless nothing does or another instance was faster.
    async fn act(
        &self,
        account: &AccountId,
        judgement: Judgement,
        open: Option<&Guard>,
        now: Timestamp,
    ) -> anyhow::Result<()> {
        let partition: PartitionId = subject::partition_of(account.as_str(), ACCOUNT_TOKEN, self.partitions);
        let since = match judgement {
            Judgement::AsBefore => return Ok(()),
            Judgement::Collapsed { since, .. } => since,
            Judgement::Returned { .. } => open.map_or(now, |guard| guard.outage.from),
        };
        let Some((alert_id, row)) = fleet::alert(account, judgement, since, now) else { return Ok(()) };
        let level = match (judgement, open) {
            (Judgement::Collapsed { since, expected, seen }, None) => {
                let new = NewGuard { account, since, noticed_at: now, expected, seen, alert_id: &alert_id };
                if !self.store.set_guard(&new, partition, &row).await? {
                    return Ok(());
                }
                warn!(
                    account = %account, seen, expected, since = %since,
                    "events of account {account} fell to {seen}, usually about {expected}: its tracking may be broken, \
                     so alerts about missing logins and usage are held back"
                );
                Level::High
            }
            (Judgement::Returned { expected, seen }, Some(guard)) => {
                if !self.store.release_guard(guard.id, now, partition, &row).await? {
                    return Ok(());
                }
                info!(account = %account, seen, expected, since = %since, "events of account {account} are back");
                Level::Low
            }
            _ => return Ok(()),
        };
        let labels = AlertLabels { kind: AlertKind::IngestAnomaly.as_str(), level: level.as_str() };
        self.metrics.alerts.get_or_create(&labels).inc();
        Ok(())
    }

    async fn clean(&self) {
        let now = (self.now)();
        let released = now.plus_millis(-GUARD_DAYS * DAY_MILLIS);
        if let Err(error) = self.store.prune_volumes(slot_of(now) - SLOTS_KEPT, released, CLEAN_AT_ONCE).await {
            debug!("cannot remove old volumes, trying again later: {error}");
        }
    }
}
