//! The look at the stream before partitions are taken over: is it still the one that all watermarks count in?
//!
//! If it is not, all partitions are put back in one transaction, whoever owns them, and under new epochs: an instance that
//! noticed nothing would otherwise go on in a stream whose messages at its watermarks it never saw. Then everybody begins
//! anew, where the stream is surely as it was.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::Context as _;
use tracing::{error, warn};

use super::super::rollback::{accounted, same_until};
use crate::{
    event::{ids::StreamSequence, time::Timestamp},
    store::{
        leases::{Owner, Role},
        ledger::Ledger,
        partitioning::Rewind,
    },
    stream::{
        EVENTS,
        reader::{Guard, Reading},
    },
};

/// How long a look may take.
const WITHIN: Duration = Duration::from_secs(60);

/// What a partition may be taken over on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ground {
    /// When the stream was created.
    pub(super) created: Timestamp,
    /// The newest message that any partition accounts for.
    pub(super) message: Option<(StreamSequence, Timestamp)>,
}

/// What a look at the stream found.
#[derive(Debug)]
pub(super) enum Survey {
    /// All is as it was; by the creation of the stream that watermarks count in.
    Fine(BTreeMap<Option<Timestamp>, Ground>),
    /// All partitions were put back, and all leases are void.
    PutBack,
}

/// Holds all watermarks against the stream.
pub(super) async fn survey(store: Arc<dyn Ledger>, reading: Arc<dyn Reading>) -> anyhow::Result<Survey> {
    let looking = tokio::time::timeout(WITHIN, look(&*store, &*reading));
    looking.await.context("nats or postgres did not answer in time")?
}

async fn look(store: &dyn Ledger, reading: &dyn Reading) -> anyhow::Result<Survey> {
    let mut owners = store.owners().await.context("cannot look up what is accounted for")?;
    owners.retain(|owner| owner.role == Role::Engine);
    let mut fine = BTreeMap::new();
    for stream_created in owners.iter().map(|owner| owner.stream_created) {
        if fine.contains_key(&stream_created) {
            continue;
        }
        let accounted = accounted(&owners, stream_created);
        let message = accounted.messages.iter().max().copied();
        let found = reading.check_rollback(EVENTS, accounted).await;
        let found = found.context("cannot compare the watermarks with the stream")?;
        let Guard::Fine { created } = found else {
            return put_back(store, reading, &owners, stream_created, found).await;
        };
        fine.insert(stream_created, Ground { created, message });
    }
    Ok(Survey::Fine(fine))
}

async fn put_back(
    store: &dyn Ledger,
    reading: &dyn Reading,
    owners: &[Owner],
    stream_created: Option<Timestamp>,
    found: Guard,
) -> anyhow::Result<Survey> {
    let to = same_until(reading, found).await.context("cannot find where to read on after a rollback")?;
    let created_anew = match found {
        Guard::StreamRecreated { created } => Some(created),
        _ => stream_created,
    };
    let rewind = Rewind { stream_created, created_anew, to, epochs: owners.iter().map(|owner| owner.epoch.0).sum() };
    let done = store.rewind(&rewind).await.context("cannot put the partitions back")?;
    anyhow::ensure!(done, "partitions changed hands meanwhile");
    match found {
        Guard::StreamRecreated { created } => {
            error!("the stream {EVENTS} was created anew at {created}: reading it from its beginning");
        }
        found => warn!(?found, "the stream {EVENTS} was rolled back: reading again from sequence {to}"),
    }
    Ok(Survey::PutBack)
}
