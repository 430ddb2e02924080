//! The fleet guard: an account whose events stop coming altogether has lost its tracking, not its customers.
//!
//! Volume is counted per quarter of an hour in which the stream stored the events, so neither a downtime of ours nor a
//! backlog looks like a collapse. [`assess`] compares the last six quarters with the same ones of other days. It is pure:
//! the pipeline brings the counts and the time, and remembers what was found.

pub(crate) mod outage; // what is not believed because of missing events
pub(crate) mod tally; // counting
mod words; // telling

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, ops::Range};

pub use self::{
    outage::{Outage, Outages},
    words::{ACCOUNT_TOKEN, alert},
};
use crate::event::time::Timestamp;

const SLOT_MILLIS: i64 = 15 * 60_000;
const SLOTS_A_DAY: i64 = 96;
const WEEK: i64 = 7;
/// Whole slots that are judged; what came of the current one counts in addition.
const JUDGED: i64 = 6;
/// An hour: so far a day's hours may be shifted against another's, as when clocks are changed.
const SHIFT: i64 = 4;
/// With fewer days before it nothing is called usual.
const FEWEST_DAYS: usize = 2;
/// Slots that are kept: a week, the slots judged on its first day, and some room.
pub const SLOTS_KEPT: i64 = (WEEK + 2) * SLOTS_A_DAY;

/// When volume counts as collapsed.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Accounts that usually have fewer events than this in the slots judged are left alone.
    pub minimum_events: u64,
    /// Collapsed below this share of what is usual.
    pub collapse_percent: u64,
    /// Back from this share of what is usual on.
    pub return_percent: u64,
}

/// How an account's volume looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Nothing changed: it is as usual, or it is still gone, or it cannot be told.
    AsBefore,
    /// It collapsed.
    Collapsed {
        /// Since when, at the earliest.
        since: Timestamp,
        /// How many events are usual in the slots judged.
        expected: u64,
        /// How many came.
        seen: u64,
    },
    /// It is back.
    Returned {
        /// How many events are usual in the slots judged.
        expected: u64,
        /// How many came.
        seen: u64,
    },
}

/// An account's events by the slot in which the stream stored them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Volume {
    /// The first slot in which any were ever counted; what lies before it is not known to be empty.
    pub first: Option<i64>,
    /// Events by slot.
    pub slots: BTreeMap<i64, u64>,
}

/// The slot that an instant lies in.
pub fn slot_of(at: Timestamp) -> i64 {
    at.millis().div_euclid(SLOT_MILLIS)
}

/// The first instant of a slot.
fn start_of(slot: i64) -> Timestamp {
    Timestamp::from_millis(slot.saturating_mul(SLOT_MILLIS))
}

impl Volume {
    fn sum(&self, slots: Range<i64>) -> u64 {
        self.slots.range(slots).fold(0, |sum, (_, events)| sum.saturating_add(*events))
    }
}

/// The days back at which [`assess`] looks.
struct DaysBack {
    /// The same weekday.
    week: i64,
    /// The newest of three days in a row.
    recent: i64,
}

impl DaysBack {
    /// While events are gone they are compared with the days before that.
    fn of(open: Option<&Outage>, end: i64) -> Self {
        let Some(open) = open else { return Self { week: WEEK, recent: 1 } };
        let slots = (end + SHIFT - slot_of(open.from)).max(1);
        let recent = (slots + SLOTS_A_DAY - 1) / SLOTS_A_DAY;
        Self { week: (recent + WEEK - 1) / WEEK * WEEK, recent }
    }
}

/// The slots whose events are judged as of `now`.
pub fn slots_now(now: Timestamp) -> Range<i64> {
    let end = slot_of(now);
    end - JUDGED..end + 1
}

/// The slots that [`assess`] compares them with, as ranges that do not overlap. Nothing comes into these any more.
pub fn slots_compared(outages: &[Outage], now: Timestamp) -> Vec<Range<i64>> {
    let end = slot_of(now);
    let back = DaysBack::of(open(outages), end);
    let days = (back.recent..back.recent + WEEK - 1).chain([back.week, WEEK]);
    let mut ranges: Vec<Range<i64>> = days.map(|days| slots_around(end - days * SLOTS_A_DAY)).collect();
    ranges.sort_unstable_by_key(|range| range.start);
    ranges.dedup();
    ranges
}

fn slots_before(end: i64) -> Range<i64> {
    end - JUDGED..end
}

fn slots_around(end: i64) -> Range<i64> {
    end - JUDGED - SHIFT..end + SHIFT
}

fn open(outages: &[Outage]) -> Option<&Outage> {
    outages.iter().find(|outage| outage.until.is_none())
}

/// Judges an account's volume as of `now`, up to which everything must have been counted.
///
/// Usual is what came in the same slots a week ago, or on the busiest of the last three days if that is less: so neither a
/// weekend nor the day after an import is a collapse, and a decline over some days is none either. Of each day the least of
/// three windows an hour apart counts: clocks are changed, and mornings begin late. Without last week the least of the
/// days known counts, and only next to nothing is a collapse: it may be the first weekend.
pub fn assess(volume: &Volume, outages: &[Outage], policy: Policy, now: Timestamp) -> Judgement {
    let end = slot_of(now);
    let seen = volume.sum(slots_now(now));
    let open = open(outages);
    let usual = usual(volume, outages, &DaysBack::of(open, end), end);
    let reaches = |percent: u64, of: u64| u128::from(seen) * 100 >= u128::from(percent) * u128::from(of);
    match (open, usual) {
        (Some(outage), usual) => {
            let expected = usual.map_or(outage.expected, |usual| usual.events);
            let anew = volume.sum(slots_before(end - WEEK * SLOTS_A_DAY));
            // It has been like this for a week: whoever was to come back has come back.
            let settled = end - slot_of(outage.from) > WEEK * SLOTS_A_DAY
                && anew >= policy.minimum_events
                && reaches(policy.return_percent, anew);
            if seen >= policy.minimum_events && (settled || reaches(policy.return_percent, expected)) {
                Judgement::Returned { expected, seen }
            } else {
                Judgement::AsBefore
            }
        }
        (None, Some(usual)) if usual.events >= policy.minimum_events => {
            let least = if usual.of_last_week { usual.events } else { usual.events / 10 };
            if reaches(policy.collapse_percent, least) {
                Judgement::AsBefore
            } else {
                Judgement::Collapsed { since: start_of(end - JUDGED), expected: usual.events, seen }
            }
        }
        (None, _) => Judgement::AsBefore,
    }
}

/// How many events are usual.
struct Usual {
    events: u64,
    of_last_week: bool,
}

fn usual(volume: &Volume, outages: &[Outage], back: &DaysBack, end: i64) -> Option<Usual> {
    let first = volume.first?;
    let day = |days: i64| {
        let end = end - days * SLOTS_A_DAY;
        let slots = slots_around(end);
        let holed = outages.iter().any(|outage| {
            let until = outage.until.map_or(i64::MAX, slot_of);
            slot_of(outage.from) < slots.end && until >= slots.start
        });
        let known = slots.start > first && !holed;
        [-SHIFT, 0, SHIFT].into_iter().map(|shift| volume.sum(slots_before(end + shift))).min().filter(|_| known)
    };
    let busiest = (back.recent..back.recent + 3).filter_map(day).max();
    if let Some(week) = day(back.week) {
        return Some(Usual { events: busiest.map_or(week, |busiest| busiest.min(week)), of_last_week: true });
    }
    let known: Vec<u64> = (back.recent..back.recent + WEEK - 1).filter_map(day).collect();
    let least = known.iter().min().copied()?;
    (known.len() >= FEWEST_DAYS).then_some(Usual { events: least, of_last_week: false })
}
