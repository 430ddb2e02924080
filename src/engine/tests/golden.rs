//! Snapshots as version 1 wrote them: they are read for ever, and written the same.

use std::fmt::Write as _;

use expect_test::expect_file;
use rand::{SeedableRng as _, rngs::StdRng};
use serde_json::json;

use super::drawn::{self, DAY, HOUR, START, apply, named, with_id};
use crate::{
    engine::{
        alert::AlertMemory,
        checkpoint::{Level, Status},
        rules::Rules,
        score::evaluate,
        snapshot::{SnapshotError, decode, encode},
        state::{CustomerState, Evaluation},
    },
    event::{ids::CustomerId, time::Timestamp},
};

/// Each file with the state it holds.
fn goldens() -> Vec<(&'static str, &'static [u8], CustomerState)> {
    vec![
        ("fresh", include_bytes!("../golden/fresh.bin"), CustomerState::new(START)),
        ("typical", include_bytes!("../golden/typical.bin"), typical()),
        ("everything", include_bytes!("../golden/everything.bin"), everything()),
        ("signpost", include_bytes!("../golden/signpost.bin"), signpost()),
        ("ancient", include_bytes!("../golden/ancient.bin"), ancient()),
    ]
}

/// A customer of a month: 40 active hours in the last 14 days, 12 active days before.
fn typical() -> CustomerState {
    let rules = Rules::default();
    let mut state = CustomerState::new(START);
    let names = ["login", "page_view", "feature_used", "billing_page_view", "report_created", "dashboard_opened"];
    for day in 0..12 {
        apply(&mut state, &named("login"), START.plus_millis(day * DAY), &rules);
    }
    let newest = START.plus_millis(33 * DAY + 15 * HOUR);
    for hour in 0..40 {
        for event in 0..1 + hour * 7 % 40 {
            let ago = (13 - hour / 3) * DAY - hour % 3 * HOUR + 47_310 * event + 123;
            let name = names[usize::try_from((hour + event) % 6).unwrap()];
            let body = with_id(named(name), format!("{hour}-{event}"));
            apply(&mut state, &body, newest.plus_millis(-ago), &rules);
        }
    }
    let as_of = state.newest;
    let evaluation = evaluate(&mut state, &rules, as_of);
    state.evaluated = Some(evaluation);
    state.alerts.decide(&Evaluation { score: 45, level: Level::Medium, ..evaluation }, START, DAY);
    state
}

/// A state with every part there is.
fn everything() -> CustomerState {
    let rules = Rules::default();
    let mut state = typical();
    let at = state.newest.plus_millis(5 * HOUR);
    let facts = json!([
        { "kind": "subscription", "id": "sub_1", "created": at, "change": "updated", "status": "past_due",
          "cancel_at": at.plus_millis(9 * DAY), "mrr": { "amount": 4_900, "currency": "usd" }, "downgraded": true },
        { "kind": "subscription", "id": "sub_2", "created": at, "change": "deleted", "status": "canceled", "ended_at": at },
        { "kind": "invoice", "id": "in_1", "created": at, "outcome": "failed" },
        { "kind": "invoice", "id": "in_2", "created": at, "outcome": "paid" },
        { "kind": "invoice", "id": "in_2", "created": START, "outcome": "voided" },
        { "kind": "card", "id": "pm_1", "created": at, "attached": true, "expires": at.plus_millis(90 * DAY) },
        { "kind": "card", "id": "pm_2", "created": at, "attached": false },
        { "kind": "dispute", "id": "dp_1", "created": at, "open": true },
    ]);
    apply(&mut state, &json!({ "event": "payment_failed", "facts": facts }), at, &rules);
    let support = json!({ "event": "support_ticket", "properties": { "sentiment": "negative" } });
    apply(&mut state, &support, at.plus_millis(1), &rules);
    apply(&mut state, &named("Übergrößen bestellt 🎉"), at.plus_millis(2), &rules);
    state.note_link("cus_1");
    state.note_link("cus_2");
    let mut other = CustomerState::new(START);
    apply(&mut other, &with_id(named("click"), "of cus_1"), at, &rules);
    state.join(&other, 77, &rules);
    state.alerts = AlertMemory {
        level: Level::Medium,
        score: 60,
        churned: true,
        announced: [Some(START), Some(at), None],
        held: Some(Level::High),
        told: 300,
    };
    state.unsettled = true;
    state
}

fn signpost() -> CustomerState {
    let mut state = typical();
    state.move_to(CustomerId::parse("acme & söhne").unwrap(), START.plus_millis(40 * DAY));
    state.evaluated = Some(Evaluation { status: Status::Moved, ..Evaluation::default() });
    state
}

/// Times at the far ends of what can be said.
fn ancient() -> CustomerState {
    let rules = Rules::default();
    let (first, last) = ("0000-01-01T00:00:00Z", "9999-12-30T00:00:00.999Z");
    let instant = |text: &str| text.parse::<Timestamp>().unwrap();
    let mut state = CustomerState::new(instant(first));
    apply(&mut state, &with_id(named("login"), 1), instant(first), &rules);
    apply(&mut state, &with_id(named("page_view"), 2), instant(last), &rules);
    state
}

#[test]
fn stored_snapshots_are_read_and_written_the_same() {
    for (name, bytes, state) in goldens() {
        let read = decode(bytes).unwrap_or_else(|error| panic!("{name}.bin: {error}"));
        assert_eq!(read, state, "{name}.bin");
        assert_eq!(encode(&read), bytes, "{name}.bin");
    }
}

/// Customers of all kinds; drawn once, when the file was written.
fn drawn() -> Vec<CustomerState> {
    let rules = Rules::default();
    let state_of = |seed| {
        let mut random = StdRng::seed_from_u64(seed);
        let events = drawn::events(&mut random);
        let mut state = CustomerState::new(events[0].0);
        for (at, body) in &events {
            apply(&mut state, body, *at, &rules);
        }
        let as_of = state.newest.plus_millis(i64::try_from(seed % 40).unwrap() * DAY);
        let evaluation = evaluate(&mut state, &rules, as_of);
        state.evaluated = Some(evaluation);
        state.alerts.decide(&evaluation, as_of, DAY);
        state
    };
    (0..250).map(state_of).collect()
}

/// Snapshots one after the other, each behind its length.
fn split(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk() {
        let (part, rest) = rest.split_at(usize::from(u16::from_be_bytes(*length)));
        parts.push(part);
        bytes = rest;
    }
    parts
}

#[test]
fn drawn_snapshots_are_read_written_and_scored_the_same() {
    let rules = Rules::default();
    let mut scores = String::new();
    let snapshots = split(include_bytes!("../golden/drawn.bin"));
    assert_eq!(snapshots.len(), 250);
    for (number, bytes) in snapshots.into_iter().enumerate() {
        let mut state = decode(bytes).unwrap_or_else(|error| panic!("state {number}: {error}"));
        assert_eq!(encode(&state), bytes, "state {number}");
        write!(scores, "{number}").unwrap();
        for days in [0, 10, 40] {
            let as_of = state.newest.plus_millis(days * DAY);
            let found = evaluate(&mut state, &rules, as_of);
            write!(scores, "  {} {:?} {:?}", found.score, found.level, found.status).unwrap();
        }
        scores.push('\n');
    }
    // Other rules may change the scores, never what is read.
    expect_file!["../golden/drawn.txt"].assert_eq(&scores);
}

#[test]
fn a_typical_snapshot_takes_at_most_300_bytes() {
    let bytes = encode(&typical()).len();
    println!("a typical snapshot takes {bytes} bytes, a fresh one {}", encode(&CustomerState::new(START)).len());
    assert!(bytes <= 300, "{bytes} bytes");
}

#[test]
fn a_later_version_is_refused_by_name() {
    let mut bytes = encode(&typical());
    bytes[0] += 1;
    assert_eq!(decode(&bytes), Err(SnapshotError::TooNew { found: 2 }));
    assert!(decode(&bytes).unwrap_err().to_string().contains("snapshot of format 2"));
}

#[test]
#[ignore = "writes the files: only when a version that was never released changes"]
fn write_goldens() {
    for (name, _, state) in goldens() {
        std::fs::write(format!("src/engine/golden/{name}.bin"), encode(&state)).unwrap();
    }
    let one = |state: &CustomerState| {
        let bytes = encode(state);
        [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], &bytes].concat()
    };
    std::fs::write("src/engine/golden/drawn.bin", drawn().iter().flat_map(one).collect::<Vec<_>>()).unwrap();
}
