//! A customer in a partition's memory: its state with what the partition must know to evaluate and store it.

use std::sync::Arc;

use super::{
    checkpoint::{Level, ScoreRow, StateRow, Status},
    fleet::{Outages, outage::credible},
    partition::Policy,
    rules::Rules,
    score::{describe, evaluate_usage},
    silence::{next_change, steady_until},
    snapshot,
    state::{CustomerState, Evaluation},
};
use crate::event::{
    ids::{AccountId, CustomerId},
    time::Timestamp,
};

/// How long a level that missing events keep back is left alone before it is looked at again.
const LOOK_AGAIN_MILLIS: i64 = 3_600_000;

/// A customer in memory.
#[derive(Debug)]
pub(super) struct Customer {
    /// `<account>.<token>`.
    pub(super) key: Box<str>,
    /// The full id, where the token is not the same text.
    pub(super) id: Option<Box<str>>,
    pub(super) state: CustomerState,
    pub(super) rules: Arc<Rules>,
    pub(super) due_at: Option<Timestamp>,
    /// The generation of checkpoints in which it was last touched.
    pub(super) touched: u32,
    pub(super) dirty: bool,
    pub(super) in_flight: bool,
    pub(super) is_new: bool,
    pub(super) score_changed: bool,
    /// As of when it was last evaluated.
    pub(super) evaluated_at: Timestamp,
    /// Until when its evaluation holds but for what usage changes; not worked out yet if absent.
    pub(super) steady_until: Option<Timestamp>,
    /// Since when it waits to be evaluated.
    pub(super) unsettled_since: Option<Timestamp>,
}

impl Customer {
    pub(super) fn customer_id(&self) -> &str {
        self.id.as_deref().unwrap_or_else(|| token_of(&self.key))
    }

    pub(super) fn identity(&self) -> (AccountId, CustomerId) {
        let account = AccountId::parse(account_of(&self.key)).expect("a key begins with an account");
        let customer = CustomerId::parse(self.customer_id()).expect("an admitted customer has an id");
        (account, customer)
    }

    /// After an event that changed the amount of usage alone: whether the last evaluation still holds as of `now`.
    pub(super) fn stays_as_it_is(&mut self, now: Timestamp) -> bool {
        let as_of = now.max(self.state.newest);
        let Some(last) = self.state.evaluated else { return false };
        if self.unsettled_since.is_some() || self.state.is_untold() || last.rules != self.rules.hash() {
            return false;
        }
        // Whoever was loaded may have been due while nobody watched.
        if self.due_at.is_some_and(|due_at| due_at <= as_of) {
            return false;
        }
        let (state, rules, evaluated_at) = (&mut self.state, &self.rules, self.evaluated_at);
        let steady_until = self.steady_until.get_or_insert_with(|| steady_until(state, rules, evaluated_at));
        if as_of < evaluated_at || as_of >= *steady_until {
            return false;
        }
        let by_usage: u64 = rules.usage_drops().iter().map(|(bit, _)| bit).sum();
        if last.active & by_usage != evaluate_usage(state, rules, as_of) {
            return false;
        }
        self.evaluated_at = as_of;
        true
    }

    /// What of an evaluation receivers may hear of: a rise only as far as missing events cannot be all that is behind it.
    pub(super) fn worth_telling(&self, evaluation: Evaluation, as_of: Timestamp, outages: &Outages) -> Evaluation {
        let told = &self.state.alerts;
        let rises = told.churned || evaluation.level > told.level;
        if !rises || evaluation.status != Status::Active {
            return evaluation;
        }
        let outages = outages.of(account_of(&self.key));
        if outages.is_empty() {
            return evaluation;
        }
        let credible = credible(&self.state, &self.rules, as_of, evaluation, outages);
        // What is told already is not taken back as long as the score says it too.
        let level = if told.churned { credible.level } else { credible.level.max(told.level) };
        Evaluation { level, ..credible }
    }

    /// The table says what memory says.
    pub(super) fn is_clean(&self) -> bool {
        !self.dirty && !self.in_flight
    }

    /// When it must be evaluated if nothing happens: for one that waits for an import to be over, whoever has it then.
    pub(super) fn next_due(&self, now: Timestamp, policy: Policy) -> Option<Timestamp> {
        if self.unsettled_since.is_some() {
            // A note that stands is enough: an import stores the same customers every second.
            let latest = now.plus_millis(policy.settle_millis);
            return Some(self.due_at.map_or(latest, |noted| noted.min(latest)));
        }
        let change = next_change(&self.state, &self.rules, self.evaluated_at);
        let release = match self.state.alerts.release_at(policy.cooldown_millis) {
            // Missing events keep it back: when it becomes credible depends on other customers' events too.
            None if self.state.is_untold() => Some(self.evaluated_at.plus_millis(LOOK_AGAIN_MILLIS)),
            release => release,
        };
        change.into_iter().chain(release).min()
    }

    pub(super) fn state_row(&self) -> StateRow {
        let (account, customer) = self.identity();
        let evaluation = self.state.evaluated.unwrap_or_default();
        StateRow {
            account,
            token: token_of(&self.key).into(),
            customer,
            snapshot: snapshot::encode(&self.state),
            score: evaluation.score,
            level: evaluation.level,
            status: self.state.status(),
            mrr: self.state.mrr(),
            due_at: self.due_at,
            is_new: self.is_new,
        }
    }

    pub(super) fn score_row(&self) -> ScoreRow {
        let (account, customer) = self.identity();
        let at = self.evaluated_at;
        let assessment = describe(&self.state, &self.rules, at, self.state.evaluated.unwrap_or_default());
        ScoreRow {
            account,
            token: token_of(&self.key).into(),
            customer,
            at,
            score: assessment.score,
            level: assessment.level,
            status: assessment.status,
            factors: assessment.factors,
        }
    }
}

/// What of an evaluation a reader of scores can see.
pub(super) type Visible = (u8, Level, Status, u64);

/// What is taken to be seen of a customer that was never evaluated.
pub(super) const UNSEEN: Visible = (0, Level::Low, Status::Active, 0);

pub(super) fn visible(evaluation: Evaluation) -> Visible {
    (evaluation.score, evaluation.level, evaluation.status, evaluation.active)
}

pub(super) fn account_of(key: &str) -> &str {
    key.split_once('.').map_or(key, |(account, _)| account)
}

pub(super) fn token_of(key: &str) -> &str {
    key.split_once('.').map_or(key, |(_, token)| token)
}
