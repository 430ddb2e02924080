//! Silence: when a score changes although nothing happens.

use super::{
    checkpoint::Status,
    rules::{Condition, Rules},
    score::{ForecastStep, dropped, inactive_since, last_uncleared, look_at_all},
    state::CustomerState,
};
use crate::event::{sentiment::Sentiment, time::Timestamp};

const DAY_MILLIS: i64 = 86_400_000;
/// How far a forecast looks.
const FORECAST_DAYS: i64 = 90;
/// A forecast has no more steps than this.
const MOST_STEPS: usize = 8;

/// The first instant after `after` at which the truth of any factor flips if nothing else happens; `None` if none ever does.
///
/// `after` must not lie before the newest event; an earlier instant is taken as that one.
pub fn next_change(state: &CustomerState, rules: &Rules, after: Timestamp) -> Option<Timestamp> {
    let after = after.max(state.newest);
    if state.status() != Status::Active {
        return None;
    }
    rules.factors.iter().filter_map(|factor| next_flip(state, &factor.condition, after)).min()
}

/// Until when no factor flips but those that usage alone decides, if nothing but usage happens.
pub(crate) fn steady_until(state: &CustomerState, rules: &Rules, after: Timestamp) -> Timestamp {
    let others = rules.factors.iter().filter(|factor| !matches!(factor.condition, Condition::UsageDrop(_)));
    let flips = others.filter_map(|factor| next_flip(state, &factor.condition, after));
    flips.min().unwrap_or(Timestamp::from_millis(i64::MAX))
}

/// What the level becomes if the customer stays silent: the steps at which it changes, within 90 days.
pub fn forecast(state: &CustomerState, rules: &Rules, as_of: Timestamp) -> Vec<ForecastStep> {
    let as_of = as_of.max(state.newest);
    let end = as_of.plus_millis(FORECAST_DAYS * DAY_MILLIS);
    let mut level = look_at_all(state, rules, as_of).level;
    let mut at = as_of;
    let mut steps = Vec::new();
    while steps.len() < MOST_STEPS {
        match next_change(state, rules, at) {
            Some(next) if next <= end => at = next,
            _ => break,
        }
        let then = look_at_all(state, rules, at);
        if then.level != level {
            level = then.level;
            steps.push(ForecastStep { silent_until: at, score: then.score, level });
        }
    }
    steps
}

fn next_flip(state: &CustomerState, condition: &Condition, after: Timestamp) -> Option<Timestamp> {
    let stripe = state.stripe.as_deref();
    let ends = |last: Timestamp, within: &std::time::Duration| last.plus(*within).plus_millis(1);
    let flip = match condition {
        Condition::Inactive { event, after: span, since_first_seen } => {
            inactive_since(state, event, *since_first_seen).map(|last| ends(last, span))
        }
        Condition::UsageDrop(drop) => {
            state.usage.next_flip(drop.window, after, |sums| dropped(sums, drop.more_than_percent))
        }
        Condition::Recent { event, within, cleared_by } => {
            last_uncleared(state, event, cleared_by.as_ref()).map(|last| ends(last, within))
        }
        Condition::Sentiment { within, .. } => state
            .support
            .filter(|support| support.sentiment == Sentiment::Negative)
            .map(|support| ends(support.at, within)),
        Condition::Downgrade { within } => {
            stripe.and_then(|stripe| stripe.downgraded_at()).map(|last| ends(last, within))
        }
        Condition::CardExpiry { within } => {
            stripe.and_then(|stripe| stripe.last_card_expires()).map(|end| end.minus(*within))
        }
        Condition::Cancellation | Condition::Subscription { .. } | Condition::Dispute => None,
    };
    flip.filter(|flip| *flip > after)
}
