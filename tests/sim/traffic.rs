//! What is published in a world, drawn from its seed, and what of it each customer's history comes to.
//!
//! Instants keep away from the edges at which silence changes a score, except for those that are put so that an edge is
//! crossed while the world lasts: once it has settled, no clock that is off by an hour makes a difference.

use std::collections::{BTreeMap, HashMap};

use churnd::{
    event::{ids::CustomerId, subject, time::Timestamp},
    stream::publisher::Outgoing,
};
use rand::{RngExt, rngs::StdRng, seq::IndexedRandom};
use serde_json::json;

use crate::{
    model::{instant, scoring::Past},
    world::START,
};

const MINUTE: i64 = 60_000;
const DAY: i64 = 86_400_000;
/// Among so many of a customer's newest events a repeat is always recognized.
const EVENTS_EACH: usize = 12;

/// A customer as its account names it.
pub(crate) type Key = (String, String);

/// One message of a client.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    /// Milliseconds after the beginning.
    pub(crate) when: i64,
    pub(crate) message: Outgoing,
    pub(crate) key: Key,
    /// Its id in the body or, without one, in the header: what makes it the same event.
    pub(crate) id: String,
    /// What happened; nothing for a message that nobody can use.
    pub(crate) past: Option<Past>,
    /// Without an instant of its own it happened when it was stored.
    pub(crate) untimed: bool,
}

/// All messages of a world, by the time of their sending.
pub(crate) fn draw(random: &mut StdRng, events: usize, lasts: i64, links: bool) -> Vec<Sent> {
    let customers = random.random_range(2..=6_usize);
    let mut counts: HashMap<Key, usize> = HashMap::new();
    let mut sent = Vec::new();
    for number in 0..events {
        let key = draw_customer(random, customers, links);
        let count = counts.entry(key.clone()).or_default();
        *count += 1;
        if *count > EVENTS_EACH {
            continue;
        }
        let when = random.random_range(0..lasts);
        let one = if random.random_range(0..14) == 0 {
            poison(random, number, when, key)
        } else {
            usual(random, number, when, key, lasts)
        };
        if one.past.is_some() && !one.untimed && random.random_range(0..5) == 0 {
            sent.push(repeat(random, &one, lasts));
        }
        sent.push(one);
    }
    if links {
        sent.extend((0..random.random_range(1..=2)).map(|number| link(random, number, lasts)));
    }
    sent.sort_by_key(|one| one.when);
    sent
}

fn draw_customer(random: &mut StdRng, customers: usize, links: bool) -> Key {
    if links && random.random_range(0..4) == 0 {
        return ("acme".to_owned(), "cus_1".to_owned());
    }
    let account = if random.random_range(0..4) == 0 { "blue" } else { "acme" };
    let number = random.random_range(0..customers);
    let customer = if number == 1 { "kunde.1@über".to_owned() } else { format!("c{number}") };
    (account.to_owned(), customer)
}

fn usual(random: &mut StdRng, number: usize, when: i64, key: Key, lasts: i64) -> Sent {
    let names = [
        "feature_used",
        "feature_used",
        "report_exported",
        "login",
        "billing_page_view",
        "support_ticket",
        "payment_failed",
        "payment_failed",
        "payment_succeeded",
    ];
    let name = *names.choose(random).expect("there are names");
    let edge = match name {
        "login" => Some(14 * DAY),
        "billing_page_view" => Some(7 * DAY),
        "support_ticket" | "payment_failed" => Some(30 * DAY),
        _ => None,
    };
    let fresh = START + when - random.random_range(0..20 * MINUTE);
    let at = match (edge, random.random_range(0..10)) {
        (Some(edge), 0..4) => START - edge + random.random_range(500..lasts),
        (_, 0..6) => fresh,
        (_, 6) => START + when + 10 * MINUTE,
        _ => {
            let days = *[2, 9, 20, 40, 63].choose(random).expect("there are days");
            START - days * DAY - random.random_range(0..10 * 60 * MINUTE)
        }
    };
    let untimed = random.random_range(0..8) == 0;
    let sentiment =
        (name == "support_ticket").then(|| (*["negative", "positive"].choose(random).expect("two")).to_owned());
    let id = format!("e{number}");
    let mut body = json!({ "event": name, "customerId": key.1 });
    if !untimed {
        body["timestamp"] = json!(instant::utc(at));
    }
    if let Some(sentiment) = &sentiment {
        body["properties"] = json!({ "sentiment": sentiment });
    }
    let header = random.random_range(0..6) == 0;
    if !header {
        body["id"] = json!(id);
    }
    let past = Past { name: name.to_owned(), at, sentiment };
    let message = outgoing(&key, body.to_string()).with_id(format!("{}:{id}", key.0));
    Sent { when, message, key, id, past: Some(past), untimed }
}

/// The same event again: under the same message id, which the stream may know, or another.
fn repeat(random: &mut StdRng, one: &Sent, lasts: i64) -> Sent {
    let mut again = one.clone();
    again.when = random.random_range(0..lasts);
    let has_own_id = String::from_utf8_lossy(&again.message.payload).contains("\"id\"");
    if has_own_id && random.random_range(0..3) > 0 {
        again.message.message_id = Some(format!("{}:again-{}", again.key.0, again.id));
    }
    again
}

fn poison(random: &mut StdRng, number: usize, when: i64, mut key: Key) -> Sent {
    let body = match random.random_range(0..4) {
        0 => "{\"event\":".to_owned(),
        1 => json!({ "event": "login", "customerId": "somebody else" }).to_string(),
        2 => json!({ "event": "", "id": "x" }).to_string(),
        _ => {
            key.0 = "ghost".to_owned();
            json!({ "event": "login" }).to_string()
        }
    };
    let id = format!("p{number}");
    let message = outgoing(&key, body).with_id(format!("{}:{id}", key.0));
    Sent { when, message, key, id, past: None, untimed: false }
}

/// Says that the Stripe customer belongs to another one.
fn link(random: &mut StdRng, number: usize, lasts: i64) -> Sent {
    let key = ("acme".to_owned(), "c0".to_owned());
    let (when, id) = (random.random_range(0..lasts), format!("link{number}"));
    let at = START - 3 * DAY;
    let body = json!({ "event": "identify", "customerId": key.1, "id": id, "timestamp": instant::utc(at),
        "properties": { "stripeCustomerId": "cus_1" } });
    let past = Past { name: "identify".to_owned(), at, sentiment: None };
    let message = outgoing(&key, body.to_string()).with_id(format!("acme:{id}"));
    Sent { when, message, key, id, past: Some(past), untimed: false }
}

fn outgoing(key: &Key, body: String) -> Outgoing {
    let customer = CustomerId::parse(&key.1).expect("an id");
    Outgoing::new(format!("churn.events.{}.{}", key.0, subject::encode(&customer)), body)
}

/// What each customer's history comes to, of what the stream took in; each event once.
#[derive(Default)]
pub(crate) struct Histories {
    seen: BTreeMap<(Key, String), ()>,
    pub(crate) of: BTreeMap<Key, Vec<Past>>,
    pub(crate) linked: bool,
}

impl Histories {
    /// A message was stored at an instant.
    pub(crate) fn add(&mut self, sent: &Sent, stored_at: Timestamp) {
        let Some(past) = &sent.past else { return };
        if self.seen.insert((sent.key.clone(), sent.id.clone()), ()).is_some() {
            return;
        }
        self.linked |= past.name == "identify";
        let mut past = past.clone();
        if sent.untimed || past.at - stored_at.millis() > 5 * MINUTE {
            past.at = stored_at.millis();
        }
        self.of.entry(sent.key.clone()).or_default().push(past);
    }

    /// Once it is linked, what the Stripe customer did was done by the other.
    pub(crate) fn merged(&self) -> BTreeMap<Key, Vec<Past>> {
        let mut merged = self.of.clone();
        let stripe = ("acme".to_owned(), "cus_1".to_owned());
        if self.linked
            && let Some(more) = merged.remove(&stripe)
        {
            merged.entry(("acme".to_owned(), "c0".to_owned())).or_default().extend(more);
        }
        merged
    }
}
