//! What a customer's subscriptions add to its score, recomputed from all facts about them.
//!
//! Of the facts about one subscription the newest counts: by `created`, and in the same second a deletion after an
//! update after a creation. What ended never comes back.

use std::collections::HashSet;

use rand::{
    RngExt, SeedableRng,
    rngs::StdRng,
    seq::{IndexedRandom, SliceRandom},
};
use serde_json::json;

use super::instant::{self, DAY, SECOND};

/// One webhook's word on one subscription; the texts as they stand in the fact's JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fact {
    pub(crate) subscription: String,
    pub(crate) created: i64,
    pub(crate) change: &'static str,
    pub(crate) status: &'static str,
    pub(crate) cancel_at: Option<i64>,
    pub(crate) downgraded: bool,
}

/// What the subscriptions say about the customer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Its last subscription ended: the score is 100, whatever else there is.
    pub(crate) churned: bool,
    /// A running subscription is going to end.
    pub(crate) cancellation_scheduled: bool,
    /// A running subscription is not paid.
    pub(crate) unpaid: bool,
    /// It went to a cheaper plan within the last 30 days.
    pub(crate) downgraded: bool,
}

impl Verdict {
    /// The score, given the sum of the points of all other factors.
    pub(crate) fn score(&self, others: i64) -> i64 {
        if self.churned {
            return 100;
        }
        let scheduled = if self.cancellation_scheduled { 50 } else { 0 };
        let downgrade = if self.downgraded { 20 } else { 0 };
        let sum = (others + scheduled + downgrade).min(100);
        let floor = if self.cancellation_scheduled {
            80
        } else if self.unpaid {
            60
        } else {
            0
        };
        sum.max(floor)
    }
}

/// What all facts known at an instant say together.
pub(crate) fn verdict(facts: &[Fact], as_of: i64) -> Verdict {
    let known: Vec<&Fact> = facts.iter().filter(|fact| fact.created <= as_of).collect();
    let mut names: Vec<&str> = known.iter().map(|fact| fact.subscription.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let standing: Vec<&Fact> = names.iter().map(|name| newest(&known, name)).collect();
    let running: Vec<&&Fact> = standing.iter().filter(|fact| is_running(fact.status)).collect();
    Verdict {
        churned: running.is_empty() && standing.iter().any(|fact| fact.status == "canceled"),
        cancellation_scheduled: running.iter().any(|fact| fact.cancel_at.is_some()),
        unpaid: running.iter().any(|fact| matches!(fact.status, "past_due" | "unpaid")),
        downgraded: known.iter().any(|fact| fact.downgraded && as_of - fact.created <= 30 * DAY),
    }
}

fn newest<'a>(known: &[&'a Fact], subscription: &str) -> &'a Fact {
    let about: Vec<&Fact> = known.iter().copied().filter(|fact| fact.subscription == subscription).collect();
    let ended = about.iter().copied().filter(|fact| has_ended(fact.status));
    let by_age = |fact: &&Fact| (fact.created, rank(fact.change));
    ended.max_by_key(by_age).or_else(|| about.iter().copied().max_by_key(by_age)).expect("it was named by a fact")
}

fn rank(change: &str) -> u8 {
    match change {
        "created" => 0,
        "updated" => 1,
        "deleted" => 2,
        other => panic!("no change is called {other}"),
    }
}

fn has_ended(status: &str) -> bool {
    matches!(status, "canceled" | "incomplete_expired")
}

fn is_running(status: &str) -> bool {
    matches!(status, "trialing" | "active" | "past_due" | "unpaid" | "paused")
}

/// Draws what webhooks said about one customer's subscriptions around an instant; many of them in the same seconds.
pub(crate) fn draw(seed: u64, as_of: i64) -> Vec<Fact> {
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut facts, mut taken) = (Vec::new(), HashSet::new());
    let subscriptions = rng.random_range(1..4);
    for _ in 0..rng.random_range(1..10) {
        let subscription = format!("sub_{}", rng.random_range(0..subscriptions));
        let second = match rng.random_range(0..6) {
            0 => 30 * DAY + rng.random_range(-1..=1) * SECOND,
            1 => rng.random_range(-5..=1) * DAY,
            _ => rng.random_range(0..4) * DAY,
        };
        let change = *["created", "updated", "updated", "deleted"].choose(&mut rng).expect("not empty");
        let statuses: &[&str] = match change {
            "created" => &["incomplete", "trialing", "active"],
            "updated" => &["trialing", "active", "active", "past_due", "unpaid", "paused", "incomplete_expired"],
            _ => &["canceled"],
        };
        let status = *statuses.choose(&mut rng).expect("not empty");
        let cancel_at = (change == "updated" && rng.random_bool(0.2)).then_some(as_of + 9 * DAY);
        let downgraded = change == "updated" && rng.random_bool(0.2);
        let created = (as_of - second).div_euclid(SECOND) * SECOND;
        if taken.insert((subscription.clone(), created, change)) {
            facts.push(Fact { subscription, created, change, status, cancel_at, downgraded });
        }
    }
    facts.shuffle(&mut rng);
    facts
}

/// A fact as the event that a webhook becomes.
pub(crate) fn event(customer: &str, fact: &Fact) -> String {
    let mut body = json!({
        "kind": "subscription", "id": fact.subscription, "created": instant::utc(fact.created),
        "change": fact.change, "status": fact.status, "downgraded": fact.downgraded,
    });
    if let Some(at) = fact.cancel_at {
        body["cancel_at"] = instant::utc(at).into();
    }
    let at = instant::utc(fact.created);
    json!({"customerId": customer, "event": "subscription_updated", "timestamp": at, "facts": [body]}).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fact(subscription: &str, created: i64, change: &'static str, status: &'static str) -> Fact {
        Fact { subscription: subscription.into(), created, change, status, cancel_at: None, downgraded: false }
    }

    #[test]
    fn the_newest_fact_counts_whatever_the_order() {
        let facts = [fact("a", 2, "updated", "past_due"), fact("a", 1, "created", "active")];
        assert_eq!(verdict(&facts, 9), Verdict { unpaid: true, ..Verdict::default() });
        assert_eq!(verdict(&facts, 9).score(0), 60);
        assert_eq!(verdict(&facts, 1), Verdict::default());
    }

    #[test]
    fn in_the_same_second_the_later_change_counts() {
        let facts = [fact("a", 1, "updated", "past_due"), fact("a", 1, "created", "active")];
        assert!(verdict(&facts, 9).unpaid);
        let facts = [fact("a", 1, "deleted", "canceled"), fact("a", 1, "updated", "active")];
        assert!(verdict(&facts, 9).churned);
    }

    #[test]
    fn what_ended_never_comes_back_but_another_subscription_does() {
        let mut facts = vec![fact("a", 1, "deleted", "canceled"), fact("a", 5, "updated", "active")];
        assert!(verdict(&facts, 9).churned);
        assert_eq!(verdict(&facts, 9).score(0), 100);
        facts.push(fact("b", 7, "created", "active"));
        assert!(!verdict(&facts, 9).churned);
        assert!(verdict(&facts, 6).churned);
    }

    #[test]
    fn who_never_subscribed_did_not_churn() {
        assert!(!verdict(&[fact("a", 1, "updated", "incomplete_expired")], 9).churned);
        assert!(!verdict(&[fact("a", 1, "created", "incomplete")], 9).churned);
    }

    #[test]
    fn a_scheduled_end_and_a_downgrade_add_up() {
        let mut scheduled = fact("a", DAY, "updated", "active");
        scheduled.cancel_at = Some(40 * DAY);
        scheduled.downgraded = true;
        assert_eq!(verdict(&[scheduled.clone()], 31 * DAY).score(0), 80);
        assert_eq!(verdict(&[scheduled.clone()], 31 * DAY).score(20), 90);
        assert_eq!(verdict(&[scheduled], 31 * DAY + 1).score(20), 80);
    }
}
