//! Scores on their way into the risk bucket: each is put on condition that the entry is still the one that was known.
//!
//! An instance that slept between its commit and its put, or whose message was held up on the way, would overwrite what
//! its successor has put since. So every put names the entry's revision, which the server compares. A revision is known
//! from our own last put; else it is looked up, and only then it is asked whether the partition is still ours. Whoever
//! takes over after that puts a newer revision, and is not overwritten; or has yet to put, and overwrites us.
//!
//! Invariant: no put is accepted behind one of a later owner's.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex},
    time::Duration,
};

use tracing::{debug, warn};

use crate::{
    event::{
        ids::{AccountId, Epoch, PartitionId},
        time::Timestamp,
    },
    store::{leases::Role, ledger::Ledger},
    stream::{
        publisher::{Publish, PublishError},
        risk_kv::{self, RiskValue},
    },
    telemetry::metrics::Metrics,
};

/// How often entries are put that somebody changed in between.
const ROUNDS: u32 = 5;
/// A look at an entry may show a copy that lags behind.
const PAUSE: Duration = Duration::from_millis(50);
/// Revisions in one of the two halves of the memory of them: some megabytes.
const REMEMBERED: usize = 1 << 16;

/// A customer's entry, and the lease under which its score was stored.
#[derive(Clone, Debug)]
pub(super) struct Score {
    pub(super) lease: (PartitionId, Epoch),
    pub(super) account: AccountId,
    pub(super) token: Box<str>,
    pub(super) value: RiskValue,
}

/// Partitions that were given back in good order, under which lease: who has them now puts what was left.
#[derive(Clone, Debug, Default)]
pub(super) struct GivenBack(Arc<Mutex<BTreeMap<PartitionId, Epoch>>>);

impl GivenBack {
    pub(super) fn note(&self, partition: PartitionId, epoch: Epoch) {
        self.0.lock().expect("no holder of this lock panics").insert(partition, epoch);
    }

    fn holds(&self, (partition, epoch): (PartitionId, Epoch)) -> bool {
        self.0.lock().expect("no holder of this lock panics").get(&partition).is_some_and(|given| *given >= epoch)
    }
}

/// Partitions of which scores may be missing in the bucket, and the earliest of them: the table has them.
#[derive(Clone, Debug, Default)]
pub(super) struct Missed(Arc<Mutex<BTreeMap<PartitionId, Timestamp>>>);

impl Missed {
    pub(super) fn note(&self, partition: PartitionId, since: Timestamp) {
        let mut missed = self.0.lock().expect("no holder of this lock panics");
        missed.entry(partition).and_modify(|earliest| *earliest = since.min(*earliest)).or_insert(since);
    }

    pub(super) fn note_all(&self, since: BTreeMap<PartitionId, Timestamp>) {
        since.into_iter().for_each(|(partition, since)| self.note(partition, since));
    }

    pub(super) fn take(&self) -> Option<(PartitionId, Timestamp)> {
        self.0.lock().expect("no holder of this lock panics").pop_first()
    }
}

/// Puts scores into the bucket.
pub(super) struct Scores {
    store: Arc<dyn Ledger>,
    publisher: Arc<dyn Publish>,
    metrics: Metrics,
    given_back: GivenBack,
    revisions: Revisions,
}

impl Scores {
    pub(super) fn new(
        store: Arc<dyn Ledger>,
        publisher: Arc<dyn Publish>,
        metrics: Metrics,
        given_back: GivenBack,
    ) -> Self {
        Self { store, publisher, metrics, given_back, revisions: Revisions::default() }
    }

    /// Puts them all, but those of partitions that are not ours any more. `false` if that cannot be done now.
    pub(super) async fn put(&mut self, scores: Vec<Score>) -> bool {
        let mut left = newest_of_each(scores);
        for round in 0..ROUNDS {
            if left.is_empty() {
                return true;
            }
            tokio::time::sleep(PAUSE * round).await;
            left = match self.put_once(left).await {
                Ok(left) => left,
                Err(reason) => {
                    warn!("cannot put scores into the bucket, trying again: {reason}");
                    return false;
                }
            };
        }
        left.is_empty()
    }

    /// Gives back those whose entries were changed by somebody meanwhile.
    async fn put_once(&mut self, scores: Vec<Score>) -> Result<Vec<Score>, String> {
        let scores = self.with_revisions(scores).await?;
        let entry = |(score, revision): &(Score, Option<u64>)| {
            risk_kv::entry_at(score.account.as_str(), &score.token, &score.value, *revision)
        };
        let results = self.publisher.publish_all(scores.iter().map(entry).collect()).await;
        let (mut changed, mut failed) = (Vec::new(), None);
        for ((score, _), result) in scores.into_iter().zip(results) {
            match result {
                Ok(ack) => self.revisions.note(&score, ack.sequence.0),
                Err(PublishError::Outdated { .. }) => {
                    self.revisions.forget(&score);
                    changed.push(score);
                }
                Err(error) => {
                    self.revisions.forget(&score);
                    failed = Some(error.reason());
                }
            }
        }
        match failed {
            None => Ok(changed),
            Some(reason) => Err(reason),
        }
    }

    /// Adds the revisions, looks up those that are not known, and then which of the scores are still ours to put.
    async fn with_revisions(&mut self, scores: Vec<Score>) -> Result<Vec<(Score, Option<u64>)>, String> {
        let mut known: Vec<(Score, Option<u64>)> = Vec::with_capacity(scores.len());
        known.extend(scores.into_iter().map(|score| {
            let revision = self.revisions.of(&score);
            (score, revision)
        }));
        let unknown: Vec<&mut (Score, Option<u64>)> = known.iter_mut().filter(|(_, known)| known.is_none()).collect();
        if unknown.is_empty() {
            return Ok(known);
        }
        let keys = unknown.iter().map(|(score, _)| (score.account.clone(), score.token.clone())).collect();
        let found = self.publisher.risk_revisions(keys).await.map_err(|error| error.reason())?;
        for ((_, revision), found) in unknown.into_iter().zip(found) {
            *revision = found;
        }
        let owners = self.store.owners().await.map_err(|error| error.to_string())?;
        let engines = owners.iter().filter(|owner| owner.role == Role::Engine);
        let leases: HashSet<(PartitionId, Epoch)> = engines.map(|owner| (owner.partition, owner.epoch)).collect();
        let (ours, left): (Vec<_>, Vec<_>) = known.into_iter().partition(|(score, _)| leases.contains(&score.lease));
        if !left.is_empty() {
            debug!(scores = left.len(), "{} scores are left to those who own their partitions now", left.len());
            let fenced = left.iter().filter(|(score, _)| !self.given_back.holds(score.lease)).count();
            self.metrics.fenced_writes.inc_by(fenced as u64);
        }
        Ok(ours)
    }
}

/// As of when the earliest score of each partition holds.
pub(super) fn earliest_of_each(scores: &[Score]) -> BTreeMap<PartitionId, Timestamp> {
    let mut earliest = BTreeMap::new();
    for Score { lease: (partition, _), value, .. } in scores {
        earliest.entry(*partition).and_modify(|at| *at = value.at.min(*at)).or_insert(value.at);
    }
    earliest
}

/// The last score of each customer, in their order.
fn newest_of_each(mut scores: Vec<Score>) -> Vec<Score> {
    let mut seen = HashSet::new();
    scores.reverse();
    scores.retain(|score| seen.insert((score.account.clone(), score.token.clone())));
    scores.reverse();
    scores
}

/// The revisions that entries were last known to have: forgets those not used for long.
#[derive(Default)]
struct Revisions {
    hasher: RandomState,
    newer: HashMap<u64, u64>,
    older: HashMap<u64, u64>,
}

impl Revisions {
    /// Two customers of the same hash would only be refused by the server now and then, and looked up.
    fn key(&self, score: &Score) -> u64 {
        self.hasher.hash_one((score.account.as_str(), &*score.token))
    }

    fn of(&self, score: &Score) -> Option<u64> {
        let key = self.key(score);
        self.newer.get(&key).or_else(|| self.older.get(&key)).copied()
    }

    fn note(&mut self, score: &Score, revision: u64) {
        if self.newer.len() >= REMEMBERED {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(self.key(score), revision);
    }

    fn forget(&mut self, score: &Score) {
        let key = self.key(score);
        self.newer.remove(&key);
        self.older.remove(&key);
    }
}
