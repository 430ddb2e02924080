//! Which time a message counts at: the sender's, corrected where its clock is plainly wrong, and never after the receipt.

use jiff::{civil::DateTime, tz::TimeZone};
use serde_json::value::RawValue;

use crate::event::time::Timestamp;

/// A smaller difference between sending and receiving is the way, not the clock.
const CLOCK_IS_WRONG_MILLIS: i64 = 5 * 60_000;
/// Whole numbers below are seconds since 1970, from here on they are milliseconds.
const FIRST_MILLIS: i64 = 100_000_000_000;

/// The sender's clock, by what it said when it sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Skew {
    /// What to add to the sender's times.
    millis: i64,
}

impl Skew {
    /// How far the sender's clock is off; not at all where that may be the time the message took.
    pub(super) fn between(sent_at: Option<Timestamp>, received_at: Timestamp) -> Self {
        let millis = sent_at.map_or(0, |sent_at| received_at.millis_since(sent_at));
        Self { millis: if millis.saturating_abs() >= CLOCK_IS_WRONG_MILLIS { millis } else { 0 } }
    }

    /// An instant of the sender's clock.
    pub(super) fn correct(self, told: Timestamp) -> Timestamp {
        told.plus_millis(self.millis)
    }
}

/// Reads a time as the SDKs write it: RFC 3339, without an offset (then UTC), a date alone, or a whole number.
pub(super) fn parse(raw: &RawValue) -> Option<Timestamp> {
    if let Ok(number) = raw.get().parse::<i64>() {
        return in_range(if number < FIRST_MILLIS {
            Timestamp::from_seconds(number)
        } else {
            Timestamp::from_millis(number)
        });
    }
    let text: String = serde_json::from_str(raw.get()).ok()?;
    let text = text.trim();
    text.parse().ok().or_else(|| {
        let local: DateTime = text.parse().ok()?;
        Some(Timestamp::from_millis(local.to_zoned(TimeZone::UTC).ok()?.timestamp().as_millisecond()))
    })
}

/// Only what can be written as a date can travel in an event.
fn in_range(instant: Timestamp) -> Option<Timestamp> {
    jiff::Timestamp::from_millisecond(instant.millis()).ok().map(|_| instant)
}
