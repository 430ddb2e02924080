//! The score: which factors are active as of an instant, and what they add up to. Pure and piecewise constant in time.

use serde::Serialize;

use super::{
    checkpoint::{Factor, Level, Status},
    names::Name,
    rules::{Condition, FactorRule, Rules, UsageDrop},
    state::{CustomerState, Evaluation},
    stripe::StripeState,
    usage::{WindowLength, WindowSums},
};
use crate::event::{sentiment::Sentiment, time::Timestamp};

/// A score with its reasons.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assessment {
    /// 0 safe, 100 at risk.
    pub score: u8,
    /// The score's level.
    pub level: Level,
    /// Where the customer stands in its life.
    pub status: Status,
    /// The active factors in the order of the rules.
    pub factors: Vec<Factor>,
    /// What to do about the factor with the most points.
    pub suggested_action: Option<String>,
}

/// What an active factor is called in details when the customer has churned.
const ENDED: &str = "subscription_ended";

/// The score as of `as_of`, which must not lie before the newest event; an earlier instant is taken as that one.
pub fn assess(state: &CustomerState, rules: &Rules, as_of: Timestamp) -> Assessment {
    let as_of = as_of.max(state.newest);
    describe(state, rules, as_of, look_at_all(state, rules, as_of))
}

/// The same as [`assess`] without words.
pub(crate) fn look_at_all(state: &CustomerState, rules: &Rules, as_of: Timestamp) -> Evaluation {
    let as_of = as_of.max(state.newest);
    evaluate_by(state, rules, as_of, |length| state.usage.sums(length, as_of))
}

/// The same as [`look_at_all`] from running sums.
pub(crate) fn evaluate(state: &mut CustomerState, rules: &Rules, as_of: Timestamp) -> Evaluation {
    let as_of = as_of.max(state.newest);
    let mut usage = std::mem::take(&mut state.usage);
    let evaluation = evaluate_by(state, rules, as_of, |length| usage.running_sums(length, as_of));
    state.usage = usage;
    evaluation
}

/// The bits of the factors that usage alone decides, from running sums.
pub(crate) fn evaluate_usage(state: &mut CustomerState, rules: &Rules, as_of: Timestamp) -> u64 {
    let mut active = 0;
    for (bit, drop) in rules.usage_drops() {
        if dropped(state.usage.running_sums(drop.window, as_of), drop.more_than_percent) {
            active |= bit;
        }
    }
    active
}

/// Puts an evaluation made as of `as_of` into words.
pub(crate) fn describe(state: &CustomerState, rules: &Rules, as_of: Timestamp, evaluation: Evaluation) -> Assessment {
    let active = || rules.factors.iter().enumerate().filter(|(place, _)| evaluation.active & (1 << place) != 0);
    let mut factors: Vec<Factor> = active()
        .map(|(_, rule)| Factor { factor: rule.name.clone(), points: rule.points, reason: reason(state, rule, as_of) })
        .collect();
    let mut suggested_action = active()
        .min_by_key(|(place, rule)| (std::cmp::Reverse(rule.points), *place))
        .and_then(|(_, rule)| rule.action.clone());
    if evaluation.status == Status::Churned {
        factors.insert(0, Factor { factor: ENDED.into(), points: 100, reason: "Last subscription ended".into() });
        suggested_action = Some("Ask why they left and offer a way back".into());
    }
    Assessment {
        score: evaluation.score,
        level: evaluation.level,
        status: evaluation.status,
        factors,
        suggested_action,
    }
}

fn evaluate_by(
    state: &CustomerState,
    rules: &Rules,
    as_of: Timestamp,
    mut sums: impl FnMut(WindowLength) -> WindowSums,
) -> Evaluation {
    let status = state.status();
    let mut active = 0;
    if status != Status::Moved {
        for (place, rule) in rules.factors.iter().enumerate() {
            if holds(state, &rule.condition, as_of, &mut sums) {
                active |= 1 << place;
            }
        }
    }
    add_up(status, rules, active)
}

/// What active factors add up to.
pub(crate) fn add_up(status: Status, rules: &Rules, active: u64) -> Evaluation {
    let (mut points, mut at_least) = (0_u32, 0_u8);
    for (_, rule) in rules.factors.iter().enumerate().filter(|(place, _)| active & (1 << place) != 0) {
        points += u32::from(rule.points);
        at_least = at_least.max(rule.at_least);
    }
    let score = match status {
        Status::Active => u8::try_from(points.min(100)).expect("at most 100").max(at_least),
        Status::Churned => 100,
        Status::Moved => 0,
    };
    Evaluation { score, level: rules.level_of(score), status, active, rules: rules.hash() }
}

/// Whether a factor is active as of an instant that does not lie before the newest event.
pub(crate) fn holds(
    state: &CustomerState,
    condition: &Condition,
    as_of: Timestamp,
    sums: &mut impl FnMut(WindowLength) -> WindowSums,
) -> bool {
    let stripe = state.stripe.as_deref();
    match condition {
        Condition::Inactive { event, after, since_first_seen } => {
            inactive_since(state, event, *since_first_seen).is_some_and(|last| as_of > last.plus(*after))
        }
        Condition::UsageDrop(drop) => dropped(sums(drop.window), drop.more_than_percent),
        Condition::Recent { event, within, cleared_by } => {
            last_uncleared(state, event, cleared_by.as_ref()).is_some_and(|last| as_of <= last.plus(*within))
        }
        Condition::Sentiment { within, .. } => state
            .support
            .is_some_and(|support| support.sentiment == Sentiment::Negative && as_of <= support.at.plus(*within)),
        Condition::Cancellation => stripe.is_some_and(|stripe| stripe.cancellation().is_some()),
        Condition::Subscription { statuses } => stripe.is_some_and(|stripe| stripe.status_among(statuses).is_some()),
        Condition::Dispute => stripe.is_some_and(StripeState::has_open_dispute),
        Condition::Downgrade { within } => {
            stripe.and_then(StripeState::downgraded_at).is_some_and(|last| as_of <= last.plus(*within))
        }
        Condition::CardExpiry { within } => {
            stripe.and_then(StripeState::last_card_expires).is_some_and(|end| as_of >= end.minus(*within))
        }
    }
}

/// From when on a customer counts as inactive; `None` where that is not known.
pub(crate) fn inactive_since(state: &CustomerState, event: &Name, since_first_seen: bool) -> Option<Timestamp> {
    state.last(event).or(since_first_seen.then_some(state.first_seen))
}

/// When `event` was last seen, unless `cleared_by` came at or after it.
pub(crate) fn last_uncleared(state: &CustomerState, event: &Name, cleared_by: Option<&Name>) -> Option<Timestamp> {
    let last = state.last(event)?;
    let cleared = cleared_by.and_then(|cleared_by| state.last(cleared_by));
    cleared.is_none_or(|cleared| cleared < last).then_some(last)
}

/// Whether usage fell by more than so many percent.
pub(crate) fn dropped(sums: WindowSums, more_than_percent: u8) -> bool {
    let (previous, current) = (u128::from(sums.previous), u128::from(sums.current));
    previous > 0 && previous.saturating_sub(current) * 100 > u128::from(more_than_percent) * previous
}

/// By how many percent usage fell, half up.
fn percent_dropped(sums: WindowSums) -> u128 {
    let (previous, current) = (u128::from(sums.previous), u128::from(sums.current));
    (previous.saturating_sub(current) * 200 + previous).checked_div(2 * previous).unwrap_or(0)
}

fn reason(state: &CustomerState, rule: &FactorRule, as_of: Timestamp) -> String {
    let days_since = |instant: Timestamp| as_of.millis_since(instant).max(0).div_euclid(86_400_000).to_string();
    let date = |instant: Timestamp| instant.to_string().chars().take(10).collect::<String>();
    let stripe = state.stripe.as_deref();
    let filled = match &rule.condition {
        Condition::Inactive { event, since_first_seen, .. } => {
            inactive_since(state, event, *since_first_seen).map(|last| ("{days}", days_since(last)))
        }
        Condition::Recent { event, .. } => state.last(event).map(|last| ("{days}", days_since(last))),
        Condition::Sentiment { .. } => state.support.map(|support| ("{days}", days_since(support.at))),
        Condition::UsageDrop(UsageDrop { window, .. }) => {
            Some(("{pct}", percent_dropped(state.usage.sums(*window, as_of)).to_string()))
        }
        Condition::Cancellation => stripe.and_then(StripeState::cancellation).map(|end| ("{date}", date(end))),
        Condition::Subscription { statuses } => stripe
            .and_then(|stripe| stripe.status_among(statuses))
            .map(|status| ("{status}", format!("{status:?}")))
            .map(|(key, status)| (key, spaced(&status))),
        Condition::Dispute => None,
        Condition::Downgrade { .. } => {
            stripe.and_then(StripeState::downgraded_at).map(|last| ("{days}", days_since(last)))
        }
        Condition::CardExpiry { .. } => {
            stripe.and_then(StripeState::last_card_expires).map(|end| ("{date}", date(end)))
        }
    };
    match filled {
        Some((placeholder, value)) => rule.reason.replace(placeholder, &value),
        None => rule.reason.clone(),
    }
}

/// `PastDue` as `past due`.
fn spaced(name: &str) -> String {
    let mut words = String::with_capacity(name.len() + 2);
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.push(letter.to_ascii_lowercase());
    }
    words
}

/// What silence does next: the score and level from an instant on, if nothing else happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ForecastStep {
    /// Nothing happened until this instant.
    pub silent_until: Timestamp,
    /// The score from then on.
    #[schema(maximum = 100)]
    pub score: u8,
    /// Its level.
    pub level: Level,
}
