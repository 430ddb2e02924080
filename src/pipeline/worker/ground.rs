//! Where to read on when partitions are taken over: after their watermarks, unless the stream is not the one that they were
//! counted in.

use anyhow::Context as _;
use tracing::{error, warn};

use super::{
    super::rollback::{accounted, same_until},
    Tools,
    owned::ReadingFrom,
};
use crate::{
    event::ids::StreamSequence,
    store::leases::{Lease, Owner},
    stream::{
        EVENTS,
        reader::{Accounted, Guard},
    },
};

/// What all partitions account for, and what the stream says of it.
pub(super) struct Ground {
    owners: Vec<Owner>,
    compared: Vec<(Accounted, Compared)>,
}

#[derive(Clone, Copy)]
struct Compared {
    found: Guard,
    /// Up to here the stream is surely as it was.
    same_until: StreamSequence,
}

impl Ground {
    pub(super) async fn survey(tools: &Tools) -> anyhow::Result<Self> {
        let owners = tools.store.owners().await.context("cannot look up what is accounted for")?;
        Ok(Self { owners, compared: Vec::new() })
    }

    /// Where to read on for a partition, and by what each seek is checked from then on.
    pub(super) async fn where_to_begin(&mut self, lease: &Lease, tools: &Tools) -> anyhow::Result<ReadingFrom> {
        let accounted = accounted(&self.owners, lease.stream_created);
        let Compared { found, same_until } = match self.compared.iter().find(|(of, _)| *of == accounted) {
            Some((_, compared)) => *compared,
            None => {
                let compared = compare(accounted, tools).await?;
                self.compared.push((accounted, compared));
                compared
            }
        };
        let (partition, applied) = (lease.partition, lease.watermark.min(same_until));
        let (created, message) = match found {
            Guard::Fine { created } => (created, accounted.message),
            Guard::StreamRecreated { created } => {
                error!(partition = %partition, "the stream {EVENTS} was created anew at {created}: reading it from its beginning");
                (created, None)
            }
            Guard::Truncated { .. } | Guard::Rewritten { .. } => {
                warn!(partition = %partition, ?found, "the stream {EVENTS} was rolled back: reading again from sequence {applied}");
                (lease.stream_created.unwrap_or_default(), None)
            }
        };
        Ok(ReadingFrom { epoch: lease.epoch, applied, message, stream_created: Some(created) })
    }
}

async fn compare(accounted: Accounted, tools: &Tools) -> anyhow::Result<Compared> {
    let found = tools.reading.check_rollback(EVENTS, accounted).await;
    let found = found.context("cannot compare the watermarks with the stream")?;
    let newest = accounted.message.map(|(_, stored_at)| stored_at);
    let same_until = same_until(&*tools.reading, found, newest).await;
    Ok(Compared { found, same_until: same_until.context("cannot find where to read on after a rollback")? })
}
