//! The eraser: works off the erasures that were asked for, step by step, on whichever instance claims them.
//!
//! First the owners of the partitions forget the customer (see `worker::forget`). Then every message of it is overwritten and
//! every row deleted; after a while once more, for what was still on its way: a publish is tried for half a minute. When
//! nothing was found any more, the bucket is written anew, because the server keeps replaced entries, and the erasure
//! ends. Each step may be done twice; what is not known to be done is done again. Log lines name erasures, never customers.
//!
//! Of the event stream only what every partition has accounted for is erased here. The rest is the workers' to refuse, so
//! that no reader finds a hole where it expects messages, and every message is counted once.

mod names;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use async_nats::jetstream::Context;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use uuid::Uuid;

use self::names::Names;
use super::normalizer::CONSUMER;
use crate::{
    event::{
        ids::{AccountId, StreamSequence},
        subject::{dead_subject, parse_partitioned},
        time::Timestamp,
    },
    store::{
        Store, StoreError,
        erasure::{Erased, ErasureJob, ErasureState, OpenErasures, StreamEnds},
    },
    stream::{
        ALERTS, DEAD, EVENTS, RISK_STREAM, StreamError, WEBHOOKS, dead,
        erase::{self, Place},
        publisher::{Outgoing, PublishError, Publisher},
        reader::RawMessage,
        risk_kv::RiskValue,
    },
    telemetry::metrics::Metrics,
};

/// How often erasures are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// For how long an erasure is claimed; whoever works on it keeps renewing that.
const CLAIM: Duration = Duration::from_secs(10);
/// Erasures that are worked on together: they share the search of an account's webhooks, and the writing of the bucket.
const AT_ONCE: usize = 100;
/// Late events that are overwritten at a time.
const UNWANTED_AT_ONCE: usize = 200;
/// When something that cannot be done yet is tried again.
const AGAIN_AFTER: Duration = Duration::from_millis(500);
/// Customers whose scores are put into a swept bucket at a time.
const SCORES_AT_ONCE: usize = 5_000;

/// Works erasures off.
#[derive(Clone)]
pub struct Eraser {
    /// Postgres.
    pub store: Store,
    /// JetStream.
    pub publisher: Publisher,
    /// What is counted.
    pub metrics: Metrics,
    /// The time.
    pub now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// How long after everything was erased it is looked for again.
    pub settle: Duration,
}

/// Why a step was not done.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Stream(#[from] StreamError),
    #[error("the bucket cannot be filled again now: {}", .0.reason())]
    Bucket(PublishError),
}

/// What a look through everything found of a customer.
#[derive(Clone, Copy, Debug, Default)]
struct Pass {
    erased: Erased,
    /// Something is left that is not to be erased yet.
    more: bool,
}

/// An account's messages whose subjects do not tell whom they name, by whom they do.
#[derive(Default)]
struct Mentions {
    webhooks: Vec<(usize, StreamSequence)>,
    letters: Vec<(usize, StreamSequence)>,
    /// Events that are in those letters.
    events: Vec<(usize, StreamSequence)>,
}

impl Eraser {
    /// Works until `stop`.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                _ = look.tick() => {}
            }
            let open = self.count().await;
            if open == OpenErasures::default() {
                continue;
            }
            let worked = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                worked = self.work(open) => worked,
            };
            if let Err(error) = worked {
                warn!("cannot go on erasing, trying again: {:#}", anyhow::Error::new(error));
                self.metrics.count_error("erasure", "unavailable");
            }
        }
    }

    /// Shows how many erasures are open.
    async fn count(&self) -> OpenErasures {
        match self.store.open_erasures().await {
            Ok(open) => {
                let age = open.oldest.map_or(0, |oldest| (self.now)().millis_since(oldest)).max(0);
                self.metrics.erasures_open.set(i64::try_from(open.count).unwrap_or(i64::MAX));
                let since = Instant::now().checked_sub(Duration::from_millis(age.unsigned_abs()));
                self.metrics.erasure_oldest_age_seconds.waits_since(since.filter(|_| open.count > 0));
                open
            }
            Err(error) => {
                debug!("cannot count the erasures: {error}");
                OpenErasures::default()
            }
        }
    }

    /// Claims what something can be done about, and does it.
    async fn work(&self, open: OpenErasures) -> Result<(), Failure> {
        if open.has_unwanted {
            self.erase_unwanted().await?;
        }
        // A name of its own for each claim: what a failure left claimed is not kept by the next.
        let me = Uuid::new_v4();
        let jobs = self.store.claim_erasures(me, CLAIM, AT_ONCE).await?;
        if jobs.is_empty() {
            return Ok(());
        }
        // Both go on side by side: the work may hold the very row that the other waits for.
        tokio::select! {
            worked = self.work_on(me, jobs) => worked,
            lost = self.keep(me) => lost,
        }
    }

    /// Renews a claim for as long as that can be done.
    async fn keep(&self, me: Uuid) -> Result<(), Failure> {
        let mut often = tokio::time::interval(CLAIM / 3);
        loop {
            often.tick().await;
            self.store.keep_erasures(me, CLAIM).await?;
        }
    }

    /// Overwrites events that were dropped after their customers were erased.
    async fn erase_unwanted(&self) -> Result<(), Failure> {
        let claimed = self.store.claim_unwanted(CLAIM, UNWANTED_AT_ONCE).await?;
        let found = erase::subjects_of(self.context(), EVENTS, &claimed).await?;
        let customer_of = |subject: &str| parse_partitioned(subject).map(|subject| subject.key.to_owned());
        let customers: BTreeSet<String> = found.iter().filter_map(|(_, subject)| customer_of(subject)).collect();
        let keys: Vec<(&str, &str)> = customers.iter().filter_map(|key| key.split_once('.')).collect();
        let suppressed = self.store.load_customers(&keys).await?.suppressed;
        // In a stream that was created anew, or rolled back, the place may be another's.
        let theirs = found
            .iter()
            .filter(|(_, subject)| customer_of(subject).is_some_and(|key| suppressed.contains(key.as_str())));
        let sequences: Vec<StreamSequence> = theirs.map(|(sequence, _)| *sequence).collect();
        erase::erase_all(self.context(), EVENTS, &sequences).await?;
        Ok(self.store.forget_unwanted(&claimed).await?)
    }

    async fn work_on(&self, me: Uuid, jobs: Vec<ErasureJob>) -> Result<(), Failure> {
        let mut accounts: BTreeMap<AccountId, Vec<ErasureJob>> = BTreeMap::new();
        for job in jobs {
            if self.store.follow_links(&job).await? || job.customers.iter().any(|customer| !customer.settled) {
                self.move_on(me, &job, ErasureState::Waiting, AGAIN_AFTER, Erased::default()).await?;
            } else {
                accounts.entry(job.account.clone()).or_default().push(job);
            }
        }
        let mut clean = Vec::new();
        for (account, jobs) in &accounts {
            clean.extend(self.work_on_account(me, account, jobs).await?);
        }
        if !clean.is_empty() {
            self.store.begin_sweep(me, &clean).await?;
            self.sweep().await?;
            self.store.finish_erasures(me, &clean).await?;
            for id in &clean {
                info!(erasure = %id, "erasure {id} is done: nothing is left of the customer");
            }
        }
        Ok(())
    }

    /// Erases what is there of these customers; gives those of whom nothing was found when it was looked for again.
    async fn work_on_account(&self, me: Uuid, account: &AccountId, jobs: &[ErasureJob]) -> Result<Vec<Uuid>, Failure> {
        let ends = StreamEnds {
            events: erase::last_sequence(self.context(), EVENTS).await?,
            webhooks: erase::last_sequence(self.context(), WEBHOOKS).await?,
        };
        let (mut names, mut charges) = (Names::default(), Vec::new());
        for (place, job) in jobs.iter().enumerate() {
            let of_job = self.store.charges_of(job).await?;
            for customer in &job.customers {
                names.add_id(customer.customer.as_str(), place);
                names.add_id(&customer.token, place);
            }
            of_job.iter().for_each(|charge| names.add_charge(charge, place));
            charges.push(of_job);
        }
        let mentions = self.find_mentions(account, &names).await?;
        let pending = self.store.all_pending(account).await?;
        let mut clean = Vec::new();
        for (place, job) in jobs.iter().enumerate() {
            let ends = self.store.end_erasure_at(me, job.id, ends).await?;
            let disputes = pending.iter().filter(|dispute| names.in_webhook(&dispute.body) == Some(place));
            let disputes: Vec<&str> = disputes.map(|dispute| dispute.event_id.as_str()).collect();
            let mut pass = self.erase_mentions(place, &mentions, ends).await?;
            self.erase_messages(job, ends, &mut pass).await?;
            pass.erased.rows += self.store.erase_rows(job, &charges[place], &disputes).await?.rows;
            let looked_again = matches!(job.state, ErasureState::Checking | ErasureState::Sweeping);
            if pass.more {
                self.move_on(me, job, ErasureState::Erasing, AGAIN_AFTER, pass.erased).await?;
            } else if !looked_again || pass.erased.total() > 0 {
                self.move_on(me, job, ErasureState::Checking, self.settle, pass.erased).await?;
            } else {
                clean.push(job.id);
            }
        }
        Ok(clean)
    }

    async fn move_on(
        &self,
        me: Uuid,
        job: &ErasureJob,
        state: ErasureState,
        pause: Duration,
        erased: Erased,
    ) -> Result<(), Failure> {
        debug!(erasure = %job.id, state = state.as_str(), ?erased, "erasure {} is {}", job.id, state.as_str());
        Ok(self.store.move_erasure_on(me, job.id, state, pause, erased).await?)
    }

    /// Looks through an account's webhooks and dead letters for customers.
    async fn find_mentions(&self, account: &AccountId, names: &Names) -> Result<Mentions, Failure> {
        let mut mentions = Mentions::default();
        let Mentions { webhooks, letters, events } = &mut mentions;
        let see = |message: &RawMessage| {
            webhooks.extend(names.in_webhook(&message.payload).map(|whose| (whose, message.sequence)));
        };
        erase::search(self.context(), Place::Webhooks(account), see).await?;
        let see = |message: &RawMessage| {
            let Some(whose) = names.in_letter(message) else { return };
            letters.push((whose, message.sequence));
            events.extend(dead::original_in(message, EVENTS).map(|sequence| (whose, sequence)));
        };
        erase::search(self.context(), Place::Letters(account), see).await?;
        Ok(mentions)
    }

    async fn erase_mentions(&self, place: usize, mentions: &Mentions, ends: StreamEnds) -> Result<Pass, Failure> {
        let of = |found: &[(usize, StreamSequence)]| {
            found.iter().filter(|(whose, _)| *whose == place).map(|(_, sequence)| *sequence).collect::<Vec<_>>()
        };
        let mut pass = Pass::default();
        // What the normalizer has not done with it will refuse by itself.
        let handled = erase::acknowledged(self.context(), WEBHOOKS, CONSUMER).await?.unwrap_or_default();
        let (webhooks, early): (Vec<_>, Vec<_>) =
            of(&mentions.webhooks).into_iter().partition(|sequence| *sequence <= handled);
        pass.more = early.iter().any(|sequence| *sequence <= ends.webhooks);
        pass.erased.webhooks = erase::erase_all(self.context(), WEBHOOKS, &webhooks).await?;
        pass.erased.events = erase::erase_all(self.context(), EVENTS, &of(&mentions.events)).await?;
        pass.erased.dead_letters = erase::erase_all(self.context(), DEAD, &of(&mentions.letters)).await?;
        Ok(pass)
    }

    /// Erases the messages whose subjects name the customers.
    async fn erase_messages(&self, job: &ErasureJob, ends: StreamEnds, pass: &mut Pass) -> Result<(), Failure> {
        const ALL: StreamSequence = StreamSequence(u64::MAX);
        let read = self.store.read_by_all().await?;
        for customer in &job.customers {
            let (account, token) = (&job.account, &*customer.token);
            let events = format!("churn.p.*.{account}.{token}");
            let (erased, next) = self.erase_subject(EVENTS, &events, read).await?;
            pass.erased.events += erased;
            pass.more |= next.is_some_and(|next| next <= ends.events);
            let alerts = format!("churn.alerts.{account}.*.{token}.*");
            pass.erased.alerts += self.erase_subject(ALERTS, &alerts, ALL).await?.0;
            let letters = dead_subject(account.as_str(), token);
            pass.erased.dead_letters += self.erase_subject(DEAD, &letters, ALL).await?.0;
            let entry = erase::bucket_subject(account, token);
            pass.erased.scores += self.erase_subject(RISK_STREAM, &entry, ALL).await?.0;
        }
        Ok(())
    }

    /// Erases a subject's messages up to a sequence; says how many, and which is the first behind it.
    async fn erase_subject(
        &self,
        stream: &str,
        subject: &str,
        upto: StreamSequence,
    ) -> Result<(u64, Option<StreamSequence>), Failure> {
        let (sequences, next) = erase::sequences_of(self.context(), stream, subject, upto).await?;
        Ok((erase::erase_all(self.context(), stream, &sequences).await?, next))
    }

    /// Writes the bucket anew: entries that newer ones replaced are gone then.
    async fn sweep(&self) -> Result<(), Failure> {
        let begun = Instant::now();
        erase::empty_bucket(self.context()).await?;
        let (mut after, mut count) = (None::<(String, String)>, 0);
        loop {
            let place = after.as_ref().map(|(account, token)| (account.as_str(), token.as_str()));
            let page = self.store.current_scores(place, SCORES_AT_ONCE).await?;
            let Some(last) = page.last() else { break };
            after = Some((last.account.to_string(), last.token.to_string()));
            let entries: Vec<Outgoing> = page
                .iter()
                .filter_map(|row| {
                    let (score, level, status, at) = row.score?;
                    Some(erase::entry_if_absent(&row.account, &row.token, &RiskValue { score, level, status, at }))
                })
                .collect();
            count += entries.len();
            erase::fill_bucket(&self.publisher, entries).await.map_err(Failure::Bucket)?;
        }
        info!(entries = count, "wrote the bucket anew in {:?}: {count} entries", begun.elapsed());
        Ok(())
    }

    fn context(&self) -> &Context {
        self.publisher.context()
    }
}
