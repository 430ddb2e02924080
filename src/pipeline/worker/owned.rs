//! A partition that is ours: its customers, its lease, and how far it has come.

use std::sync::Arc;

use anyhow::Context as _;
use tracing::{error, info, warn};

use super::{super::outbox::OutboxSender, super::rulebook::RuleBook, Tools, forget::Forget, readers::Scope};
use crate::{
    engine::partition::{Partition, Policy},
    event::{
        ids::{Epoch, PartitionId, StreamSequence},
        time::Timestamp,
    },
    store::{leases::Lease, partitioning::Layout, states::DueRow},
    stream::EVENTS,
    stream::reader::Guard,
};

/// A partition that is ours.
pub(crate) struct Owned {
    pub(crate) epoch: Epoch,
    pub(crate) engine: Partition,
    /// What the table says: the condition of the next checkpoint.
    pub(crate) committed: StreamSequence,
    /// What the checkpoint under way makes of it.
    pub(crate) committing: Option<StreamSequence>,
    /// Everything up to here is applied in memory.
    pub(crate) applied: StreamSequence,
    /// When the message at `applied` was stored, if one of that sequence was seen.
    pub(crate) applied_at: Option<Timestamp>,
    pub(crate) stream_created: Option<Timestamp>,
    /// The rules that all stored scores were made with, once that is so.
    pub(crate) rules_hash: Option<String>,
    /// Set while stored customers are scored anew: the last one done.
    pub(crate) sweep: Option<Option<(String, String)>>,
    /// It goes to another instance after the next checkpoint.
    pub(crate) releasing: bool,
    /// Stored customers due before this are being looked up.
    pub(crate) due_wanted: Option<Timestamp>,
    /// Customers that were erased.
    pub(super) forget: Forget,
}

/// Where a reader must start for a partition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadingFrom {
    pub(crate) epoch: Epoch,
    pub(crate) applied: StreamSequence,
    pub(crate) applied_at: Option<Timestamp>,
    pub(crate) stream_created: Option<Timestamp>,
}

impl Owned {
    /// Takes a partition over where its last owner left it; `hash` names the rules in force.
    pub(super) async fn take_over(
        lease: &Lease,
        layout: Layout,
        tools: &Tools,
        hash: String,
        policy: Policy,
        outbox: &OutboxSender,
    ) -> anyhow::Result<Self> {
        let (applied, stream_created) = guard_against_rollback(lease, tools).await?;
        outbox.resume(lease.partition, lease.epoch, layout);
        let rescore = lease.watermark.0 > 0 && lease.rules_hash.as_deref() != Some(hash.as_str());
        if rescore {
            info!(partition = %lease.partition, "stored scores were made by other rules: scoring {} anew", lease.partition);
        }
        let mut engine = Partition::new(lease.partition, policy);
        engine.set_outages(Arc::clone(&tools.fleet.borrow().outages));
        Ok(Self {
            epoch: lease.epoch,
            engine,
            committed: lease.watermark,
            committing: None,
            applied,
            applied_at: lease.watermark_time.filter(|_| applied == lease.watermark),
            stream_created: Some(stream_created),
            rules_hash: (!rescore).then_some(hash),
            sweep: rescore.then_some(None),
            releasing: false,
            due_wanted: None,
            forget: Forget::default(),
        })
    }

    pub(crate) fn reading_from(&self) -> ReadingFrom {
        ReadingFrom {
            epoch: self.epoch,
            applied: self.applied,
            applied_at: self.applied_at,
            stream_created: self.stream_created,
        }
    }

    /// Everything of this partition up to `sequence` has been applied.
    pub(crate) fn advance(&mut self, sequence: StreamSequence, stored_at: Option<Timestamp>) {
        if sequence > self.applied {
            self.applied = sequence;
            self.applied_at = stored_at;
        }
    }

    /// A message of a reader is still to be applied. What is handed over takes nothing from readers of everything: they may
    /// have begun behind it.
    pub(super) fn takes(&self, sequence: StreamSequence, scope: Scope) -> bool {
        sequence > self.applied && !(self.releasing && scope == Scope::All)
    }

    /// The table does not say yet how far memory has come.
    pub(crate) fn moved(&self) -> bool {
        self.applied != self.committed || self.committing.is_some()
    }

    /// Takes stored customers that are due onto the list.
    pub(crate) fn schedule(&mut self, rows: Vec<DueRow>) {
        self.engine.schedule(rows.into_iter().map(|row| (row.due_at, key_of(row.account.as_str(), &row.token))));
    }

    /// Scores the customers in memory by other rules and begins a sweep over the stored ones.
    pub(crate) fn change_rules(&mut self, book: &Arc<RuleBook>, now: Timestamp) -> u64 {
        let slots: Vec<_> = self.engine.slots().into_iter().map(|(slot, account)| (slot, book.of(account))).collect();
        let count = slots.len() as u64;
        for (slot, rules) in slots {
            self.engine.set_rules(slot, rules, now);
        }
        self.rules_hash = None;
        self.sweep = Some(None);
        count
    }
}

/// `<account>.<token>`.
pub(crate) fn key_of(account: &str, token: &str) -> Box<str> {
    format!("{account}.{token}").into()
}

/// Where to read on: after the watermark, unless the stream is not the one that the watermark was counted in.
async fn guard_against_rollback(lease: &Lease, tools: &Tools) -> anyhow::Result<(StreamSequence, Timestamp)> {
    let found = tools
        .reading
        .check_rollback(EVENTS, lease.watermark, lease.watermark_time, lease.stream_created)
        .await
        .context("cannot compare the watermark with the stream")?;
    let partition: PartitionId = lease.partition;
    match found {
        Guard::Fine { created } => Ok((lease.watermark, created)),
        Guard::StreamRecreated { created } => {
            error!(partition = %partition, "the stream {EVENTS} was created anew at {created}: reading it from its beginning");
            Ok((StreamSequence(0), created))
        }
        Guard::Truncated { .. } | Guard::Rewritten { .. } => {
            let created = lease.stream_created.unwrap_or_default();
            let from = rewound(lease, tools).await?;
            warn!(partition = %partition, ?found, "the stream {EVENTS} was rolled back: reading again from sequence {from}");
            Ok((from, created))
        }
    }
}

/// How far back to read again when the stream lost its end: repeats are recognized by their event ids.
const REWIND: std::time::Duration = std::time::Duration::from_secs(120);

async fn rewound(lease: &Lease, tools: &Tools) -> anyhow::Result<StreamSequence> {
    let Some(stored_at) = lease.watermark_time else { return Ok(StreamSequence(0)) };
    tools
        .reading
        .last_before(EVENTS, stored_at.minus(REWIND))
        .await
        .context("cannot find where to read on after a rollback")
}
