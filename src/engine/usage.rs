//! Usage windows: how often a customer used the product, per UTC hour for 14 days and per UTC day for 60.
//!
//! The counts are a function of the set of events alone: hours and days are kept relative to the customer's newest
//! event. An hour that grows too old for the hourly window is folded into its day. Sums of the hourly windows are kept
//! running by a [`Cursor`], so an event costs O(1) amortized; the cursor is a cache and is never stored.

use std::collections::VecDeque;

use crate::event::time::Timestamp;

/// Hours that are kept, counted back from the hour of the newest event and including it.
pub(crate) const HOURS_KEPT: i64 = 14 * 24;
/// Days that are kept, counted back from the day of the newest event and including it.
pub(crate) const DAYS_KEPT: i64 = 60;

/// How often something happened in one bucket of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bucket {
    /// The UTC hour or day, counted from the epoch.
    pub(crate) index: i32,
    /// Usage events in it.
    pub(crate) count: u32,
}

/// Two neighboring windows that end with the hour (or day) of an instant, that one included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WindowSums {
    /// Usage in the later window.
    pub(crate) current: u64,
    /// Usage in the window before it.
    pub(crate) previous: u64,
}

/// A window's length, in the unit it is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WindowLength {
    /// Up to 7 days.
    Hours(i32),
    /// Longer, up to 30 days.
    Days(i32),
}

impl WindowLength {
    /// The window of a rule that is written in days.
    pub(crate) fn from_days(days: u8) -> Self {
        if days <= 7 { Self::Hours(i32::from(days) * 24) } else { Self::Days(i32::from(days)) }
    }

    /// How many buckets it has.
    pub(crate) fn length(self) -> i32 {
        match self {
            Self::Hours(length) | Self::Days(length) => length,
        }
    }

    /// The bucket an instant lies in.
    pub(crate) fn index_of(self, instant: Timestamp) -> i32 {
        match self {
            Self::Hours(_) => bucket_index(instant.hour()),
            Self::Days(_) => bucket_index(instant.day()),
        }
    }

    /// The first instant of a bucket.
    pub(crate) fn start_of(self, index: i32) -> Timestamp {
        match self {
            Self::Hours(_) => Timestamp::start_of_hour(i64::from(index)),
            Self::Days(_) => Timestamp::start_of_day(i64::from(index)),
        }
    }
}

/// Running sums of one pair of hourly windows.
#[derive(Clone, Copy, Debug)]
struct Cursor {
    /// The windows' length in hours.
    length: i32,
    /// The last hour of the current window; never before the newest event's hour.
    hour: i32,
    sums: WindowSums,
    /// Where in `hours` the current and the previous window begin.
    current_from: usize,
    previous_from: usize,
}

/// A customer's usage counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Usage {
    /// Ascending, each with a count above zero.
    hours: VecDeque<Bucket>,
    /// What of each day is not in `hours` any more; ascending, each with a count above zero.
    days: Vec<Bucket>,
    cursor: Option<Cursor>,
}

/// Whether an event's usage was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counted {
    /// It stands in an hour or a day.
    Yes,
    /// It is older than every window.
    TooOld,
}

impl PartialEq for Usage {
    fn eq(&self, other: &Self) -> bool {
        self.hours == other.hours && self.days == other.days
    }
}

impl Usage {
    /// Takes stored buckets over; both must ascend.
    pub(crate) fn from_buckets(hours: Vec<Bucket>, days: Vec<Bucket>) -> Self {
        Self { hours: hours.into(), days, cursor: None }
    }

    /// The hourly buckets, ascending.
    pub(crate) fn hours(&self) -> impl DoubleEndedIterator<Item = Bucket> + ExactSizeIterator {
        self.hours.iter().copied()
    }

    /// What the days hold beyond the hourly buckets, ascending.
    pub(crate) fn older_days(&self) -> &[Bucket] {
        &self.days
    }

    /// Counts `count` usage events at `at`, given the customer's newest event, `at` included.
    pub(crate) fn add(&mut self, at: Timestamp, count: u32, newest: Timestamp) -> Counted {
        if at == newest && self.add_to_last_hour(bucket_index(at.hour()), count) {
            return Counted::Yes;
        }
        self.advance_newest(newest);
        if at.hour() > newest.hour() - HOURS_KEPT {
            self.add_to_hour(bucket_index(at.hour()), count);
            Counted::Yes
        } else if at.day() > newest.day() - DAYS_KEPT {
            add_sorted(&mut self.days, bucket_index(at.day()), count);
            Counted::Yes
        } else {
            Counted::TooOld
        }
    }

    /// Forgets what the newest event made too old, folding hours into their days.
    pub(crate) fn advance_newest(&mut self, newest: Timestamp) {
        let oldest_hour = bucket_index(newest.hour() - HOURS_KEPT + 1);
        if self.hours.front().is_some_and(|first| first.index < oldest_hour) {
            if let Some(cursor) = &mut self.cursor {
                cursor.advance(bucket_index(newest.hour()), &self.hours);
            }
            while let Some(first) = self.hours.front().copied().filter(|first| first.index < oldest_hour) {
                self.hours.pop_front();
                if let Some(cursor) = &mut self.cursor {
                    cursor.forget_first();
                }
                add_sorted(&mut self.days, first.index.div_euclid(24), first.count);
            }
        }
        let oldest_day = bucket_index(newest.day() - DAYS_KEPT + 1);
        if self.days.first().is_some_and(|first| first.index < oldest_day) {
            self.days.retain(|day| day.index >= oldest_day);
        }
    }

    /// The sums of two windows that end with the bucket of `as_of`, by looking at every bucket.
    pub(crate) fn sums(&self, length: WindowLength, as_of: Timestamp) -> WindowSums {
        let last = length.index_of(as_of);
        let (current_from, previous_from) = window_starts(last, length.length());
        let mut sums = WindowSums { current: 0, previous: 0 };
        let mut count = |bucket: Bucket| {
            if bucket.index > last || bucket.index < previous_from {
            } else if bucket.index >= current_from {
                sums.current += u64::from(bucket.count);
            } else {
                sums.previous += u64::from(bucket.count);
            }
        };
        match length {
            WindowLength::Hours(_) => self.hours.iter().copied().for_each(&mut count),
            WindowLength::Days(_) => self.day_totals().into_iter().for_each(&mut count),
        }
        sums
    }

    /// All buckets of a window's unit, ascending.
    pub(crate) fn buckets(&self, length: WindowLength) -> Vec<Bucket> {
        match length {
            WindowLength::Hours(_) => self.hours.iter().copied().collect(),
            WindowLength::Days(_) => self.day_totals(),
        }
    }

    /// The same sums as [`Usage::sums`], kept running from call to call. `as_of` must not lie before the newest event.
    pub(crate) fn running_sums(&mut self, length: WindowLength, as_of: Timestamp) -> WindowSums {
        let WindowLength::Hours(hours) = length else { return self.sums(length, as_of) };
        let hour = length.index_of(as_of);
        match &mut self.cursor {
            Some(cursor) if cursor.length == hours && cursor.hour <= hour => {
                cursor.advance(hour, &self.hours);
                cursor.sums
            }
            Some(cursor) if cursor.length == hours => self.sums(length, as_of),
            _ => {
                let cursor = Cursor::build(hours, hour, &self.hours);
                self.cursor = Some(cursor);
                cursor.sums
            }
        }
    }

    /// The first bucket after that of `after` at which `holds` changes its answer, if nothing more is counted.
    pub(crate) fn next_flip(
        &self,
        length: WindowLength,
        after: Timestamp,
        holds: impl Fn(WindowSums) -> bool,
    ) -> Option<Timestamp> {
        let buckets = self.buckets(length);
        let (window, start) = (length.length(), length.index_of(after));
        let (current_from, previous_from) = window_starts(start, window);
        let mut leaves_current = buckets.partition_point(|bucket| bucket.index < current_from);
        let mut leaves_previous = buckets.partition_point(|bucket| bucket.index < previous_from);
        let mut sums = self.sums(length, after);
        let before = holds(sums);
        loop {
            let from_current = buckets.get(leaves_current).map(|bucket| bucket.index + window);
            let from_previous = buckets.get(leaves_previous).map(|bucket| bucket.index + 2 * window);
            let at = from_current.into_iter().chain(from_previous).min()?;
            while let Some(bucket) = buckets.get(leaves_current).filter(|bucket| bucket.index + window == at) {
                sums.current -= u64::from(bucket.count);
                sums.previous += u64::from(bucket.count);
                leaves_current += 1;
            }
            while let Some(bucket) = buckets.get(leaves_previous).filter(|bucket| bucket.index + 2 * window == at) {
                sums.previous -= u64::from(bucket.count);
                leaves_previous += 1;
            }
            if holds(sums) != before {
                return Some(length.start_of(at));
            }
        }
    }

    /// Counts usage in the hour of the newest event where that has usage already; then nothing has grown too old.
    fn add_to_last_hour(&mut self, hour: i32, count: u32) -> bool {
        let Some(last) = self.hours.back_mut().filter(|last| last.index == hour) else { return false };
        last.count = last.count.saturating_add(count);
        if let Some(cursor) = &mut self.cursor {
            cursor.count(hour, count, &self.hours);
        }
        true
    }

    fn add_to_hour(&mut self, hour: i32, count: u32) {
        match self.hours.back_mut() {
            Some(last) if last.index == hour => last.count = last.count.saturating_add(count),
            Some(last) if last.index > hour => self.add_to_late_hour(hour, count),
            _ => self.insert_hour(self.hours.len(), Bucket { index: hour, count }),
        }
        if let Some(cursor) = &mut self.cursor {
            cursor.count(hour, count, &self.hours);
        }
    }

    fn add_to_late_hour(&mut self, hour: i32, count: u32) {
        let place = self.hours.partition_point(|bucket| bucket.index < hour);
        if let Some(bucket) = self.hours.get_mut(place).filter(|bucket| bucket.index == hour) {
            bucket.count = bucket.count.saturating_add(count);
            return;
        }
        self.insert_hour(place, Bucket { index: hour, count });
    }

    fn insert_hour(&mut self, place: usize, bucket: Bucket) {
        if place == self.hours.len() {
            self.hours.push_back(bucket);
        } else {
            self.hours.insert(place, bucket);
        }
        if let Some(cursor) = &mut self.cursor {
            cursor.make_room(bucket.index);
        }
    }

    fn day_totals(&self) -> Vec<Bucket> {
        let mut days = self.days.clone();
        for bucket in &self.hours {
            add_sorted(&mut days, bucket.index.div_euclid(24), bucket.count);
        }
        days
    }
}

impl Cursor {
    fn build(length: i32, hour: i32, hours: &VecDeque<Bucket>) -> Self {
        let (current_from, previous_from) = window_starts(hour, length);
        let place = |from: i32| hours.partition_point(|bucket| bucket.index < from);
        let (current_from, previous_from) = (place(current_from), place(previous_from));
        let sum = |range: std::ops::Range<usize>| hours.range(range).map(|bucket| u64::from(bucket.count)).sum();
        let sums = WindowSums { current: sum(current_from..hours.len()), previous: sum(previous_from..current_from) };
        Self { length, hour, sums, current_from, previous_from }
    }

    /// Moves the windows on to `hour`, which must not lie before the present one.
    fn advance(&mut self, hour: i32, hours: &VecDeque<Bucket>) {
        if hour <= self.hour {
            return;
        }
        self.hour = hour;
        let (current_from, previous_from) = window_starts(hour, self.length);
        while let Some(bucket) = hours.get(self.current_from).filter(|bucket| bucket.index < current_from) {
            self.sums.current -= u64::from(bucket.count);
            self.sums.previous += u64::from(bucket.count);
            self.current_from += 1;
        }
        while let Some(bucket) = hours.get(self.previous_from).filter(|bucket| bucket.index < previous_from) {
            self.sums.previous -= u64::from(bucket.count);
            self.previous_from += 1;
        }
    }

    /// Accounts for usage in `hour`, whose bucket stands in `hours` already.
    fn count(&mut self, hour: i32, count: u32, hours: &VecDeque<Bucket>) {
        self.advance(hour, hours);
        let (current_from, previous_from) = window_starts(self.hour, self.length);
        if hour >= current_from {
            self.sums.current += u64::from(count);
        } else if hour >= previous_from {
            self.sums.previous += u64::from(count);
        }
    }

    /// A bucket for `hour` was put before, between or after the others.
    fn make_room(&mut self, hour: i32) {
        let (current_from, previous_from) = window_starts(self.hour, self.length);
        self.current_from += usize::from(hour < current_from);
        self.previous_from += usize::from(hour < previous_from);
    }

    /// The first bucket is gone. It lay before both windows: the cursor is never behind the newest event.
    fn forget_first(&mut self) {
        debug_assert!(self.previous_from > 0, "a bucket inside a window was forgotten");
        self.current_from = self.current_from.saturating_sub(1);
        self.previous_from = self.previous_from.saturating_sub(1);
    }
}

/// Where the current and the previous window begin, the current one ending with bucket `last`.
fn window_starts(last: i32, length: i32) -> (i32, i32) {
    (last.saturating_sub(length - 1), last.saturating_sub(2 * length - 1))
}

/// A bucket's index in the width it is kept in.
pub(crate) fn bucket_index(index: i64) -> i32 {
    i32::try_from(index).unwrap_or(if index < 0 { i32::MIN / 4 } else { i32::MAX / 4 })
}

fn add_sorted(buckets: &mut Vec<Bucket>, index: i32, count: u32) {
    let place = buckets.partition_point(|bucket| bucket.index < index);
    match buckets.get_mut(place) {
        Some(bucket) if bucket.index == index => bucket.count = bucket.count.saturating_add(count),
        _ => buckets.insert(place, Bucket { index, count }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WEEK: WindowLength = WindowLength::Hours(168);

    fn at_hour(hour: i64) -> Timestamp {
        Timestamp::start_of_hour(hour)
    }

    proptest! {
        #[test]
        fn running_sums_equal_the_scan(
            steps in prop::collection::vec((0i64..900, any::<bool>(), 0i64..40), 1..200),
        ) {
            let mut usage = Usage::default();
            let mut newest = at_hour(0);
            let mut asked = newest;
            for (hour, ask, ahead) in steps {
                newest = newest.max(at_hour(hour));
                usage.add(at_hour(hour), 1, newest);
                if ask {
                    asked = asked.max(newest).plus_millis(ahead * 3_600_000);
                    let expected = usage.sums(WEEK, asked);
                    prop_assert_eq!(usage.running_sums(WEEK, asked), expected);
                }
            }
        }

        #[test]
        fn order_does_not_matter(hours in prop::collection::vec(0i64..2_500, 1..120), rotate in 0usize..120) {
            let fill = |hours: &[i64]| {
                let (mut usage, mut newest) = (Usage::default(), at_hour(hours[0]));
                for hour in hours {
                    newest = newest.max(at_hour(*hour));
                    usage.add(at_hour(*hour), 1, newest);
                }
                usage
            };
            let mut rotated = hours.clone();
            rotated.rotate_left(rotate % hours.len());
            prop_assert_eq!(fill(&hours), fill(&rotated));
        }

        #[test]
        fn next_flip_is_the_first_hour_that_differs(hours in prop::collection::vec(0i64..400, 1..60)) {
            let (mut usage, newest) = (Usage::default(), at_hour(*hours.iter().max().unwrap()));
            for hour in &hours {
                usage.add(at_hour(*hour), 1, newest);
            }
            let dropped = |sums: WindowSums| sums.current * 2 < sums.previous;
            let now = dropped(usage.sums(WEEK, newest));
            let stepped = (1..800)
                .map(|ahead| newest.plus_millis(ahead * 3_600_000))
                .find(|instant| dropped(usage.sums(WEEK, *instant)) != now);
            prop_assert_eq!(usage.next_flip(WEEK, newest, dropped), stepped);
        }
    }

    #[test]
    fn late_usage_before_both_windows_stays_out_of_the_running_sums() {
        let mut usage = Usage::default();
        usage.add(at_hour(10), 1, at_hour(10));
        usage.running_sums(WEEK, at_hour(1_000));
        usage.add(at_hour(20), 1, at_hour(20));
        assert_eq!(usage.running_sums(WEEK, at_hour(1_001)), WindowSums { current: 0, previous: 0 });
    }

    #[test]
    fn hours_fold_into_days_when_they_grow_old() {
        let mut usage = Usage::default();
        usage.add(at_hour(10), 3, at_hour(10));
        usage.add(at_hour(10 + 336), 1, at_hour(10 + 336));
        assert_eq!(usage.hours().len(), 1);
        assert_eq!(usage.older_days(), [Bucket { index: 0, count: 3 }]);
        assert_eq!(usage.add(at_hour(9), 1, at_hour(10 + 336)), Counted::Yes);
        assert_eq!(usage.add(at_hour(9 - 60 * 24), 1, at_hour(10 + 336)), Counted::TooOld);
    }
}
