//! Snapshots: a state as bytes, a format version first, MessagePack after it.
//!
//! Buckets, ids and names are packed: a customer with 40 active hours takes less than 300 bytes. A newer version's
//! snapshots are refused by name; of older versions every one is read. Bytes from anywhere may be read: what is not a
//! state that could have been written is refused.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::{
    alert::AlertMemory,
    checkpoint::{Level, Status},
    names::Names,
    packed::{damaged, pack_buckets, pack_ids, pack_names, unpack_buckets, unpack_ids, unpack_names},
    recent_ids::RecentIds,
    state::{CustomerState, Evaluation, LINKS_KEPT, Signpost, Support},
    stripe::StripeState,
    usage::{DAYS_KEPT, HOURS_KEPT, Usage, bucket_index},
};
use crate::event::{ids::CustomerId, sentiment::Sentiment, time::Timestamp};

/// The version that is written.
pub const VERSION: u8 = 1;
/// No event lies further from 1970 than this: some 12,000 years.
pub(super) const FAREST_MILLIS: i64 = 400_000_000_000_000;

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

/// A state in the order in which version 1 writes its parts. Instants are milliseconds before the newest event.
#[derive(Serialize, Deserialize)]
struct SnapshotV1 {
    /// Since the epoch.
    newest: i64,
    first_seen: i64,
    names: ByteBuf,
    hours: ByteBuf,
    days: ByteBuf,
    ids: ByteBuf,
    support: Option<(i64, u8)>,
    stripe: Option<Box<StripeState>>,
    linked: Vec<u64>,
    transfers: Vec<u64>,
    moved_to: Option<(String, i64)>,
    alerts: (u8, u8, bool, [Option<i64>; 3], Option<u8>, u32),
    evaluated: Option<(u8, u8, u8, u64, u64)>,
    unsettled: bool,
}

/// Writes a state.
pub fn encode(state: &CustomerState) -> Vec<u8> {
    let newest = state.newest;
    let before = |at: Timestamp| newest.millis_since(at);
    let (hour, day) = (bucket_index(newest.hour()), bucket_index(newest.day()));
    let snapshot = SnapshotV1 {
        newest: newest.millis(),
        first_seen: before(state.first_seen),
        names: ByteBuf::from(pack_names(state.names.iter(), newest)),
        hours: ByteBuf::from(pack_buckets(state.usage.hours(), hour)),
        days: ByteBuf::from(pack_buckets(state.usage.older_days().iter().copied(), day)),
        ids: ByteBuf::from(pack_ids(&state.ids)),
        support: state.support.map(|support| (before(support.at), support.sentiment as u8)),
        stripe: state.stripe.clone(),
        linked: state.linked.clone(),
        transfers: state.transfers.clone(),
        moved_to: state.moved_to.as_ref().map(|signpost| (signpost.to.as_str().to_owned(), before(signpost.at))),
        alerts: (
            state.alerts.level as u8,
            state.alerts.score,
            state.alerts.churned,
            state.alerts.announced.map(|at| at.map(before)),
            state.alerts.held.map(|level| level as u8),
            state.alerts.told,
        ),
        evaluated: state
            .evaluated
            .map(|last| (last.score, last.level as u8, last.status as u8, last.active, last.rules)),
        unsettled: state.unsettled,
    };
    let mut bytes = Vec::with_capacity(384);
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
        let newest = possible(self.newest)?;
        let instant = |before: i64| possible(newest.millis().saturating_sub(before));
        let (hour, day) = (bucket_index(newest.hour()), bucket_index(newest.day()));
        let hours = unpack_buckets(&self.hours, hour, HOURS_KEPT)?;
        let days = unpack_buckets(&self.days, day, DAYS_KEPT)?;
        let moved_to = match self.moved_to {
            Some((to, at)) => {
                let to = CustomerId::parse(&to).map_err(damaged)?;
                Some(Box::new(Signpost { to, at: instant(at)? }))
            }
            None => None,
        };
        let support = match self.support {
            Some((at, sentiment)) => Some(Support { at: instant(at)?, sentiment: sentiment_of(sentiment)? }),
            None => None,
        };
        if !self.stripe.as_ref().is_none_or(|stripe| stripe.is_sound()) {
            return Err(damaged("what Stripe said is not in order"));
        }
        let announced = |at: Option<i64>| at.map(instant).transpose();
        let (level, score, churned, [low, medium, high], held, told) = self.alerts;
        Ok(CustomerState {
            first_seen: instant(self.first_seen)?.min(newest),
            newest,
            names: Names::from_seen(unpack_names(&self.names, newest)?),
            usage: Usage::from_buckets(hours, days),
            ids: RecentIds::from_ids(unpack_ids(&self.ids)?),
            support,
            stripe: self.stripe,
            linked: hashes(self.linked)?,
            transfers: hashes(self.transfers)?,
            moved_to,
            alerts: AlertMemory {
                level: level_of(level)?,
                score,
                churned,
                announced: [announced(low)?, announced(medium)?, announced(high)?],
                held: held.map(level_of).transpose()?,
                told,
            },
            evaluated: self.evaluated.map(evaluation).transpose()?,
            unsettled: self.unsettled,
        })
    }
}

fn possible(millis: i64) -> Result<Timestamp, SnapshotError> {
    let allowed = -FAREST_MILLIS..=FAREST_MILLIS;
    allowed.contains(&millis).then(|| Timestamp::from_millis(millis)).ok_or_else(|| damaged("an instant is impossible"))
}

fn hashes(hashes: Vec<u64>) -> Result<Vec<u64>, SnapshotError> {
    let sound = hashes.len() <= LINKS_KEPT && hashes.is_sorted_by(|one, next| one < next);
    sound.then_some(hashes).ok_or_else(|| damaged("links are not in order"))
}

fn evaluation(stored: (u8, u8, u8, u64, u64)) -> Result<Evaluation, SnapshotError> {
    let (score, level, status, active, rules) = stored;
    Ok(Evaluation { score, level: level_of(level)?, status: status_of(status)?, active, rules })
}

fn level_of(code: u8) -> Result<Level, SnapshotError> {
    by_code("level", [Level::Low, Level::Medium, Level::High], code)
}

fn status_of(code: u8) -> Result<Status, SnapshotError> {
    by_code("status", [Status::Active, Status::Churned, Status::Moved], code)
}

fn sentiment_of(code: u8) -> Result<Sentiment, SnapshotError> {
    by_code("sentiment", [Sentiment::Negative, Sentiment::Neutral, Sentiment::Positive], code)
}

fn by_code<T: Copy>(kind: &str, all: [T; 3], code: u8) -> Result<T, SnapshotError> {
    all.get(usize::from(code)).copied().ok_or_else(|| damaged(format!("no {kind} has the code {code}")))
}
