//! Planted bugs: what the crash tests and the simulation switch on to prove that they would notice them.
//!
//! They are switched per instance. Compiled in only with the `mutants` feature; without it none can be switched on, and
//! every question is answered with no.

use crate::{
    event::ids::{Epoch, PartitionId},
    store::{
        StoreError,
        checkpoint::CheckpointWrite,
        leases::{Owner, Role},
        ledger::Ledger,
    },
    stream::publisher::Publish,
};

/// A planted bug. Some of them were real once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// The watermark is stored in another transaction than the states.
    WatermarkApart,
    /// A write takes on whatever epoch and watermark the table has.
    NoFencing,
    /// Alerts are published before the commit, under a random id.
    PublishEarly,
    /// Messages are marked as published whether or not the stream confirmed them.
    MarkUnconfirmed,
    /// What the last owner of a partition left unpublished is not looked for.
    ForgetUnpublished,
    /// A checkpoint whose outcome is unknown is written again under another id, from the watermark that the table has.
    RetryAnew,
    /// Messages that were lost on the way to the reader are not asked for again.
    SkipGaps,
    /// Customers that are loaded have forgotten which events they know.
    ForgetIds,
    /// Customers leave memory while a batch that found them there waits for others.
    EvictWhileLoading,
    /// Stored customers are not evaluated when they are due.
    LoseSilence,
    /// A batch that waited is applied whoever owned its partitions meanwhile.
    StaleStates,
    /// The refusal of an old lease's checkpoint drops what was gained under a new one.
    LateDrop,
    /// Dead letters are published after the watermark has passed their messages.
    BuryLate,
    /// A partition that could not be given back is forgotten, and its lease renewed for ever.
    ForgetRelease,
    /// New rules ask for no checkpoint.
    UnnotedRules,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::WatermarkApart,
        Self::NoFencing,
        Self::PublishEarly,
        Self::MarkUnconfirmed,
        Self::ForgetUnpublished,
        Self::RetryAnew,
        Self::SkipGaps,
        Self::ForgetIds,
        Self::EvictWhileLoading,
        Self::LoseSilence,
        Self::StaleStates,
        Self::LateDrop,
        Self::BuryLate,
        Self::ForgetRelease,
        Self::UnnotedRules,
    ];

    /// What it is called, in the environment and in lists.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WatermarkApart => "watermark_apart",
            Self::NoFencing => "no_fencing",
            Self::PublishEarly => "publish_early",
            Self::MarkUnconfirmed => "mark_unconfirmed",
            Self::ForgetUnpublished => "forget_unpublished",
            Self::RetryAnew => "retry_anew",
            Self::SkipGaps => "skip_gaps",
            Self::ForgetIds => "forget_ids",
            Self::EvictWhileLoading => "evict_while_loading",
            Self::LoseSilence => "lose_silence",
            Self::StaleStates => "stale_states",
            Self::LateDrop => "late_drop",
            Self::BuryLate => "bury_late",
            Self::ForgetRelease => "forget_release",
            Self::UnnotedRules => "unnoted_rules",
        }
    }
}

/// Which bug is switched on in an instance, if any.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mutants(#[cfg(feature = "mutants")] Option<Mutant>);

impl Mutants {
    /// One bug.
    #[cfg(feature = "mutants")]
    pub fn with(mutant: Mutant) -> Self {
        Self(Some(mutant))
    }

    /// The one that `CHURND_MUTANT` names.
    #[cfg(feature = "mutants")]
    pub fn of_environment() -> Self {
        let named = std::env::var_os("CHURND_MUTANT");
        Self(Mutant::ALL.into_iter().find(|mutant| named.as_deref() == Some(mutant.as_str().as_ref())))
    }

    /// None.
    #[cfg(not(feature = "mutants"))]
    pub fn of_environment() -> Self {
        Self()
    }

    /// Whether a bug is switched on.
    #[cfg(feature = "mutants")]
    pub(super) fn has(self, mutant: Mutant) -> bool {
        self.0 == Some(mutant)
    }

    #[cfg(not(feature = "mutants"))]
    pub(super) fn has(self, _: Mutant) -> bool {
        false
    }
}

/// Publishes the alerts of a checkpoint that is not stored yet, if that bug is on.
pub(super) async fn before_commit(mutants: Mutants, publisher: &dyn Publish, write: &CheckpointWrite) {
    if !mutants.has(Mutant::PublishEarly) {
        return;
    }
    let rows: Vec<_> = write.parts.iter().flat_map(|part| part.checkpoint.outbox.clone()).collect();
    for mut row in rows.into_iter().filter(|row| row.kind == crate::engine::checkpoint::OutboxKind::Alert) {
        let id = uuid::Uuid::new_v4().simple().to_string();
        row.subject = format!("{}.{id}", row.subject.rsplit_once('.').map_or("", |(head, _)| head));
        row.message_id = id;
        drop(super::outbox::publish_rows(publisher, &[row]).await);
    }
}

/// Stores the states in one transaction and the watermark in the next, if that bug is on.
pub(super) async fn store_watermark_apart(
    store: &dyn Ledger,
    write: &mut CheckpointWrite,
) -> anyhow::Result<Vec<(PartitionId, Epoch)>> {
    let mut states = CheckpointWrite::new(Vec::new(), Vec::new());
    for part in &write.parts {
        let mut first = part.clone();
        (first.to, first.to_time) = (first.from, None);
        first.checkpoint.counters = Default::default();
        states.parts.push(first);
    }
    let fenced = |error: StoreError| match error {
        StoreError::Fenced { partition, epoch } => Ok(vec![(partition, epoch)]),
        other => Err(other),
    };
    if let Err(error) = store.store_checkpoint(&states).await {
        return Ok(fenced(error)?);
    }
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    for part in &mut write.parts {
        part.checkpoint.states.clear();
        part.checkpoint.scores.clear();
        part.checkpoint.outbox.clear();
        part.checkpoint.links.clear();
        part.forgotten.clear();
        part.unwanted.clear();
    }
    match store.store_checkpoint(write).await {
        Ok(()) => Ok(Vec::new()),
        Err(error) => Ok(fenced(error)?),
    }
}

/// Begins a write anew, from the watermark that the table has, if that bug is on.
pub(super) async fn retry_anew(mutants: Mutants, store: &dyn Ledger, write: &mut CheckpointWrite) {
    if !mutants.has(Mutant::RetryAnew) {
        return;
    }
    let epochs: Vec<Epoch> = write.parts.iter().map(|part| part.epoch).collect();
    adopt_current_leases(store, write).await;
    for (part, epoch) in write.parts.iter_mut().zip(epochs) {
        part.epoch = epoch;
        part.to = part.to.max(part.from);
    }
    write.id = uuid::Uuid::new_v4();
}

/// Takes on whatever epoch and watermark the table has, if that bug is on.
pub(super) async fn adopt_current_leases(store: &dyn Ledger, write: &mut CheckpointWrite) {
    let Ok(owners) = store.owners().await else { return };
    for part in &mut write.parts {
        let ours = |owner: &&Owner| owner.role == Role::Engine && owner.partition == part.checkpoint.partition;
        if let Some(owner) = owners.iter().find(ours) {
            part.epoch = owner.epoch;
            part.from = owner.watermark;
        }
    }
}
