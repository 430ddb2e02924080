//! A partition that is ours: its customers, its lease, and how far it has come.

use std::sync::Arc;

use tracing::info;

use super::{
    super::{outbox::OutboxSender, rulebook::RuleBook},
    Tools,
    forget::Forget,
    ground::Ground,
    readers::Scope,
};
use crate::{
    engine::partition::{Partition, Policy},
    event::{
        ids::{Epoch, StreamSequence},
        time::Timestamp,
    },
    store::{leases::Lease, partitioning::Layout, states::DueRow},
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
    /// The newest message that is known to be accounted for, here or elsewhere, and when it was stored.
    pub(crate) message: Option<(StreamSequence, Timestamp)>,
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
    pub(crate) message: Option<(StreamSequence, Timestamp)>,
    pub(crate) stream_created: Option<Timestamp>,
}

impl Owned {
    /// Takes a partition over where its last owner left it; `hash` names the rules in force.
    pub(super) fn take_over(
        lease: &Lease,
        ground: Ground,
        layout: Layout,
        tools: &Tools,
        hash: String,
        policy: Policy,
        outbox: &OutboxSender,
    ) -> Self {
        outbox.resume(lease.partition, lease.epoch, layout);
        let rescore = lease.watermark.0 > 0 && lease.rules_hash.as_deref() != Some(hash.as_str());
        if rescore {
            info!(partition = %lease.partition, "stored scores were made by other rules: scoring {} anew", lease.partition);
        }
        let mut engine = Partition::new(lease.partition, policy);
        engine.set_outages(Arc::clone(&tools.fleet.borrow().outages));
        Self {
            epoch: lease.epoch,
            engine,
            committed: lease.watermark,
            committing: None,
            applied: lease.watermark,
            message: ground.message,
            stream_created: Some(ground.created),
            rules_hash: (!rescore).then_some(hash),
            sweep: rescore.then_some(None),
            releasing: false,
            due_wanted: None,
            forget: Forget::default(),
        }
    }

    pub(crate) fn reading_from(&self) -> ReadingFrom {
        ReadingFrom {
            epoch: self.epoch,
            applied: self.applied,
            message: self.message,
            stream_created: self.stream_created,
        }
    }

    /// When the message at `applied` was stored, if that is known.
    pub(crate) fn applied_at(&self) -> Option<Timestamp> {
        self.message.filter(|(sequence, _)| *sequence == self.applied).map(|(_, stored_at)| stored_at)
    }

    /// Everything of this partition up to `sequence` has been applied, this message last.
    pub(crate) fn advance(&mut self, sequence: StreamSequence, message: Option<(StreamSequence, Timestamp)>) {
        if sequence > self.applied {
            self.applied = sequence;
            self.message = self.message.max(message);
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
