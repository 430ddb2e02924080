//! Outages: what only missing events make look like silence is scored, because scores are a function of what came, but
//! nobody is told.

use hashbrown::HashMap;

use crate::{
    engine::{
        rules::{Condition, Rules},
        score::{add_up, dropped, inactive_since},
        state::{CustomerState, Evaluation},
        usage::{WindowLength, WindowSums},
    },
    event::{ids::AccountId, time::Timestamp},
};

/// A time in which an account's events did not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outage {
    /// Since when.
    pub from: Timestamp,
    /// Until when; absent while it lasts.
    pub until: Option<Timestamp>,
    /// How many events were usual in the slots judged when it began.
    pub expected: u64,
}

/// The outages that scores must not be believed over, by account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outages(HashMap<String, Vec<Outage>>);

impl Outages {
    /// Notes an outage.
    pub fn add(&mut self, account: &AccountId, outage: Outage) {
        self.0.entry_ref(account.as_str()).or_default().push(outage);
    }

    /// An account's outages.
    pub fn of(&self, account: &str) -> &[Outage] {
        self.0.get(account).map_or(&[], Vec::as_slice)
    }

    /// Accounts whose events do not come at present.
    pub fn open(&self) -> usize {
        self.0.values().filter(|outages| outages.iter().any(|outage| outage.until.is_none())).count()
    }
}

/// What is left of an evaluation without what may be nothing but missing events.
///
/// The clock of inactivity stands still while nothing could be seen. A drop of usage counts only if it would be one with
/// last week's usage in place of what is missing, and not while more than a quarter of the window is missing.
pub(crate) fn credible(
    state: &CustomerState,
    rules: &Rules,
    as_of: Timestamp,
    evaluation: Evaluation,
    outages: &[Outage],
) -> Evaluation {
    let as_of = as_of.max(state.newest);
    let mut active = evaluation.active;
    for (place, rule) in rules.factors.iter().enumerate() {
        if active & (1 << place) != 0 && !is_credible(state, &rule.condition, as_of, outages) {
            active &= !(1 << place);
        }
    }
    add_up(state.status(), rules, active)
}

fn is_credible(state: &CustomerState, condition: &Condition, as_of: Timestamp, outages: &[Outage]) -> bool {
    match condition {
        Condition::Inactive { event, after, since_first_seen } => {
            let Some(last) = inactive_since(state, event, *since_first_seen) else { return false };
            let blind: i64 = outages.iter().map(|outage| overlap(outage, last, as_of)).sum();
            as_of > last.plus(*after).plus_millis(blind)
        }
        Condition::UsageDrop(drop) => {
            filled(state, drop.window, as_of, outages).is_some_and(|sums| dropped(sums, drop.more_than_percent))
        }
        Condition::Recent { .. }
        | Condition::Sentiment { .. }
        | Condition::Cancellation
        | Condition::Subscription { .. }
        | Condition::Dispute
        | Condition::Downgrade { .. }
        | Condition::CardExpiry { .. } => true,
    }
}

/// The windows with last time's usage in place of what is missing; `None` where too much is.
fn filled(state: &CustomerState, window: WindowLength, as_of: Timestamp, outages: &[Outage]) -> Option<WindowSums> {
    let mut sums = state.usage.sums(window, as_of);
    let (last, length) = (window.index_of(as_of), window.length());
    let (start, end) = (window.start_of(last - length + 1), window.start_of(last + 1));
    let missing: i64 = outages.iter().map(|outage| overlap(outage, start, as_of)).sum();
    if missing.saturating_mul(4) > end.millis_since(start) {
        return None;
    }
    // One bucket may be touched by two outages and still is filled once.
    let touched = |index: i32| {
        let (start, end) = (window.start_of(index), window.start_of(index + 1));
        outages.iter().any(|outage| overlap(outage, start, end) > 0)
    };
    let before = state.usage.buckets(window);
    let was = before.iter().filter(|bucket| bucket.index <= last - length && bucket.index > last - 2 * length);
    let put_in = was.filter(|bucket| touched(bucket.index + length)).map(|bucket| u64::from(bucket.count));
    sums.current += put_in.sum::<u64>();
    Some(sums)
}

/// How long of a span an outage lasted.
fn overlap(outage: &Outage, from: Timestamp, until: Timestamp) -> i64 {
    let end = outage.until.map_or(until, |end| end.min(until));
    end.millis_since(outage.from.max(from)).max(0)
}
