//! The newest 16 event ids of a customer, hashed: a repeat of one of them is recognized.
//!
//! Newest by event time, not by arrival: which ids are kept is a function of the set of events, so in whatever order
//! events and repeats of the newest 16 come, each counts once.

use crate::event::{ids::IdHash, time::Timestamp};

/// How many ids a customer's state holds.
pub(crate) const IDS_KEPT: usize = 16;

/// An id and the second of its event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RecentId {
    /// Seconds since the epoch, cut off below 0 and above `u32::MAX`.
    pub(crate) second: u32,
    /// The hashed id.
    pub(crate) id: IdHash,
}

/// The newest ids, ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RecentIds {
    ids: Vec<RecentId>,
}

impl RecentIds {
    pub(crate) fn from_ids(mut ids: Vec<RecentId>) -> Self {
        ids.sort_unstable();
        Self { ids }
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &RecentId> + ExactSizeIterator {
        self.ids.iter()
    }

    /// Notes an id; `false` if it is a repeat of one that is held.
    pub(crate) fn insert(&mut self, id: IdHash, at: Timestamp) -> bool {
        if self.ids.iter().any(|held| held.id == id) {
            return false;
        }
        self.keep(RecentId { second: u32::try_from(at.millis().div_euclid(1_000).max(0)).unwrap_or(u32::MAX), id });
        true
    }

    /// Holds `entry` if it is among the newest.
    pub(crate) fn keep(&mut self, entry: RecentId) {
        let newer = |held: &&RecentId| **held > entry;
        let place = self.ids.len() - self.ids.iter().rev().take_while(newer).count();
        if self.ids.len() == IDS_KEPT {
            if place > 0 {
                self.ids[..place].rotate_left(1);
                self.ids[place - 1] = entry;
            }
            return;
        }
        if self.ids.capacity() == self.ids.len() {
            self.ids.reserve_exact(4);
        }
        self.ids.insert(place, entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_of_the_newest_are_recognized_in_any_order() {
        let mut ids = RecentIds::default();
        let at = |number: i64| Timestamp::from_seconds(1_000 + number);
        for number in [5, 3, 9, 1, 7, 30, 20, 25, 11, 12, 13, 14, 15, 16, 17, 18, 19, 21, 22, 23] {
            assert!(ids.insert(IdHash::of(&number.to_string()), at(number)));
        }
        for number in [30, 25, 11, 23] {
            assert!(!ids.insert(IdHash::of(&number.to_string()), at(number)), "{number}");
        }
        assert!(ids.insert(IdHash::of("1"), at(1)), "an id older than the newest 16 is not recognized");
        assert_eq!(ids.iter().len(), IDS_KEPT);
    }
}
