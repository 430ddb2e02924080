//! Much traffic of many customers, out of order and with repeats, all of it before one instant: what the crash tests send.

use std::collections::{BTreeMap, BTreeSet};

use rand::{
    RngExt, SeedableRng,
    rngs::StdRng,
    seq::{IndexedRandom, SliceRandom},
};
use serde_json::{Value, json};

use super::{
    instant::{self, DAY, HOUR},
    scoring::Past,
};

/// Among so many of a customer's newest events a repeat is always recognized.
const RECOGNIZED: usize = 16;

/// One event on its way.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) customer: String,
    pub(crate) id: String,
    pub(crate) past: Past,
    /// A repeat: sent under another message id, so that the stream takes it, and recognized by its id in the body.
    pub(crate) repeat: bool,
}

/// All that is sent, in the order of sending.
pub(crate) struct Traffic {
    pub(crate) sent: Vec<Sent>,
    /// What each customer's history comes to.
    pub(crate) histories: BTreeMap<String, Vec<Past>>,
}

/// What happens, and how often.
const NAMES: [(&str, u32); 8] = [
    ("feature_used", 50),
    ("report_exported", 20),
    ("login", 12),
    ("billing_page_view", 4),
    ("support_ticket", 5),
    ("payment_failed", 3),
    ("payment_succeeded", 3),
    ("identify", 3),
];

/// What counts as usage among them.
const USAGE: [&str; 2] = ["feature_used", "report_exported"];

impl Traffic {
    /// Draws so many events of so many customers, none of them after `until`.
    pub(crate) fn draw(seed: u64, events: usize, customers: usize, until: i64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let names: Vec<String> = (0..customers).map(name_of).collect();
        let mut sent: Vec<Sent> = (0..events).map(|number| draw_one(&mut rng, &names, number, until)).collect();
        let mut histories: BTreeMap<String, Vec<Past>> = BTreeMap::new();
        for event in &sent {
            histories.entry(event.customer.clone()).or_default().push(event.past.clone());
        }
        repeat_some(&mut rng, &mut sent);
        Self { sent, histories }
    }

    /// What the histories of the customers come to if no more than the first so many are sent.
    pub(crate) fn histories_of_first(&self, count: usize) -> BTreeMap<String, Vec<Past>> {
        let mut seen = BTreeSet::new();
        let mut histories: BTreeMap<String, Vec<Past>> = BTreeMap::new();
        for event in self.sent[..count].iter().filter(|event| seen.insert(&event.id)) {
            histories.entry(event.customer.clone()).or_default().push(event.past.clone());
        }
        histories
    }

    /// How many messages the stream holds when all is sent.
    pub(crate) fn messages(&self) -> u64 {
        self.sent.len() as u64
    }
}

/// Some names need escapes in a subject, some are hashed there.
fn name_of(number: usize) -> String {
    match number % 50 {
        7 => format!("kunde.{number}@über.example"),
        8 => format!("{}-{number}", "x".repeat(160)),
        _ => format!("customer-{number}"),
    }
}

fn draw_one(rng: &mut StdRng, names: &[String], number: usize, until: i64) -> Sent {
    let busy = names.len().div_ceil(100);
    let customer = if rng.random_bool(0.2) { rng.random_range(0..busy) } else { rng.random_range(0..names.len()) };
    let name = NAMES.choose_weighted(rng, |(_, weight)| *weight).unwrap().0;
    let ago = match rng.random_range(0..10) {
        // Every other customer uses less than it did, so that its score names the ratio: a single event counted twice
        // or not at all shows.
        0..=7 if customer % 2 == 1 && USAGE.contains(&name) => {
            let week = if rng.random_bool(0.2) { 0 } else { 7 * DAY };
            week + rng.random_range(0..7 * DAY)
        }
        0..=2 => rng.random_range(0..HOUR / 2),
        3..=7 => rng.random_range(0..15 * DAY),
        _ => rng.random_range(0..65 * DAY),
    };
    let sentiment =
        (name == "support_ticket").then(|| (*["negative", "neutral", "positive"].choose(rng).unwrap()).to_owned());
    let past = Past { name: name.to_owned(), at: until - ago, sentiment };
    Sent { customer: names[customer].clone(), id: format!("e{number}"), past, repeat: false }
}

/// Repeats some events that are among their customer's newest, later on, and sends all in disorder.
fn repeat_some(rng: &mut StdRng, sent: &mut Vec<Sent>) {
    let mut by_customer: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (place, event) in sent.iter().enumerate() {
        by_customer.entry(&event.customer).or_default().push(place);
    }
    let mut repeats = Vec::new();
    for places in by_customer.values_mut() {
        places.sort_by_key(|place| std::cmp::Reverse(sent[*place].past.at));
        for place in places.iter().take(RECOGNIZED / 2).filter(|_| rng.random_bool(0.2)) {
            repeats.push(Sent { repeat: true, ..sent[*place].clone() });
        }
    }
    sent.extend(repeats);
    sent.shuffle(rng);
}

impl Sent {
    /// The event as it is published.
    pub(crate) fn body(&self) -> Value {
        let mut body = json!({
            "event": self.past.name,
            "id": self.id,
            "customerId": self.customer,
            "timestamp": instant::utc(self.past.at),
        });
        if let Some(sentiment) = &self.past.sentiment {
            body["properties"] = json!({"sentiment": sentiment});
        }
        body
    }
}
