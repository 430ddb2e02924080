//! The text form of scenarios. One step a line:
//!
//! ```text
//! d1 acme login                     an event; d1 is 1 March 2026, 00:00 UTC
//! d9 12:00:00.001 acme login x3     three of them at that instant
//! d9 acme login #e1                 with an id
//! d2 acme login @d40 12:00          received later than it happened
//! d16 acme (nothing)                asks for the score
//! d3 acme support negative          a support ticket with a sentiment; also with a message, also `chat negative`
//! d3 acme sub s1 active 49usd       a Stripe fact; also `cancels d30`, `downgraded`, `created`
//! d3 acme invoice i1 failed         or `paid`, `voided`
//! d3 acme dispute dp1 open          or `closed`
//! d3 acme card c1 expires d60       or `lasting`, `detached`
//! d3 acme identify cus_1            links a Stripe customer
//! d5 * rules strict                 other rules for account `a`; `d5 b:* rules strict` for account `b`
//! d5 * gone, d5 * back              events of account `a` stop coming, come again; `d5 b:* gone` for account `b`
//! d5 * evict, d5 * restart          all customers leave memory; the process ends and starts again
//! ```

use serde_json::{Value, json};

use crate::event::{
    fact::{
        CardFact, Change, DisputeFact, InvoiceFact, InvoiceOutcome, StripeFact, SubscriptionFact, SubscriptionStatus,
    },
    money::{Currency, Money},
    time::Timestamp,
};

/// The day before day 1.
pub(super) const DAY_ZERO: i64 = 20_512;
const DAY_MILLIS: i64 = 86_400_000;

/// One line of a scenario.
#[derive(Debug)]
pub(super) struct Step {
    /// When it is received.
    pub(super) now: Timestamp,
    pub(super) account: String,
    pub(super) customer: String,
    pub(super) action: Action,
}

#[derive(Debug)]
pub(super) enum Action {
    /// Bodies of equal events, and when they happened.
    Events {
        body: Value,
        at: Timestamp,
        times: usize,
    },
    Ask,
    Rules(String),
    Gone,
    Back,
    Evict,
    Restart,
}

/// Reads a scenario.
pub(super) fn parse(scenario: &str) -> Vec<Step> {
    scenario.lines().map(str::trim).filter(|line| !line.is_empty()).map(step).collect()
}

fn step(line: &str) -> Step {
    let (said, received) = match line.split_once(" @") {
        Some((said, received)) => (said, Some(received)),
        None => (line, None),
    };
    let mut words: Vec<&str> = said.split_whitespace().collect();
    let at = take_instant(&mut words);
    let now = received.map_or(at, |received| take_instant(&mut received.split_whitespace().collect()));
    let who = words.remove(0);
    let (account, customer) = who.split_once(':').unwrap_or(("a", who));
    Step { now, account: account.to_owned(), customer: customer.to_owned(), action: action(&words, at) }
}

fn action(words: &[&str], at: Timestamp) -> Action {
    match words {
        ["(nothing)"] => Action::Ask,
        ["rules", name] => Action::Rules((*name).to_owned()),
        ["gone"] => Action::Gone,
        ["back"] => Action::Back,
        ["evict"] => Action::Evict,
        ["restart"] => Action::Restart,
        _ => events(words, at),
    }
}

fn events(words: &[&str], at: Timestamp) -> Action {
    let (mut rest, mut times, mut id) = (words, 1, None);
    while let Some((last, before)) = rest.split_last() {
        match (last.strip_prefix('#'), last.strip_prefix('x').and_then(|count| count.parse().ok())) {
            (Some(given), _) => id = Some(given),
            (_, Some(count)) => times = count,
            _ => break,
        }
        rest = before;
    }
    let mut body = body(rest, at);
    body["timestamp"] = json!(at);
    if let Some(id) = id {
        body["id"] = json!(id);
    }
    Action::Events { body, at, times }
}

fn body(words: &[&str], at: Timestamp) -> Value {
    let facts = |event: &str, fact: StripeFact| json!({ "event": event, "facts": [fact] });
    match words {
        ["support", sentiment] => json!({ "event": "support_ticket", "properties": { "sentiment": sentiment } }),
        ["support", message @ ..] => {
            json!({ "event": "support_ticket", "properties": { "message": message.join(" ") } })
        }
        ["chat", sentiment] => json!({ "event": "chat", "properties": { "sentiment": sentiment } }),
        ["identify", stripe] => json!({ "event": "identify", "properties": { "stripeCustomerId": stripe } }),
        ["sub", id, status, more @ ..] => {
            let fact = subscription(id, status, more, at);
            let ended = fact.change == Change::Deleted;
            let event = if ended { "subscription_canceled" } else { "subscription_updated" };
            facts(event, StripeFact::Subscription(fact))
        }
        ["invoice", id, outcome] => {
            let (event, outcome) = match *outcome {
                "failed" => ("payment_failed", InvoiceOutcome::Failed),
                "paid" => ("payment_succeeded", InvoiceOutcome::Paid),
                _ => ("payment_voided", InvoiceOutcome::Voided),
            };
            facts(event, StripeFact::Invoice(InvoiceFact { id: (*id).to_owned(), created: at, outcome }))
        }
        ["dispute", id, state] => {
            let open = *state == "open";
            facts("payment_disputed", StripeFact::Dispute(DisputeFact { id: (*id).to_owned(), created: at, open }))
        }
        ["card", id, more @ ..] => {
            let expires = matches!(more, ["expires", ..]).then(|| take_instant(&mut more[1..].to_vec()));
            let attached = more != ["detached"];
            let fact = CardFact { id: (*id).to_owned(), created: at, attached, expires };
            facts("payment_method_updated", StripeFact::Card(fact))
        }
        [event] => json!({ "event": event }),
        _ => panic!("`{}` is no step", words.join(" ")),
    }
}

fn subscription(id: &str, status: &str, more: &[&str], at: Timestamp) -> SubscriptionFact {
    let status: SubscriptionStatus = serde_json::from_value(json!(status)).expect("a status as Stripe spells it");
    let mut fact = SubscriptionFact {
        id: id.to_owned(),
        created: at,
        change: if status == SubscriptionStatus::Canceled { Change::Deleted } else { Change::Updated },
        status,
        cancel_at: None,
        ended_at: None,
        mrr: None,
        downgraded: false,
    };
    let mut rest = more.to_vec();
    while !rest.is_empty() {
        match rest.remove(0) {
            "cancels" => fact.cancel_at = Some(take_instant(&mut rest)),
            "downgraded" => fact.downgraded = true,
            "created" => fact.change = Change::Created,
            amount => {
                let (units, currency) = amount.split_at(amount.len() - 3);
                let minor = units.parse::<i64>().expect("an amount such as 49usd") * 100;
                fact.mrr = Some(Money { minor, currency: Currency::parse(currency).unwrap() });
            }
        }
    }
    fact
}

/// Takes `d9` or `d9 12:00:00.001` off the words' front.
fn take_instant(words: &mut Vec<&str>) -> Timestamp {
    let word = words.remove(0);
    let day: i64 =
        word.strip_prefix('d').and_then(|day| day.parse().ok()).unwrap_or_else(|| panic!("`{word}` is no day"));
    let midnight = Timestamp::start_of_day(DAY_ZERO + day);
    let is_time = |word: &&&str| word.contains(':') && word.starts_with(|first: char| first.is_ascii_digit());
    match words.first().filter(is_time) {
        Some(_) => midnight.plus_millis(time_of_day(words.remove(0))),
        None => midnight,
    }
}

fn time_of_day(text: &str) -> i64 {
    let (whole, millis) = text.split_once('.').unwrap_or((text, "0"));
    let mut parts = whole.split(':').map(|part| part.parse::<i64>().expect("a time such as 12:00:00.001"));
    let mut next = || parts.next().unwrap_or(0);
    ((next() * 60 + next()) * 60 + next()) * 1_000 + millis.parse::<i64>().expect("three digits")
}

/// An instant as scenarios write it.
pub(super) fn shown(at: Timestamp) -> String {
    let day = at.day() - DAY_ZERO;
    let (seconds, millis) = (at.millis().rem_euclid(DAY_MILLIS) / 1_000, at.millis().rem_euclid(1_000));
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes, seconds, millis) {
        (0, 0, 0, 0) => format!("d{day}"),
        (_, _, 0, 0) => format!("d{day} {hours:02}:{minutes:02}"),
        (_, _, _, 0) => format!("d{day} {hours:02}:{minutes:02}:{seconds:02}"),
        _ => format!("d{day} {hours:02}:{minutes:02}:{seconds:02}.{millis:03}"),
    }
}
