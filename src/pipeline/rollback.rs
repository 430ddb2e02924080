//! A stream that was rolled back: what is held against it, and where to read on.

use crate::{
    event::{ids::StreamSequence, time::Timestamp},
    store::leases::{Owner, Role},
    stream::{
        EVENTS, StreamError,
        reader::{Accounted, Guard, Reading},
    },
};

/// How far back to read again when the stream lost its end: repeats are recognized by their event ids.
const REWIND: std::time::Duration = std::time::Duration::from_secs(120);

/// What the engine's partitions account for of the stream of one creation. A partition's watermark may stand at others'
/// messages, of which it knows nothing; so all of them together are held against the stream.
pub(crate) fn accounted(owners: &[Owner], stream_created: Option<Timestamp>) -> Accounted {
    let of_it = |owner: &&Owner| owner.role == Role::Engine && owner.stream_created == stream_created;
    let owners = owners.iter().filter(of_it);
    Accounted {
        watermark: owners.clone().map(|owner| owner.watermark).max().unwrap_or_default(),
        messages: owners.filter_map(|owner| Some((owner.watermark, owner.watermark_time?))).collect(),
        stream_created,
    }
}

/// Up to where the stream is surely as it was. What came in place of what was lost came after everything that was accounted
/// for before, so the time of that says where it begins.
pub(crate) async fn same_until(reading: &dyn Reading, found: Guard) -> Result<StreamSequence, StreamError> {
    match found {
        Guard::Fine { .. } => Ok(StreamSequence(u64::MAX)),
        Guard::Truncated { expected: Some(expected), .. } | Guard::Rewritten { expected, .. } => {
            reading.last_before(EVENTS, expected.minus(REWIND)).await
        }
        Guard::Truncated { expected: None, .. } | Guard::StreamRecreated { .. } => Ok(StreamSequence(0)),
    }
}
