//! Judging volumes: cases, and properties against a model that looks at one slot after the other.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const POLICY: Policy = Policy { minimum_events: 100, collapse_percent: 10, return_percent: 50 };
const DAY: i64 = SLOTS_A_DAY;
const WEEK_SLOTS: i64 = 7 * DAY;
/// A Monday, 00:00 UTC, as a slot.
const MONDAY: i64 = 20_513 * DAY;

/// The volume from `from` up to `until` as a function of the slot.
fn volume(from: i64, until: i64, events: impl Fn(i64) -> u64) -> Volume {
    Volume { first: Some(from), slots: (from..until).map(|slot| (slot, events(slot))).collect() }
}

/// The very beginning of a slot: nothing of it has come yet.
fn at(slot: i64) -> Timestamp {
    start_of(slot)
}

fn judge(volume: &Volume, outages: &[Outage], slot: i64) -> Judgement {
    assess(volume, outages, POLICY, at(slot))
}

/// Working days have ten times a weekend's events, and days ten times a night's.
fn office(slot: i64) -> u64 {
    let (day, hour) = ((slot - MONDAY).div_euclid(DAY).rem_euclid(7), slot.rem_euclid(DAY) / 4);
    let daily = if day < 5 { 500 } else { 4 };
    if (8..18).contains(&hour) { daily } else { daily / 10 }
}

fn open_since(slot: i64, expected: u64) -> Outage {
    Outage { from: at(slot), until: None, expected }
}

/// What is found first from `from` on, and in which slot.
fn first_found(volume: &Volume, outages: &[Outage], from: i64, until: i64) -> Option<(i64, Judgement)> {
    (from..until).map(|slot| (slot, judge(volume, outages, slot))).find(|(_, found)| *found != Judgement::AsBefore)
}

#[test]
fn nights_and_weekends_are_no_collapse() {
    let all = volume(MONDAY - 8 * DAY, MONDAY + 3 * WEEK_SLOTS, office);
    assert_eq!(first_found(&all, &[], MONDAY, MONDAY + 3 * WEEK_SLOTS), None);
}

#[test]
fn tracking_that_breaks_is_noticed_within_105_minutes_and_its_return_within_90() {
    let broken = MONDAY + WEEK_SLOTS + DAY + 4 * 10 + 1;
    let mended = broken + 3 * DAY + 20;
    let is_gone = |slot| (broken..mended).contains(&slot);
    let all = volume(MONDAY - 8 * DAY, MONDAY + 4 * WEEK_SLOTS, |slot| if is_gone(slot) { 3 } else { office(slot) });
    let (noticed, found) = first_found(&all, &[], MONDAY, mended).unwrap();
    assert!((broken..=broken + 7).contains(&noticed), "{}", noticed - broken);
    let Judgement::Collapsed { since, expected, .. } = found else { panic!("{found:?}") };
    assert!((broken - 1..=broken).contains(&slot_of(since)), "{}", slot_of(since) - broken);
    assert_eq!(expected, 6 * 500);
    let (released, found) = first_found(&all, &[open_since(slot_of(since), expected)], noticed, mended + DAY).unwrap();
    assert!(matches!(found, Judgement::Returned { .. }), "{found:?}");
    assert!((mended..=mended + 6).contains(&released), "{}", released - mended);
    // The days of the outage are not what is usual afterwards.
    let past = [Outage { until: Some(at(released)), ..open_since(slot_of(since), expected) }];
    assert_eq!(first_found(&all, &past, released, MONDAY + 4 * WEEK_SLOTS), None);
    let gone_again = volume(MONDAY - 8 * DAY, released + DAY, |slot| if is_gone(slot) { 3 } else { office(slot) });
    let (noticed, found) = first_found(&gone_again, &past, released, released + 5 * DAY).unwrap();
    assert!(matches!(found, Judgement::Collapsed { .. }) && noticed <= released + 4 * DAY, "{found:?}");
}

#[test]
fn clocks_that_are_changed_are_no_collapse() {
    let changed = MONDAY + 2 * WEEK_SLOTS - DAY;
    // Nothing at night, hundreds by day.
    let strict = |slot: i64| if office(slot) > 50 { 500 } else { 0 };
    for shift in [-4, 4] {
        let of = |slot: i64| strict(if slot < changed { slot } else { slot + shift });
        let all = volume(MONDAY - 8 * DAY, MONDAY + 4 * WEEK_SLOTS, of);
        assert_eq!(first_found(&all, &[], MONDAY, MONDAY + 4 * WEEK_SLOTS), None);
    }
}

#[test]
fn a_slow_decline_is_churn_and_no_collapse() {
    // By half, day for day.
    let falling = |slot: i64| 2_000_000_u64 >> (slot - MONDAY).div_euclid(DAY).clamp(0, 20);
    let all = volume(MONDAY - 9 * DAY, MONDAY + 12 * DAY, falling);
    assert_eq!(first_found(&all, &[], MONDAY, MONDAY + 12 * DAY), None);
}

#[test]
fn an_import_is_not_what_is_usual() {
    let import = MONDAY + 40..MONDAY + 44;
    let all = volume(MONDAY - 9 * DAY, MONDAY + 12 * DAY, |slot| if import.contains(&slot) { 90_000 } else { 100 });
    assert_eq!(first_found(&all, &[], MONDAY, MONDAY + 12 * DAY), None);
}

#[test]
fn a_young_account_is_judged_from_its_third_day_on_and_only_by_utter_silence() {
    let young =
        |seen: u64| volume(MONDAY, MONDAY + 3 * DAY + 48, move |slot| if slot < MONDAY + 3 * DAY { 100 } else { seen });
    let noon = MONDAY + 3 * DAY + 48;
    assert!(matches!(judge(&young(0), &[], noon), Judgement::Collapsed { expected: 600, .. }));
    assert_eq!(judge(&young(2), &[], noon), Judgement::AsBefore, "it may be the first weekend");
    let younger = volume(MONDAY + 2 * DAY, noon, |slot| if slot < MONDAY + 3 * DAY { 100 } else { 0 });
    assert_eq!(judge(&younger, &[], noon), Judgement::AsBefore, "one day tells nothing");
}

#[test]
fn a_quiet_account_is_left_alone() {
    let quiet = volume(MONDAY - 9 * DAY, MONDAY, |_| 16);
    assert_eq!(first_found(&quiet, &[], MONDAY - DAY, MONDAY + 3 * DAY), None);
}

#[test]
fn an_account_that_lives_on_with_less_is_released_after_a_week_and_a_dead_one_never() {
    let broken = MONDAY + WEEK_SLOTS;
    let outage = [open_since(broken, 3_000)];
    let less = |of: u64| volume(MONDAY - 9 * DAY, broken + 40 * DAY, move |slot| if slot < broken { 500 } else { of });
    let (released, _) = first_found(&less(50), &outage, broken + JUDGED, broken + 40 * DAY).unwrap();
    assert!((broken + WEEK_SLOTS..=broken + WEEK_SLOTS + 7).contains(&released));
    assert_eq!(first_found(&less(0), &outage, broken + JUDGED, broken + 40 * DAY), None);
    let forgotten = Volume { first: None, ..Volume::default() };
    assert_eq!(judge(&forgotten, &outage, broken + 300 * DAY), Judgement::AsBefore);
}

#[test]
fn the_words_are_plain() {
    let account = crate::event::ids::AccountId::parse("acme").unwrap();
    let collapsed = Judgement::Collapsed { since: at(MONDAY), expected: 4_123, seen: 3 };
    let (id, row) = alert(&account, collapsed, at(MONDAY), at(MONDAY + 7)).unwrap();
    let body: serde_json::Value = serde_json::from_slice(&row.body).unwrap();
    assert_eq!(body["kind"], "ingest.anomaly");
    assert_eq!((&body["customerId"], &body["level"]), (&serde_json::Value::Null, &"high".into()));
    assert_eq!(
        body["factors"][0],
        "Events fell to 3 in the last 90 minutes, usually about 4,100: tracking may be broken"
    );
    assert_eq!(row.subject, format!("churn.alerts.acme.high.=account.{id}"));
    assert!(subject_is_nobodys());
    let returned = Judgement::Returned { expected: 1_234_567, seen: 999 };
    let (other, row) = alert(&account, returned, at(MONDAY), at(MONDAY + 9)).unwrap();
    let body: serde_json::Value = serde_json::from_slice(&row.body).unwrap();
    assert_eq!(body["factors"][0], "Events are back: 999 in the last 90 minutes, usually about 1,200,000");
    assert_eq!((&body["level"], &body["previousLevel"]), (&"low".into(), &"high".into()));
    assert_ne!(id, other);
    assert!(alert(&account, Judgement::AsBefore, at(0), at(0)).is_none());
}

fn subject_is_nobodys() -> bool {
    crate::event::subject::decode(ACCOUNT_TOKEN).is_err()
}

/// The judgement again, as plainly as it is described: one slot after the other, one day after the other.
fn naive(volume: &Volume, outages: &[Outage], now: Timestamp) -> &'static str {
    let current = now.millis().div_euclid(900_000);
    let count = |slot: i64| volume.slots.get(&slot).copied().unwrap_or(0);
    let seen: u64 = (current - 6..=current).map(count).sum();
    let missing = |slot: i64| {
        outages.iter().any(|outage| {
            let end = outage.until.map_or(i64::MAX, Timestamp::millis).div_euclid(900_000);
            outage.from.millis().div_euclid(900_000) <= slot && slot <= end
        })
    };
    let of_day = |back: i64| {
        let from = current - 6 - back * 96;
        let known = (from - 4..from + 10).all(|slot| volume.first.is_some_and(|first| slot > first) && !missing(slot));
        let sum = |from: i64| (from..from + 6).map(count).sum::<u64>();
        known.then(|| sum(from - 4).min(sum(from)).min(sum(from + 4)))
    };
    let open = outages.iter().find(|outage| outage.until.is_none());
    let mut newest = 1;
    while open.is_some_and(|open| current + 4 - newest * 96 > open.from.millis().div_euclid(900_000)) {
        newest += 1;
    }
    let mut same_weekday = 7;
    while same_weekday < newest {
        same_weekday += 7;
    }
    let days: Vec<u64> = (newest..newest + 6).filter_map(of_day).collect();
    let usual = match (of_day(same_weekday), (newest..newest + 3).filter_map(of_day).max()) {
        (Some(week), Some(busiest)) => Some((week.min(busiest), 1)),
        (Some(week), None) => Some((week, 1)),
        (None, _) if days.len() >= 2 => Some((*days.iter().min().unwrap(), 10)),
        (None, _) => None,
    };
    match (open, usual) {
        (Some(open), usual) => {
            let expected = usual.map_or(open.expected, |(events, _)| events);
            let a_week_ago: u64 = (current - 6..current).map(|slot| count(slot - 672)).sum();
            let lasting = current - open.from.millis().div_euclid(900_000) > 672;
            let back = seen * 2 >= expected || (lasting && a_week_ago >= 100 && seen * 2 >= a_week_ago);
            if seen >= 100 && back { "returned" } else { "as before" }
        }
        (None, Some((events, share))) if events >= 100 && seen * 10 < events / share => "collapsed",
        (None, _) => "as before",
    }
}

fn drawn_volume() -> impl Strategy<Value = Volume> {
    let day = prop_oneof![Just(0_u64), Just(4), Just(17), Just(60), Just(500)];
    (proptest::collection::vec(day, 24), 0..10_i64, any::<bool>()).prop_map(|(days, first, known)| {
        let slots: BTreeMap<i64, u64> =
            (0..24 * DAY).map(|slot| (MONDAY + slot, days[usize::try_from(slot / DAY).unwrap()])).collect();
        Volume { first: known.then_some(MONDAY + first * DAY - 1), slots }
    })
}

fn drawn_outages() -> impl Strategy<Value = Vec<Outage>> {
    let outage = (0..24 * DAY, 0..5 * DAY, any::<bool>()).prop_map(|(from, length, ended)| Outage {
        from: at(MONDAY + from),
        until: ended.then(|| at(MONDAY + from + length)),
        expected: 3_000,
    });
    proptest::collection::vec(outage, 0..3).prop_map(|mut outages| {
        // At most one is open, and it is the last.
        outages.sort_by_key(|outage| outage.from);
        let last = outages.len().saturating_sub(1);
        for outage in &mut outages[..last] {
            outage.until = outage.until.or(Some(outage.from.plus_millis(3_600_000)));
        }
        outages
    })
}

fn kind(judgement: Judgement) -> &'static str {
    match judgement {
        Judgement::AsBefore => "as before",
        Judgement::Collapsed { .. } => "collapsed",
        Judgement::Returned { .. } => "returned",
    }
}

proptest! {
    #[test]
    fn judgements_are_those_of_the_model(
        volume in drawn_volume(), outages in drawn_outages(), slot in 0..26 * DAY, within in 0..900_000_i64,
    ) {
        let now = at(MONDAY + slot).plus_millis(within);
        prop_assert_eq!(kind(assess(&volume, &outages, POLICY, now)), naive(&volume, &outages, now));
    }

    #[test]
    fn the_slots_that_are_asked_for_are_enough(
        volume in drawn_volume(), outages in drawn_outages(), slot in 0..26 * DAY,
    ) {
        let now = at(MONDAY + slot);
        let mut ranges = slots_compared(&outages, now);
        ranges.push(slots_now(now));
        for (place, range) in ranges.iter().enumerate() {
            prop_assert!(ranges[..place].iter().all(|other| other.end <= range.start || range.end <= other.start));
        }
        let asked = volume.slots.iter().filter(|(slot, _)| ranges.iter().any(|range| range.contains(slot)));
        let part = Volume { first: volume.first, slots: asked.map(|(slot, events)| (*slot, *events)).collect() };
        prop_assert_eq!(assess(&part, &outages, POLICY, now), assess(&volume, &outages, POLICY, now));
    }

    #[test]
    fn fewer_events_never_look_better(volume in drawn_volume(), slot in 8 * DAY..24 * DAY, left in 0..100_u64) {
        let now = MONDAY + slot;
        let mut less = volume.clone();
        for slot in now - JUDGED..=now {
            if let Some(events) = less.slots.get_mut(&slot) {
                *events = *events * left / 100;
            }
        }
        if kind(judge(&volume, &[], now)) == "collapsed" {
            prop_assert_eq!(kind(judge(&less, &[], now)), "collapsed");
        }
    }

    #[test]
    fn no_weekly_pattern_is_a_collapse(week in proptest::collection::vec(0..2_000_u64, 168), now in 8 * DAY..30 * DAY) {
        let of = |slot: i64| week[usize::try_from((slot - MONDAY).rem_euclid(WEEK_SLOTS) / 4).unwrap()];
        let all = volume(MONDAY - 1, MONDAY + 30 * DAY, of);
        prop_assert_eq!(judge(&all, &[], MONDAY + now), Judgement::AsBefore);
    }

    #[test]
    fn any_instants_are_judged(first in any::<Option<i64>>(), now in any::<i64>(), from in any::<i64>(), until in any::<Option<i64>>()) {
        // Farther than any clock goes instants are cut off.
        let cut = |millis: i64| Timestamp::from_millis(millis / 1_000);
        let outage = Outage { from: cut(from), until: until.map(cut), expected: u64::MAX };
        let volume = Volume { first, slots: [(slot_of(cut(now)), u64::MAX)].into() };
        prop_assert_ne!(kind(assess(&volume, &[outage], POLICY, cut(now))), "collapsed");
    }
}
