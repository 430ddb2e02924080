//! Snapshots: a state as bytes, a format version first, MessagePack after it.
//!
//! Buckets and ids are packed into blobs of variable-length integers: a customer with 40 active hours takes less than
//! 300 bytes. A newer version's snapshots are refused by name; of older versions every one is read.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::{
    alert::AlertMemory,
    checkpoint::{Level, Status},
    names::{Name, Names},
    recent_ids::{RecentId, RecentIds},
    state::{CustomerState, Evaluation, Signpost, Support},
    stripe::StripeState,
    usage::{Bucket, Usage},
};
use crate::event::{
    ids::{CustomerId, IdHash},
    sentiment::Sentiment,
    time::Timestamp,
};

/// The version that is written.
pub const VERSION: u8 = 1;

/// Why bytes are not a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// It was written by a later churnd.
    #[error("snapshot of format {found}, but this churnd reads formats up to {VERSION}: run a newer churnd")]
    TooNew {
        /// The format it has.
        found: u8,
    },
    /// It is not what its version says.
    #[error("snapshot is damaged: {0}")]
    Damaged(String),
}

/// A state in the order in which version 1 writes its parts.
#[derive(Serialize, Deserialize)]
struct SnapshotV1 {
    first_seen: i64,
    newest: i64,
    names: Vec<(StoredName, i64)>,
    hours: ByteBuf,
    days: ByteBuf,
    ids: ByteBuf,
    support: Option<(i64, Sentiment)>,
    stripe: Option<Box<StripeState>>,
    linked: Vec<u64>,
    transfers: Vec<u64>,
    moved_to: Option<(String, i64)>,
    alerts: (u8, u8, bool, [Option<i64>; 3], Option<u8>, u32),
    evaluated: Option<(u8, u8, u8, u64, u64)>,
    unsettled: bool,
}

/// A common name as its code, any other as text.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum StoredName {
    Code(u8),
    Text(Box<str>),
}

/// Writes a state.
pub fn encode(state: &CustomerState) -> Vec<u8> {
    let newest = state.newest.millis();
    let snapshot = SnapshotV1 {
        first_seen: state.first_seen.millis(),
        newest,
        names: state.names.iter().map(|(name, at)| (stored_name(name), newest - at.millis())).collect(),
        hours: pack_buckets(state.usage.hours()),
        days: pack_buckets(state.usage.older_days().iter().copied()),
        ids: pack_ids(&state.ids),
        support: state.support.map(|support| (support.at.millis(), support.sentiment)),
        stripe: state.stripe.clone(),
        linked: state.linked.clone(),
        transfers: state.transfers.clone(),
        moved_to: state.moved_to.as_ref().map(|signpost| (signpost.to.as_str().to_owned(), signpost.at.millis())),
        alerts: (
            state.alerts.level as u8,
            state.alerts.score,
            state.alerts.churned,
            state.alerts.announced.map(|at| at.map(Timestamp::millis)),
            state.alerts.held.map(|level| level as u8),
            state.alerts.told,
        ),
        evaluated: state
            .evaluated
            .map(|last| (last.score, last.level as u8, last.status as u8, last.active, last.rules)),
        unsettled: state.unsettled,
    };
    let mut bytes = Vec::with_capacity(256);
    bytes.push(VERSION);
    rmp_serde::encode::write(&mut bytes, &snapshot).expect("a state has nothing that MessagePack cannot hold");
    bytes
}

/// Reads a state.
pub fn decode(bytes: &[u8]) -> Result<CustomerState, SnapshotError> {
    match bytes {
        [] => Err(damaged("it is empty")),
        [VERSION, body @ ..] => {
            let snapshot: SnapshotV1 = rmp_serde::from_slice(body).map_err(damaged)?;
            snapshot.into_state()
        }
        [0, ..] => Err(damaged("format 0 was never written")),
        [found, ..] => Err(SnapshotError::TooNew { found: *found }),
    }
}

impl SnapshotV1 {
    fn into_state(self) -> Result<CustomerState, SnapshotError> {
        let newest = self.newest;
        let names = self
            .names
            .into_iter()
            .map(|(name, age)| Ok((name_of(name)?, Timestamp::from_millis(newest.saturating_sub(age)))))
            .collect::<Result<_, SnapshotError>>()?;
        let (level, score, churned, announced, held, told) = self.alerts;
        let moved_to = match self.moved_to {
            Some((to, at)) => {
                let to = CustomerId::parse(&to).map_err(damaged)?;
                Some(Box::new(Signpost { to, at: Timestamp::from_millis(at) }))
            }
            None => None,
        };
        let evaluated = match self.evaluated {
            Some((score, level, status, active, rules)) => {
                Some(Evaluation { score, level: level_of(level)?, status: status_of(status)?, active, rules })
            }
            None => None,
        };
        Ok(CustomerState {
            first_seen: Timestamp::from_millis(self.first_seen),
            newest: Timestamp::from_millis(newest),
            names: Names::from_seen(names),
            usage: Usage::from_buckets(unpack_buckets(&self.hours)?, unpack_buckets(&self.days)?),
            ids: RecentIds::from_ids(unpack_ids(&self.ids)?),
            support: self.support.map(|(at, sentiment)| Support { at: Timestamp::from_millis(at), sentiment }),
            stripe: self.stripe,
            linked: self.linked,
            transfers: self.transfers,
            moved_to,
            alerts: AlertMemory {
                level: level_of(level)?,
                score,
                churned,
                announced: announced.map(|at| at.map(Timestamp::from_millis)),
                held: held.map(level_of).transpose()?,
                told,
            },
            evaluated,
            unsettled: self.unsettled,
        })
    }
}

fn damaged(what: impl ToString) -> SnapshotError {
    SnapshotError::Damaged(what.to_string())
}

fn stored_name(name: &Name) -> StoredName {
    match name {
        Name::Common(code) => StoredName::Code(*code),
        Name::Other(text) => StoredName::Text(text.clone()),
    }
}

fn name_of(stored: StoredName) -> Result<Name, SnapshotError> {
    match stored {
        StoredName::Code(code) => {
            Name::from_code(code).ok_or_else(|| damaged(format!("no event name has the code {code}")))
        }
        StoredName::Text(text) => Ok(Name::Other(text)),
    }
}

fn level_of(code: u8) -> Result<Level, SnapshotError> {
    [Level::Low, Level::Medium, Level::High]
        .get(usize::from(code))
        .copied()
        .ok_or_else(|| damaged(format!("no level has the code {code}")))
}

fn status_of(code: u8) -> Result<Status, SnapshotError> {
    [Status::Active, Status::Churned, Status::Moved]
        .get(usize::from(code))
        .copied()
        .ok_or_else(|| damaged(format!("no status has the code {code}")))
}

/// Pairs of the distance from the bucket before and the count, newest bucket first, the first index as it is.
fn pack_buckets(buckets: impl DoubleEndedIterator<Item = Bucket>) -> ByteBuf {
    let mut bytes = Vec::new();
    let mut last: Option<i32> = None;
    for bucket in buckets.rev() {
        match last {
            None => push_varint(&mut bytes, zigzag(i64::from(bucket.index))),
            Some(last) => push_varint(&mut bytes, u64::from(last.abs_diff(bucket.index))),
        }
        push_varint(&mut bytes, u64::from(bucket.count));
        last = Some(bucket.index);
    }
    ByteBuf::from(bytes)
}

fn unpack_buckets(bytes: &[u8]) -> Result<Vec<Bucket>, SnapshotError> {
    let mut rest = bytes;
    let mut buckets: Vec<Bucket> = Vec::with_capacity(bytes.len() / 2);
    let invalid = || damaged("buckets do not ascend");
    while !rest.is_empty() {
        let distance = take_varint(&mut rest)?;
        let index = match buckets.last() {
            None => unzigzag(distance),
            Some(_) if distance == 0 => return Err(invalid()),
            Some(last) => i64::from(last.index) - i64::try_from(distance).map_err(|_| invalid())?,
        };
        let index = i32::try_from(index).map_err(|_| invalid())?;
        let count = u32::try_from(take_varint(&mut rest)?).map_err(|_| damaged("a count is too large"))?;
        buckets.push(Bucket { index, count });
    }
    buckets.reverse();
    Ok(buckets)
}

/// Six bytes of the hash and the seconds before the newer neighbor, newest first.
fn pack_ids(ids: &RecentIds) -> ByteBuf {
    let mut sorted: Vec<&RecentId> = ids.iter().collect();
    sorted.sort_unstable_by(|one, other| other.cmp(one));
    let mut bytes = Vec::with_capacity(sorted.len() * 8);
    let mut last = u32::MAX;
    for entry in sorted {
        bytes.extend_from_slice(&entry.id.bits().to_be_bytes()[8 - IdHash::BYTES..]);
        push_varint(&mut bytes, u64::from(last - entry.second));
        last = entry.second;
    }
    ByteBuf::from(bytes)
}

fn unpack_ids(bytes: &[u8]) -> Result<Vec<RecentId>, SnapshotError> {
    let mut rest = bytes;
    let mut last = u32::MAX;
    let mut ids = Vec::new();
    while !rest.is_empty() {
        let Some((hash, after)) = rest.split_first_chunk::<{ IdHash::BYTES }>() else {
            return Err(damaged("an id is cut off"));
        };
        rest = after;
        let mut bits = [0; 8];
        bits[8 - IdHash::BYTES..].copy_from_slice(hash);
        let distance = u32::try_from(take_varint(&mut rest)?).map_err(|_| damaged("an id's time is too far"))?;
        last = last.checked_sub(distance).ok_or_else(|| damaged("an id's time is too far"))?;
        ids.push(RecentId { second: last, id: IdHash::from_bits(u64::from_be_bytes(bits)) });
    }
    Ok(ids)
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

/// LEB128: seven bits a byte, the lowest first.
fn push_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push((value & 0x7f) as u8);
}

fn take_varint(rest: &mut &[u8]) -> Result<u64, SnapshotError> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first().ok_or_else(|| damaged("a number is cut off"))?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(damaged("a number is too long"))
}
