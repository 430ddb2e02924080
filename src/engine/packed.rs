//! The parts of a snapshot that MessagePack would spend too much on: buckets, ids and names as variable-length integers.
//!
//! Newest first, each relative to the one before. Reading refuses what writing never writes: nothing that is read back
//! can make the engine overflow or grow without bound.

use std::cmp::Reverse;

use super::{
    names::{NAMES_KEPT, Name},
    recent_ids::{IDS_KEPT, RecentId, RecentIds},
    snapshot::{FAREST_MILLIS, SnapshotError},
    usage::Bucket,
};
use crate::event::{ids::IdHash, time::Timestamp};

/// A distance of this many buckets or more does not fit beside the count.
const FAR: u64 = 3;
/// The most bytes of an event's name: 100 characters of four.
const NAME_BYTES: usize = 400;

pub(super) fn damaged(what: impl ToString) -> SnapshotError {
    SnapshotError::Damaged(what.to_string())
}

/// Each bucket's count, with its distance from the newer bucket in the two lowest bits where that is short. The first
/// one's distance is that from `newest`.
pub(super) fn pack_buckets(buckets: impl DoubleEndedIterator<Item = Bucket>, newest: i32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut last = newest;
    for bucket in buckets.rev() {
        let distance = u64::from(last.abs_diff(bucket.index));
        push_varint(&mut bytes, u64::from(bucket.count) << 2 | distance.min(FAR));
        if distance >= FAR {
            push_varint(&mut bytes, distance - FAR);
        }
        last = bucket.index;
    }
    bytes
}

/// Reads buckets back, none of them `kept` or more before `newest`.
pub(super) fn unpack_buckets(mut rest: &[u8], newest: i32, kept: i64) -> Result<Vec<Bucket>, SnapshotError> {
    let mut buckets: Vec<Bucket> = Vec::new();
    let mut age = 0;
    while !rest.is_empty() {
        let value = take_varint(&mut rest)?;
        let far = if value & FAR == FAR { take_varint(&mut rest)? } else { 0 };
        let distance = (value & FAR).saturating_add(far);
        if distance == 0 && !buckets.is_empty() {
            return Err(damaged("buckets do not ascend"));
        }
        age = i64::try_from(distance).ok().and_then(|distance| distance.checked_add(age)).unwrap_or(kept);
        let count = u32::try_from(value >> 2).ok().filter(|count| *count > 0);
        let (true, Some(count), Ok(back)) = (age < kept, count, i32::try_from(age)) else {
            return Err(damaged("a bucket is too old or its count impossible"));
        };
        buckets.push(Bucket { index: newest - back, count });
    }
    buckets.reverse();
    Ok(buckets)
}

/// Six bytes of the hash and the seconds before the newer neighbor.
pub(super) fn pack_ids(ids: &RecentIds) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(ids.iter().len() * 8);
    let mut last = u32::MAX;
    for entry in ids.iter().rev() {
        bytes.extend_from_slice(&entry.id.bits().to_be_bytes()[8 - IdHash::BYTES..]);
        push_varint(&mut bytes, u64::from(last - entry.second));
        last = entry.second;
    }
    bytes
}

pub(super) fn unpack_ids(mut rest: &[u8]) -> Result<Vec<RecentId>, SnapshotError> {
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
        if ids.len() > IDS_KEPT {
            return Err(damaged("there are more than 16 ids"));
        }
    }
    Ok(ids)
}

/// A common name's code doubled, or any other's length doubled and one; then the milliseconds before the newer neighbor.
pub(super) fn pack_names<'a>(names: impl Iterator<Item = &'a (Name, Timestamp)>, newest: Timestamp) -> Vec<u8> {
    let mut sorted: Vec<&(Name, Timestamp)> = names.collect();
    sorted.sort_unstable_by_key(|(name, at)| (Reverse(*at), name.as_str()));
    let mut bytes = Vec::new();
    let mut last = newest;
    for (name, at) in sorted {
        match name {
            Name::Common(code) => push_varint(&mut bytes, u64::from(*code) << 1),
            Name::Other(text) => {
                push_varint(&mut bytes, (text.len() as u64) << 1 | 1);
                bytes.extend_from_slice(text.as_bytes());
            }
        }
        push_varint(&mut bytes, last.millis_since(*at).unsigned_abs());
        last = *at;
    }
    bytes
}

pub(super) fn unpack_names(mut rest: &[u8], newest: Timestamp) -> Result<Vec<(Name, Timestamp)>, SnapshotError> {
    let mut names: Vec<(Name, Timestamp)> = Vec::new();
    let mut last = newest;
    while !rest.is_empty() {
        let head = take_varint(&mut rest)?;
        let name = if head & 1 == 0 { common_name(head >> 1)? } else { other_name(&mut rest, head >> 1)? };
        let age = i64::try_from(take_varint(&mut rest)?).map_err(|_| damaged("a name is too old"))?;
        let at = last.millis().checked_sub(age).filter(|at| *at >= -FAREST_MILLIS);
        last = Timestamp::from_millis(at.ok_or_else(|| damaged("a name is too old"))?);
        if names.len() == NAMES_KEPT || names.iter().any(|(held, _)| *held == name) {
            return Err(damaged("there are more than 64 names, or one twice"));
        }
        names.push((name, last));
    }
    Ok(names)
}

fn common_name(code: u64) -> Result<Name, SnapshotError> {
    let known = u8::try_from(code).ok().and_then(Name::from_code);
    known.ok_or_else(|| damaged(format!("no event name has the code {code}")))
}

fn other_name(rest: &mut &[u8], length: u64) -> Result<Name, SnapshotError> {
    let length = usize::try_from(length).ok().filter(|length| (1..=NAME_BYTES).contains(length));
    let Some((text, after)) = length.and_then(|length| rest.split_at_checked(length)) else {
        return Err(damaged("a name is cut off or too long"));
    };
    *rest = after;
    Ok(Name::of(std::str::from_utf8(text).map_err(damaged)?))
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
