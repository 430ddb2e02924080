//! What a customer's score would have been: archived events applied once more, silence between them included.
//!
//! An approximation for people: the archive keeps no Stripe facts, and may have forgotten what came before. Scores that
//! were stored are the truth.

use serde_json::{json, value::RawValue};

use super::{checkpoint::Level, rules::Rules, score::look_at_all, silence::next_change, state::CustomerState};
use crate::event::{
    decode::{Encoding, decode},
    time::Timestamp,
};

/// More steps than that are not told.
const MOST_STEPS: usize = 2_000;

/// An event as the archive keeps it.
#[derive(Clone, Copy, Debug)]
pub struct Archived<'a> {
    /// What happened.
    pub name: &'a str,
    /// The event's id, if it has one.
    pub id: Option<&'a str>,
    /// When it happened.
    pub at: Timestamp,
    /// Its properties as JSON.
    pub properties: Option<&'a str>,
}

/// A score, from an instant on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// From when on.
    pub at: Timestamp,
    /// 0 to 100.
    pub score: u8,
    /// The score's level.
    pub level: Level,
}

/// The scores up to `until` that these events, in the order in which they happened, lead to.
pub fn replay<'a>(rules: &Rules, events: impl IntoIterator<Item = Archived<'a>>, until: Timestamp) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut state: Option<CustomerState> = None;
    for event in events.into_iter().filter(|event| event.at < until) {
        if let Some(state) = &state {
            be_silent(state, rules, event.at, &mut steps);
        }
        let state = state.get_or_insert_with(|| CustomerState::new(event.at));
        apply(state, rules, &event);
        note(state, rules, event.at, &mut steps);
    }
    if let Some(state) = &state {
        be_silent(state, rules, until, &mut steps);
    }
    steps
}

fn apply(state: &mut CustomerState, rules: &Rules, event: &Archived<'_>) {
    let properties = event.properties.and_then(|json| serde_json::from_str::<&RawValue>(json).ok());
    let body = json!({"event": event.name, "id": event.id, "properties": properties}).to_string();
    let mut scratch = Vec::new();
    if let Ok(decoded) = decode(body.as_bytes(), Encoding::Json, &mut scratch) {
        state.apply(&decoded, event.at, rules);
    }
}

/// What changes although nothing happens.
fn be_silent(state: &CustomerState, rules: &Rules, until: Timestamp, steps: &mut Vec<Step>) {
    let mut at = state.newest();
    while steps.len() < MOST_STEPS {
        match next_change(state, rules, at) {
            Some(next) if next < until => at = next,
            _ => return,
        }
        note(state, rules, at, steps);
    }
}

fn note(state: &CustomerState, rules: &Rules, at: Timestamp, steps: &mut Vec<Step>) {
    let found = look_at_all(state, rules, at);
    if steps.len() < MOST_STEPS && steps.last().is_none_or(|last| last.score != found.score) {
        steps.push(Step { at, score: found.score, level: found.level });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400_000;

    fn day(number: i64) -> Timestamp {
        Timestamp::from_millis(1_772_366_400_000 + number * DAY)
    }

    #[test]
    fn events_and_silence_make_the_steps() {
        let rules = Rules::default();
        let event = |name, at| Archived { name, id: None, at, properties: None };
        let events = [event("login", day(0)), event("payment_failed", day(1)), event("payment_succeeded", day(3))];
        let steps = replay(&rules, events, day(40));
        let seen: Vec<(i64, u8)> = steps.iter().map(|step| (step.at.millis_since(day(0)) / DAY, step.score)).collect();
        assert_eq!(seen[..3], [(0, 0), (1, 40), (3, 0)]);
        assert!(seen.contains(&(14, 30)) || seen.contains(&(14, 55)), "silence after 14 days: {seen:?}");
        assert!(replay(&rules, events, day(0)).is_empty());
    }

    #[test]
    fn properties_and_ids_count() {
        let rules = Rules::default();
        let negative = Archived {
            name: "support_ticket",
            id: Some("1"),
            at: day(0),
            properties: Some(r#"{"sentiment":"negative"}"#),
        };
        assert_eq!(replay(&rules, [negative, negative], day(1)), [Step { at: day(0), score: 15, level: Level::Low }]);
    }
}
