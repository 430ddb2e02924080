//! Subscriptions: status, planned end, monthly revenue, and whether an update lowered it.
//!
//! Only active and past due subscriptions bring revenue; one on trial, paused, unpaid or incomplete brings 0. A paused
//! collection keeps its status and its revenue. A new amount is a downgrade if it is lower a month than the one before,
//! in the same currency; a change of interval at the same price is none.

use serde::Deserialize;

use super::{
    CustomerRef, StripeEvent,
    recurring::{self, Item, Plan},
    view::{Id, List, Seconds, Webhook, lax, missing},
};
use crate::event::{
    decode::Reject,
    fact::{Change, StripeFact, SubscriptionFact, SubscriptionStatus},
    money::Money,
    time::Timestamp,
};

#[derive(Deserialize)]
struct Subscription {
    #[serde(default, deserialize_with = "lax")]
    id: Option<Id>,
    #[serde(default, deserialize_with = "lax")]
    status: Option<SubscriptionStatus>,
    #[serde(default, deserialize_with = "lax")]
    cancel_at: Option<Seconds>,
    #[serde(default, deserialize_with = "lax")]
    cancel_at_period_end: Option<bool>,
    #[serde(default, deserialize_with = "lax")]
    current_period_end: Option<Seconds>,
    #[serde(default, deserialize_with = "lax")]
    ended_at: Option<Seconds>,
    #[serde(default, deserialize_with = "lax")]
    currency: Option<String>,
}

/// What is billed: the items, or in old payloads one plan and its quantity.
#[derive(Deserialize)]
struct Terms {
    #[serde(default, deserialize_with = "lax")]
    items: Option<List<Item>>,
    #[serde(default, deserialize_with = "lax")]
    plan: Option<Plan>,
    #[serde(default, deserialize_with = "lax")]
    quantity: Option<u64>,
}

/// Where the items' periods end, for payloads whose subscription does not say.
#[derive(Deserialize)]
struct Periods {
    #[serde(default, deserialize_with = "lax")]
    items: Option<List<Period>>,
}

#[derive(Deserialize)]
struct Period {
    #[serde(default, deserialize_with = "lax")]
    current_period_end: Option<Seconds>,
}

/// Reads a subscription's webhook.
pub(super) fn read(webhook: Webhook<'_>, change: Change) -> Result<StripeEvent, Reject> {
    let customer = webhook.required_customer()?;
    let subscription: Subscription = webhook.object()?;
    let status = match change {
        Change::Deleted => SubscriptionStatus::Canceled,
        Change::Created | Change::Updated => subscription.status.ok_or_else(|| missing("data.object.status"))?,
    };
    let ended = status.is_terminal();
    let currency = subscription.currency.as_deref();
    let amount = monthly(webhook.object()?, currency);
    let before = if change == Change::Updated { monthly_before(&webhook, currency)? } else { None };
    let fact = SubscriptionFact {
        created: webhook.created,
        change,
        status,
        cancel_at: if ended { None } else { planned_end(&webhook, &subscription)? },
        ended_at: ended.then(|| subscription.ended_at.map_or(webhook.created, |ended_at| ended_at.0)),
        mrr: amount.map(|amount| if brings_revenue(status) { amount } else { Money { minor: 0, ..amount } }),
        downgraded: is_lower(amount, before),
        id: subscription.id.ok_or_else(|| missing("data.object.id"))?.0,
    };
    let mut event = webhook.event(CustomerRef::Customer(customer));
    event.facts.push(StripeFact::Subscription(fact));
    Ok(event)
}

fn brings_revenue(status: SubscriptionStatus) -> bool {
    matches!(status, SubscriptionStatus::Active | SubscriptionStatus::PastDue)
}

/// `cancel_at`, or the end of the period that is to be the last; of several the first, which warns in time.
fn planned_end(webhook: &Webhook<'_>, subscription: &Subscription) -> Result<Option<Timestamp>, Reject> {
    if let Some(cancel_at) = subscription.cancel_at {
        return Ok(Some(cancel_at.0));
    }
    if subscription.cancel_at_period_end != Some(true) {
        return Ok(None);
    }
    let periods = webhook.object::<Periods>()?.items.map_or(Vec::new(), |items| items.data);
    let of_items = periods.iter().filter_map(|period| Some(period.current_period_end?.0)).min();
    let period_end = subscription.current_period_end.map(|end| end.0).or(of_items);
    // The plan to leave must not get lost for want of its date.
    Ok(Some(period_end.unwrap_or(webhook.created)))
}

fn monthly(terms: Terms, currency: Option<&str>) -> Option<Money> {
    match (terms.items, terms.plan) {
        (Some(items), _) => recurring::monthly(&recurring::all_of(items)?, currency),
        (None, Some(plan)) => recurring::monthly(&[Item::of_plan(plan, terms.quantity)], currency),
        (None, None) => None,
    }
}

/// The monthly amount before an update; `None` if it did not touch it.
fn monthly_before(webhook: &Webhook<'_>, currency: Option<&str>) -> Result<Option<Money>, Reject> {
    let Some(before) = webhook.previous::<Terms>() else { return Ok(None) };
    if before.items.is_some() {
        return Ok(monthly(before, currency));
    }
    if before.plan.is_none() && before.quantity.is_none() {
        return Ok(None);
    }
    let now: Terms = webhook.object()?;
    let plan = before.plan.or(now.plan);
    Ok(monthly(Terms { items: None, plan, quantity: before.quantity.or(now.quantity) }, currency))
}

fn is_lower(now: Option<Money>, before: Option<Money>) -> bool {
    match (now, before) {
        (Some(now), Some(before)) => now.currency == before.currency && now.minor < before.minor,
        _ => false,
    }
}
