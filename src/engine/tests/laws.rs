//! Laws over drawn states and drawn rules: order and repetition do not matter, silence is exact, snapshots lose nothing.

use proptest::prelude::*;
use rand::{
    RngExt, SeedableRng,
    rngs::StdRng,
    seq::{IndexedRandom, SliceRandom},
};
use serde_json::json;

use super::drawn::{self, DAY, HOUR, Happened, START, apply, state_of};
use crate::{
    engine::{
        checkpoint::Status,
        fleet::{Outage, outage::credible},
        rules::Rules,
        score::{assess, describe, evaluate, look_at_all},
        silence::{forecast, next_change},
        snapshot,
        state::{Applied, CustomerState},
    },
    event::time::Timestamp,
};

/// How many states most laws are tried on.
const STATES: u64 = 2_000;

#[test]
fn events_in_any_order_and_repeated_give_the_same_state() {
    for seed in 0..STATES {
        let mut random = StdRng::seed_from_u64(seed);
        let (rules, events) = (drawn::rules(&mut random), drawn::events(&mut random));
        let expected = state_of(&events, &rules);
        let mut shuffled = events.clone();
        shuffled.extend(repeats(&mut random, &events));
        shuffled.shuffle(&mut random);
        let found = state_of(&shuffled, &rules);
        assert_eq!(found, expected, "seed {seed}");
        assert_eq!(
            snapshot::encode(&found),
            snapshot::encode(&expected),
            "seed {seed}: equal states are written the same"
        );
    }
}

#[test]
fn what_is_credible_is_part_of_what_is_scored_and_the_less_the_longer_events_were_missing() {
    let mut doubted = 0;
    for seed in 0..STATES {
        let mut random = StdRng::seed_from_u64(seed);
        let (rules, events) = (drawn::rules(&mut random), drawn::events(&mut random));
        let state = state_of(&events, &rules);
        let as_of = state.newest().plus_millis(random.random_range(0..20 * DAY));
        let scored = look_at_all(&state, &rules, as_of);
        let believed = |from: Timestamp, until: Option<Timestamp>| {
            credible(&state, &rules, as_of, scored, &[Outage { from, until, expected: 0 }])
        };
        assert_eq!(credible(&state, &rules, as_of, scored, &[]), scored, "seed {seed}");
        let long_ago = START.plus_millis(-400 * DAY);
        assert_eq!(believed(long_ago, Some(long_ago.plus_millis(DAY))), scored, "seed {seed}");
        let from = as_of.plus_millis(-random.random_range(1..12 * DAY));
        let until = from.plus_millis(random.random_range(0..6 * DAY));
        let (shorter, longer) = (believed(from, Some(until)), believed(from, None));
        assert_eq!(shorter.active & !scored.active, 0, "seed {seed}");
        assert_eq!(longer.active & !shorter.active, 0, "seed {seed}");
        assert!(longer.score <= shorter.score && shorter.score <= scored.score, "seed {seed}");
        assert!(longer.level <= shorter.level && shorter.level <= scored.level, "seed {seed}");
        doubted += u64::from(longer.active != scored.active);
    }
    assert!(doubted > STATES / 20, "only {doubted} of {STATES} states were doubted");
}

/// Repeats of a customer's newest 16 events, and of any that carry facts.
fn repeats(random: &mut StdRng, events: &[Happened]) -> Vec<Happened> {
    let mut newest: Vec<&Happened> = events.iter().collect();
    newest.sort_by_key(|(at, body)| (at.millis() / 1_000, body["id"].as_str().map(crate::event::ids::IdHash::of)));
    let safe: Vec<&Happened> = newest.split_off(newest.len().saturating_sub(16));
    let facts = newest.into_iter().filter(|(_, body)| !body["facts"].is_null());
    let all: Vec<&Happened> = safe.into_iter().chain(facts).collect();
    (0..random.random_range(0..20)).filter_map(|_| all.choose(random).map(|event| (*event).clone())).collect()
}

#[test]
fn all_orders_of_a_subscriptions_life_give_one_state() {
    let webhooks = [
        (1, "created", "incomplete", json!(null)),
        (1, "updated", "trialing", json!(null)),
        (9, "updated", "active", json!(null)),
        (12, "updated", "past_due", json!(null)),
        (12, "updated", "past_due", json!(START.plus_millis(30 * DAY))),
        (12, "deleted", "canceled", json!(null)),
    ];
    let events: Vec<Happened> = webhooks
        .iter()
        .map(|(day, change, status, cancel_at)| {
            let created = START.plus_millis(day * DAY);
            let fact = json!({ "kind": "subscription", "id": "sub_1", "created": created, "change": change,
                "status": status, "cancel_at": cancel_at, "mrr": { "amount": 4_900, "currency": "usd" } });
            (created, json!({ "event": format!("subscription_{change}"), "facts": [fact] }))
        })
        .collect();
    let rules = Rules::default();
    let expected = state_of(&events, &rules);
    let mut orders = 0;
    permute(&mut events.clone(), 0, &mut |order| {
        orders += 1;
        assert_eq!(state_of(order, &rules), expected, "{order:?}");
    });
    assert_eq!(orders, 720);
    assert_eq!(assess(&expected, &rules, START).score, 100);
}

fn permute(items: &mut [Happened], from: usize, visit: &mut impl FnMut(&[Happened])) {
    if from == items.len() {
        return visit(items);
    }
    for place in from..items.len() {
        items.swap(from, place);
        permute(items, from + 1, visit);
        items.swap(from, place);
    }
}

#[test]
fn running_sums_score_as_a_look_at_everything_does() {
    for seed in 0..STATES {
        let mut random = StdRng::seed_from_u64(seed);
        let (rules, events) = (drawn::rules(&mut random), drawn::events(&mut random));
        let mut state = CustomerState::new(events[0].0);
        let mut now = events[0].0;
        for (at, body) in &events {
            apply(&mut state, body, *at, &rules);
            now = now.max(*at).plus_millis(random.random_range(0..3) * 30 * HOUR);
            let as_of = now.max(state.newest());
            let evaluation = evaluate(&mut state, &rules, as_of);
            assert_eq!(describe(&state, &rules, as_of, evaluation), assess(&state, &rules, as_of), "seed {seed}");
        }
    }
}

#[test]
fn nothing_changes_before_the_next_change_and_something_does_then() {
    let mut flips = 0;
    for seed in 0..STATES {
        let mut random = StdRng::seed_from_u64(seed);
        let (rules, events) = (drawn::rules(&mut random), drawn::events(&mut random));
        let state = state_of(&events, &rules);
        if state.status() == Status::Churned {
            assert_eq!(next_change(&state, &rules, state.newest()), None, "seed {seed}: what ended stays at 100");
            continue;
        }
        let mut running = state.clone();
        let mut active = |at: Timestamp| evaluate(&mut running, &rules, at).active;
        let mut after = state.newest().plus_millis(random.random_range(0..2) * random.random_range(0..20 * DAY));
        let mut before = active(after);
        let mut next = next_change(&state, &rules, after);
        for instant in instants(&events, after) {
            while let Some(at) = next.filter(|at| *at <= instant) {
                assert!(at > after, "seed {seed}: {at} is not after {after}");
                assert_eq!(active(at.plus_millis(-1)), before, "seed {seed}: changed before {at}");
                let then = active(at);
                assert_ne!(then, before, "seed {seed}: nothing changed at {at}");
                (before, after) = (then, at);
                next = next_change(&state, &rules, at);
                flips += 1;
            }
            assert_eq!(
                active(instant),
                before,
                "seed {seed}: changed between {after} and {instant}, next was {next:?}"
            );
        }
    }
    assert!(flips > STATES, "only {flips} changes were seen");
}

/// Every hour of the next 62 days, and some of the edges that rules of whole days can have.
fn instants(events: &[Happened], after: Timestamp) -> Vec<Timestamp> {
    let hours = (0..62 * 24).map(|hour| Timestamp::start_of_hour(after.hour() + hour));
    let edges = events.iter().take(8).flat_map(|(at, _)| (1..=30).map(|days| at.plus_millis(days * DAY)));
    let around = edges.flat_map(|edge| [edge, edge.plus_millis(1)]);
    let end = after.plus_millis(62 * DAY);
    let mut instants: Vec<Timestamp> = hours.chain(around).filter(|at| *at >= after && *at < end).collect();
    instants.sort_unstable();
    instants.dedup();
    instants
}

#[test]
fn a_forecast_says_what_will_be() {
    for seed in 0..STATES / 4 {
        let mut random = StdRng::seed_from_u64(seed);
        let (rules, events) = (drawn::rules(&mut random), drawn::events(&mut random));
        let state = state_of(&events, &rules);
        let mut level = assess(&state, &rules, state.newest()).level;
        for step in forecast(&state, &rules, state.newest()) {
            let before = assess(&state, &rules, step.silent_until.plus_millis(-1));
            let then = assess(&state, &rules, step.silent_until);
            assert_eq!((before.level, then.level, then.score), (level, step.level, step.score), "seed {seed}");
            level = step.level;
        }
    }
}

#[test]
fn a_snapshot_loses_nothing() {
    for seed in 0..STATES {
        let mut random = StdRng::seed_from_u64(seed);
        let (rules, events) = (drawn::rules(&mut random), drawn::events(&mut random));
        let (one, other) = events.split_at(random.random_range(1..=events.len()));
        let mut state = state_of(one, &rules);
        let now = state.newest();
        state.evaluated = Some(evaluate(&mut state, &rules, now));
        let evaluation = state.evaluated.unwrap();
        state.alerts.decide(&evaluation, now, DAY);
        let mut read = snapshot::decode(&snapshot::encode(&state)).unwrap();
        assert_eq!(read, state, "seed {seed}");
        for (at, body) in other {
            assert_eq!(apply(&mut read, body, *at, &rules), apply(&mut state, body, *at, &rules), "seed {seed}");
        }
        assert_eq!(read, state, "seed {seed}: after {} more events", other.len());
    }
}

#[test]
fn joined_states_are_those_of_all_events() {
    let mut compared = 0;
    for seed in 0..STATES {
        let mut random = StdRng::seed_from_u64(seed);
        let (rules, events) = (drawn::rules(&mut random), drawn::events(&mut random));
        let (one, other) = events.split_at(random.random_range(0..events.len()));
        if one.is_empty() {
            continue;
        }
        let mut joined = state_of(one, &rules);
        assert_eq!(joined.join(&state_of(other, &rules), 5, &rules), Applied::Applied);
        assert_eq!(joined.join(&state_of(other, &rules), 5, &rules), Applied::Duplicate);
        joined.transfers.clear();
        assert_eq!(joined, state_of(&events, &rules), "seed {seed}");
        compared += 1;
    }
    assert!(compared > STATES / 2);
}

/// Whatever reads as a state can be lived with: nothing overflows.
fn live_with(bytes: &[u8]) {
    let Ok(mut state) = snapshot::decode(bytes) else { return };
    let rules = Rules::default();
    let newest = state.newest();
    evaluate(&mut state, &rules, newest);
    forecast(&state, &rules, newest);
    let mut other = CustomerState::new(START);
    other.join(&state, 1, &rules);
    apply(&mut other, &drawn::named("login"), START, &rules);
    assert_eq!(snapshot::decode(&snapshot::encode(&state)), Ok(state));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read_without_a_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        live_with(&bytes);
        if let Some(first) = bytes.first_mut() {
            *first = snapshot::VERSION;
        }
        live_with(&bytes);
    }

    #[test]
    fn damaged_snapshots_are_read_without_a_panic(
        seed in 0_u64..500,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut random = StdRng::seed_from_u64(seed);
        let (rules, events) = (drawn::rules(&mut random), drawn::events(&mut random));
        let mut bytes = snapshot::encode(&state_of(&events, &rules));
        for (place, byte) in damage {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        live_with(&bytes);
    }
}
