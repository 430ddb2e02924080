//! What happened with a customer: its events, its alerts and what people did, in one line of time, the newest first.
//! Events of one name that follow each other on a day are told as one, and so is the usage of a day.

use std::collections::HashMap;

use serde_json::Value;

use super::{
    customer::spoken,
    score_chart::Event,
    words::{Badge, When},
};
use crate::{
    engine::checkpoint::{Level, OutboxKind, Status},
    event::time::Timestamp,
    store::{archive::ArchivedEvent, interventions::Intervention, outbox::StoredOutboxRow},
};

/// An entry of the timeline.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) at: When,
    /// `event`, `alert`, `held` or `intervention`.
    pub(super) kind: &'static str,
    pub(super) title: String,
    pub(super) text: Option<String>,
    pub(super) badge: Option<Badge>,
    /// The alert's id.
    pub(super) alert: Option<String>,
    /// Who saw the alert, and when.
    pub(super) seen: Option<(String, When)>,
}

/// Everything, the newest first.
pub(super) fn entries(
    events: &[ArchivedEvent],
    alerts: &[StoredOutboxRow],
    interventions: &[Intervention],
    seen: &HashMap<String, (String, Timestamp)>,
) -> Vec<Entry> {
    let mut entries = of_events(events);
    entries.extend(alerts.iter().map(|alert| of_alert(alert, seen)));
    entries.extend(interventions.iter().flat_map(of_intervention));
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.at.0));
    entries
}

/// What the chart points out: alerts, interventions, and the events that matter to scores by themselves.
pub(super) fn marks(
    events: &[ArchivedEvent],
    alerts: &[StoredOutboxRow],
    interventions: &[Intervention],
) -> Vec<Event> {
    let date = |at: Timestamp| at.to_string().chars().take(10).collect::<String>();
    let alerts = alerts.iter().map(|alert| {
        let kind = if alert.row.kind == OutboxKind::HeldAlert { "held" } else { "alert" };
        Event {
            at: alert.row.at,
            kind,
            title: format!("{}: {}", date(alert.row.at), alert_title(&body_of(alert), kind)),
        }
    });
    let interventions = interventions.iter().map(|done| {
        let title = format!("{}: {}", date(done.created_at), done.action);
        Event { at: done.created_at, kind: "intervention", title }
    });
    let telling = events.iter().filter(|event| !is_routine(&event.name)).map(|event| Event {
        at: event.occurred_at,
        kind: "event",
        title: format!("{}: {}", date(event.occurred_at), spoken(&event.name)),
    });
    // What comes later is drawn above.
    telling.chain(interventions).chain(alerts).collect()
}

/// Usage and its like, of which there is much.
fn is_routine(name: &str) -> bool {
    let telling = [
        "payment_",
        "subscription_",
        "dispute",
        "card_",
        "invoice_",
        "support_",
        "billing_",
        "cancel",
        "downgrad",
        "refund",
    ];
    !telling.iter().any(|start| name.starts_with(start))
}

fn of_events(events: &[ArchivedEvent]) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut rest = events;
    while let Some(first) = rest.first() {
        let day = first.occurred_at.day();
        let same = |event: &&ArchivedEvent| {
            let alike = event.name == first.name || (is_routine(&event.name) && is_routine(&first.name));
            alike && event.occurred_at.day() == day
        };
        let count = rest.iter().take_while(same).count().max(1);
        let title = counted(&rest[..count]);
        let text = if count == 1 { detail_of(first) } else { None };
        entries.push(Entry {
            at: When(first.occurred_at),
            kind: "event",
            title,
            text,
            badge: None,
            alert: None,
            seen: None,
        });
        rest = &rest[count..];
    }
    entries
}

/// `Login, 3 × search`: each name once, in the order in which they came last.
fn counted(events: &[ArchivedEvent]) -> String {
    let mut names: Vec<(&str, usize)> = Vec::new();
    for event in events {
        match names.iter_mut().find(|(name, _)| *name == event.name) {
            Some((_, count)) => *count += 1,
            None => names.push((&event.name, 1)),
        }
    }
    let told = names.iter().enumerate().map(|(place, (name, count))| {
        let words = if place == 0 && *count == 1 { spoken(name) } else { name.replace('_', " ") };
        if *count == 1 { words } else { format!("{count} × {words}") }
    });
    told.collect::<Vec<_>>().join(", ")
}

/// A few plain properties, as `plan: team`.
fn detail_of(event: &ArchivedEvent) -> Option<String> {
    const MOST: usize = 3;
    const MOST_CHARACTERS: usize = 60;
    let properties: Value = serde_json::from_str(event.properties.as_deref()?).ok()?;
    let plain = properties.as_object()?.iter().filter_map(|(name, value)| {
        let value = match value {
            Value::String(text) if text.chars().count() <= MOST_CHARACTERS => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Bool(flag) => flag.to_string(),
            _ => return None,
        };
        Some(format!("{name}: {value}"))
    });
    let plain: Vec<String> = plain.take(MOST).collect();
    (!plain.is_empty()).then(|| plain.join(" · "))
}

fn body_of(alert: &StoredOutboxRow) -> Value {
    // It was written by the engine as an object.
    serde_json::from_slice(&alert.row.body).unwrap_or_default()
}

fn of_alert(alert: &StoredOutboxRow, seen: &HashMap<String, (String, Timestamp)>) -> Entry {
    let body = body_of(alert);
    let kind = if alert.row.kind == OutboxKind::HeldAlert { "held" } else { "alert" };
    let id = body["id"].as_str().unwrap_or_default().to_owned();
    let reasons: Vec<&str> = body["factors"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let status = if body["kind"] == "customer.churned" { Status::Churned } else { Status::Active };
    Entry {
        at: When(alert.row.at),
        kind,
        title: alert_title(&body, kind),
        text: (!reasons.is_empty()).then(|| reasons.join(" · ")),
        badge: Some(Badge { level: level_of(&body["level"]), status }),
        seen: seen.get(&id).map(|(by, at)| (by.clone(), When(*at))),
        alert: Some(id),
    }
}

fn alert_title(body: &Value, kind: &str) -> String {
    let (level, before) = (level_of(&body["level"]), level_of(&body["previousLevel"]));
    let what = match body["kind"].as_str() {
        Some("customer.churned") => "Customer churned".to_owned(),
        Some("customer.recovered") => "Customer came back".to_owned(),
        Some("risk.lowered") => format!("Risk fell from {} to {}", before.as_str(), level.as_str()),
        _ => format!("Risk rose from {} to {}", before.as_str(), level.as_str()),
    };
    let score = body["score"].as_u64().unwrap_or_default();
    if kind == "held" {
        format!("{what}, score {score} (not sent: announced lately)")
    } else {
        format!("{what}, score {score}")
    }
}

fn level_of(value: &Value) -> Level {
    match value.as_str() {
        Some("high") => Level::High,
        Some("medium") => Level::Medium,
        _ => Level::Low,
    }
}

/// Its beginning, and its end if it has one.
fn of_intervention(done: &Intervention) -> Vec<Entry> {
    let entry = |at, title: String, text: Option<String>| Entry {
        at: When(at),
        kind: "intervention",
        title,
        text,
        badge: None,
        alert: None,
        seen: None,
    };
    let by = done.created_by.as_deref().map(|by| format!("by {by}"));
    let mut entries = vec![entry(done.created_at, format!("Began: {}", done.action), by)];
    if let (Some(at), Some(outcome)) = (done.closed_at, done.outcome) {
        let outcome = match outcome {
            crate::store::interventions::Outcome::Saved => "saved",
            crate::store::interventions::Outcome::Lost => "lost",
            crate::store::interventions::Outcome::NoReply => "no reply",
            crate::store::interventions::Outcome::NotNeeded => "not needed",
        };
        entries.push(entry(at, format!("Ended, {outcome}: {}", done.action), done.note.clone()));
    }
    entries
}
