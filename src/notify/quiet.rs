//! Quiet hours: whether an instant lies in them, and when they end. By the clocks of a place, whatever those are set to.

use jiff::{Timestamp as Instant, tz::TimeZone};

use crate::{event::time::Timestamp, store::channels::QuietHours};

/// When the quiet hours that `now` lies in end; `None` outside of them, and where they cannot be read.
///
/// They end at the first instant whose time of day lies outside: clocks that are put forward over their end end them, and
/// clocks that are put back into them begin them again.
pub(super) fn ends(quiet: &QuietHours, now: Timestamp) -> Option<Timestamp> {
    let zone = TimeZone::get(&quiet.zone).ok()?;
    let (from, to) = quiet.span()?;
    let is_quiet = |at: Instant| {
        let time = zone.to_datetime(at).time();
        if from < to { from <= time && time < to } else { time >= from || time < to }
    };
    let now = Instant::from_millisecond(now.millis()).ok()?;
    if !is_quiet(now) {
        return None;
    }
    let local = zone.to_datetime(now);
    let date = if local.time() < to { local.date() } else { local.date().tomorrow().ok()? };
    let end = zone.to_ambiguous_timestamp(date.to_datetime(to));
    let end = [end.earlier(), end.later()].into_iter().flatten().find(|end| *end > now && !is_quiet(*end))?;
    let shifted = zone.following(now).map(|shift| shift.timestamp()).take_while(|at| *at < end);
    let end = shifted.into_iter().find(|at| *at > now && !is_quiet(*at)).unwrap_or(end);
    Some(Timestamp::from_millis(end.as_millisecond()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hours(text: &str) -> QuietHours {
        let (span, zone) = text.split_once(' ').unwrap();
        let (from, to) = span.split_once('-').unwrap();
        QuietHours { from: from.to_owned(), to: to.to_owned(), zone: zone.to_owned() }
    }

    #[track_caller]
    fn check(quiet: &str, now: &str, end: &str) {
        let found = ends(&hours(quiet), now.parse().unwrap());
        assert_eq!(found.map_or("-".to_owned(), |end| end.to_string()), end);
    }

    #[test]
    fn they_end_by_the_clocks_of_their_place() {
        check("20:00-08:00 Europe/Berlin", "2026-11-22T18:59:59Z", "-");
        check("20:00-08:00 Europe/Berlin", "2026-11-22T19:00:00Z", "2026-11-23T07:00:00Z");
        check("20:00-08:00 Europe/Berlin", "2026-11-23T06:59:59Z", "2026-11-23T07:00:00Z");
        check("20:00-08:00 Europe/Berlin", "2026-11-23T07:00:00Z", "-");
        check("20:00-08:00 America/New_York", "2026-07-01T03:00:00Z", "2026-07-01T12:00:00Z");
        check("12:00-13:30 Asia/Kolkata", "2026-07-01T06:30:00Z", "2026-07-01T08:00:00Z");
        check("12:00-13:30 Asia/Kolkata", "2026-07-01T06:29:00Z", "-");
        check("00:00-06:00 UTC", "2026-12-31T23:59:00Z", "-");
        check("00:00-06:00 UTC", "2026-12-31T00:00:00Z", "2026-12-31T06:00:00Z");
        check("22:00-00:00 UTC", "2026-12-31T23:00:00Z", "2027-01-01T00:00:00Z");
    }

    #[test]
    fn clocks_that_are_put_forward_or_back_count() {
        // Berlin skips 02:00 to 03:00 on 29 March 2026, and has 02:00 to 03:00 twice on 25 October.
        check("20:00-08:00 Europe/Berlin", "2026-03-28T20:00:00Z", "2026-03-29T06:00:00Z");
        check("20:00-08:00 Europe/Berlin", "2026-10-24T20:00:00Z", "2026-10-25T07:00:00Z");
        check("20:00-02:30 Europe/Berlin", "2026-03-28T22:00:00Z", "2026-03-29T01:00:00Z");
        check("02:15-02:45 Europe/Berlin", "2026-03-29T00:59:00Z", "-");
        check("20:00-02:30 Europe/Berlin", "2026-10-25T00:10:00Z", "2026-10-25T00:30:00Z");
        check("20:00-02:30 Europe/Berlin", "2026-10-25T00:40:00Z", "-");
        check("20:00-02:30 Europe/Berlin", "2026-10-25T01:10:00Z", "2026-10-25T01:30:00Z");
        check("01:00-02:30 Europe/Berlin", "2026-10-25T01:10:00Z", "2026-10-25T01:30:00Z");
    }

    #[test]
    fn what_cannot_be_read_keeps_nothing_back() {
        check("20:00-08:00 Europe/Nowhere", "2026-11-22T23:00:00Z", "-");
        check("20-08 UTC", "2026-11-22T23:00:00Z", "-");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        /// All of the way is quiet, and the end is not.
        #[test]
        fn they_end_at_the_first_instant_that_is_not_quiet(
            zone in prop::sample::select(vec!["Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC"]),
            from in 0..96_u32, span in 1..96_u32, minute in 0..525_600_i64,
        ) {
            let clock = |quarter: u32| format!("{:02}:{:02}", quarter / 4 % 24, quarter % 4 * 15);
            let quiet = QuietHours { from: clock(from), to: clock(from + span), zone: zone.to_owned() };
            let now = "2026-01-01T00:00:00Z".parse::<Timestamp>().unwrap().plus_millis(minute * 60_000);
            if let Some(end) = ends(&quiet, now) {
                prop_assert!(end > now && end.millis_since(now) <= 26 * 3_600_000, "{end}");
                prop_assert_eq!(ends(&quiet, end), None);
                let mut at = now;
                while at < end {
                    prop_assert_eq!(ends(&quiet, at), Some(end), "at {}", at);
                    at = at.plus_millis(15 * 60_000);
                }
            }
        }
    }
}
