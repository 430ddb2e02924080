//! Planted bugs: what the crash tests switch on to prove that they would notice them.
//!
//! Compiled in only with the `mutants` feature; without it every function here does nothing and every question is
//! answered with no.

use crate::{
    event::ids::{Epoch, PartitionId},
    store::{Store, checkpoint::CheckpointWrite},
    stream::publisher::Publisher,
};

/// The watermark is stored in another transaction than the states.
pub(super) const WATERMARK_APART: &str = "watermark_apart";
/// A write takes on whatever epoch and watermark the table has.
pub(super) const NO_FENCING: &str = "no_fencing";
/// Alerts are published before the commit, under a random id.
pub(super) const PUBLISH_EARLY: &str = "publish_early";

/// Whether a bug is switched on.
#[cfg(feature = "mutants")]
pub(super) fn is_on(mutant: &str) -> bool {
    use std::sync::OnceLock;
    static ON: OnceLock<Option<std::ffi::OsString>> = OnceLock::new();
    ON.get_or_init(|| std::env::var_os("CHURND_MUTANT")).as_deref() == Some(std::ffi::OsStr::new(mutant))
}

#[cfg(not(feature = "mutants"))]
pub(super) fn is_on(_mutant: &str) -> bool {
    false
}

/// Publishes the alerts of a checkpoint that is not stored yet, if that bug is on.
pub(super) async fn before_commit(publisher: &Publisher, write: &CheckpointWrite) {
    if !is_on(PUBLISH_EARLY) {
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
    store: &Store,
    write: &mut CheckpointWrite,
) -> anyhow::Result<Vec<(PartitionId, Epoch)>> {
    let mut states = CheckpointWrite::new(Vec::new(), Vec::new());
    for part in &write.parts {
        let mut first = part.clone();
        (first.to, first.to_time) = (first.from, None);
        first.checkpoint.counters = Default::default();
        states.parts.push(first);
    }
    let fenced = |error: crate::store::StoreError| match error {
        crate::store::StoreError::Fenced { partition, epoch } => Ok(vec![(partition, epoch)]),
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

/// Takes on whatever epoch and watermark the table has, if that bug is on.
pub(super) async fn adopt_current_leases(store: &Store, write: &mut CheckpointWrite) {
    let Ok(owners) = store.owners().await else { return };
    for part in &mut write.parts {
        let ours = |owner: &&crate::store::leases::Owner| {
            owner.role == crate::store::leases::Role::Engine && owner.partition == part.checkpoint.partition
        };
        if let Some(owner) = owners.iter().find(ours) {
            part.epoch = owner.epoch;
            part.from = owner.watermark;
        }
    }
}
