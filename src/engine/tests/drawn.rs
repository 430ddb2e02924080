//! States to test with: made of events, some by hand, some drawn.

use std::fmt::Write as _;

use rand::{RngExt, rngs::StdRng, seq::IndexedRandom};
use serde_json::{Value, json};

use crate::{
    engine::{
        rules::Rules,
        state::{Applied, CustomerState},
    },
    event::{
        decode::{Encoding, decode},
        time::Timestamp,
    },
};

pub(super) const HOUR: i64 = 3_600_000;
pub(super) const DAY: i64 = 24 * HOUR;

/// 1 March 2026, 00:00 UTC.
pub(super) const START: Timestamp = Timestamp::from_millis(1_772_323_200_000);

/// An event of a name.
pub(super) fn named(name: &str) -> Value {
    json!({ "event": name })
}

/// The same event with an id.
pub(super) fn with_id(mut body: Value, id: impl ToString) -> Value {
    body["id"] = json!(id.to_string());
    body
}

/// Applies an event to a state, by way of its JSON.
pub(super) fn apply(state: &mut CustomerState, body: &Value, at: Timestamp, rules: &Rules) -> Applied {
    let (text, mut scratch) = (body.to_string(), Vec::new());
    let event = decode(text.as_bytes(), Encoding::Json, &mut scratch).expect("the test writes valid events");
    state.apply(&event, at, rules)
}

/// An event and when it happened.
pub(super) type Happened = (Timestamp, Value);

/// Rules with drawn windows, points and levels.
pub(super) fn rules(random: &mut StdRng) -> Rules {
    let mut text = String::from(
        "version = 1\n[usage]\nexcept = [\"quiet\"]\nexcept_prefixes = [\"payment_\", \"subscription_\"]\n",
    );
    let medium = random.random_range(1..60);
    writeln!(text, "[levels]\nmedium = {medium}\nhigh = {}", random.random_range(medium + 1..=100)).unwrap();
    for place in 0..random.random_range(1..9) {
        let (points, at_least) = (random.random_range(1..60), random.random_range(0..=100));
        let days = random.random_range(1..=30);
        let kind = match random.random_range(0..9) {
            0 => format!("kind = \"inactive\"\nevent = \"login\"\nafter_days = {days}"),
            1 => format!("kind = \"inactive\"\nevent = \"rare\"\nafter_days = {days}\nif_never = \"since_first_seen\""),
            2 | 3 => {
                let percent = random.random_range(0..100);
                format!("kind = \"usage_drop\"\nwindow_days = {days}\nmore_than_percent = {percent}")
            }
            4 => format!("kind = \"recent\"\nevent = \"quiet\"\nwithin_days = {days}\ncleared_by = \"login\""),
            5 => format!(
                "kind = \"recent\"\nevent = \"payment_failed\"\nwithin_days = {days}\ncleared_by = \"payment_succeeded\""
            ),
            6 => format!("kind = \"sentiment\"\nevents = [\"support_ticket\"]\nwithin_days = {days}"),
            7 => format!("kind = \"downgrade\"\nwithin_days = {days}"),
            _ => format!("kind = \"card_expiry\"\nwithin_days = {days}"),
        };
        writeln!(
            text,
            "[[factor]]\nname = \"f{place}\"\npoints = {points}\nat_least = {at_least}\nreason = \"r\"\n{kind}"
        )
        .unwrap();
    }
    Rules::parse(&text, "drawn").unwrap()
}

/// A customer's events within some 70 days, each with an id of its own; many fall on edges of hours.
pub(super) fn events(random: &mut StdRng) -> Vec<Happened> {
    let days = *[1, 8, 16, 40, 70].choose(random).unwrap();
    let happened = (0..random.random_range(1..60)).map(|number| {
        let at = START.plus_millis(random.random_range(0..days * 24) * HOUR + edge(random));
        (at, with_id(event(random, at), number))
    });
    happened.collect()
}

fn edge(random: &mut StdRng) -> i64 {
    *[0, 1, HOUR - 1, random.random_range(0..HOUR)].choose(random).unwrap()
}

fn event(random: &mut StdRng, at: Timestamp) -> Value {
    match random.random_range(0..20) {
        0..8 => named(["login", "page_view", "rare"].choose(random).unwrap()),
        8 => named("quiet"),
        9 => named("billing_page_view"),
        10 => named(["payment_failed", "payment_succeeded"].choose(random).unwrap()),
        11..13 => {
            let sentiment = ["negative", "neutral", "positive"].choose(random).unwrap();
            json!({ "event": "support_ticket", "properties": { "sentiment": sentiment } })
        }
        13 => named(&format!("own_{}", random.random_range(0..90))),
        _ => stripe_event(random, at),
    }
}

/// A Stripe fact's event.
pub(super) fn stripe_event(random: &mut StdRng, at: Timestamp) -> Value {
    let created = Timestamp::from_seconds(at.millis() / 1_000);
    let id = random.random_range(0..3);
    let (name, fact) = match random.random_range(0..8) {
        0..4 => ("subscription_updated", subscription(random, id, created)),
        4 | 5 => {
            let (name, outcome) =
                *[("payment_failed", "failed"), ("payment_succeeded", "paid"), ("payment_voided", "voided")]
                    .choose(random)
                    .unwrap();
            (name, json!({ "kind": "invoice", "id": id.to_string(), "created": created, "outcome": outcome }))
        }
        6 => {
            let expires = random.random_bool(0.8).then(|| created.plus_millis(random.random_range(-9..60) * DAY));
            let attached = random.random_bool(0.7);
            let id = id.to_string();
            (
                "payment_x",
                json!({ "kind": "card", "id": id, "created": created, "attached": attached, "expires": expires }),
            )
        }
        _ => {
            let open = random.random_bool(0.5);
            ("payment_disputed", json!({ "kind": "dispute", "id": id.to_string(), "created": created, "open": open }))
        }
    };
    json!({ "event": name, "facts": [fact] })
}

fn subscription(random: &mut StdRng, id: i32, created: Timestamp) -> Value {
    let statuses = [
        "active",
        "active",
        "trialing",
        "past_due",
        "unpaid",
        "paused",
        "incomplete",
        "incomplete_expired",
        "canceled",
    ];
    let status = *statuses.choose(random).unwrap();
    let change = if status == "canceled" { "deleted" } else { *["created", "updated"].choose(random).unwrap() };
    let mut fact = json!({ "kind": "subscription", "id": id.to_string(), "created": created, "change": change, "status": status,
        "downgraded": random.random_bool(0.1) });
    if random.random_bool(0.2) {
        fact["cancel_at"] = json!(created.plus_millis(9 * DAY));
    }
    if random.random_bool(0.7) {
        fact["mrr"] = json!({ "amount": random.random_range(1..9) * 1_000, "currency": "usd" });
    }
    fact
}

/// The state that events give, in the order in which they stand.
pub(super) fn state_of(events: &[Happened], rules: &Rules) -> CustomerState {
    let mut state = CustomerState::new(events[0].0);
    for (at, body) in events {
        apply(&mut state, body, *at, rules);
    }
    state
}
