//! Webhooks as Stripe sends them, in the shapes of different API versions, and when they are done with.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Observer, eventually, observer::Trouble};

/// A webhook; `created` in seconds.
pub(crate) fn webhook(id: &str, kind: &str, created: i64, object: &Value) -> Value {
    changed(id, kind, created, object, &Value::Null)
}

/// A webhook that says what changed.
pub(crate) fn changed(id: &str, kind: &str, created: i64, object: &Value, previous: &Value) -> Value {
    json!({
        "id": id, "object": "event", "api_version": "2026-03-25.dahlia", "created": created, "livemode": false,
        "type": kind, "pending_webhooks": 1, "request": {"id": null, "idempotency_key": null},
        "data": {"object": object, "previous_attributes": previous},
    })
}

/// A subscription of 25 dollars a month, as written since 2025-03-31: the period stands in its items.
pub(crate) fn subscription(customer: &str, status: &str, period_end: i64) -> Value {
    json!({
        "id": format!("sub_{customer}"), "object": "subscription", "customer": customer, "status": status,
        "currency": "usd", "cancel_at": null, "cancel_at_period_end": false, "ended_at": null,
        "items": {"object": "list", "has_more": false, "data": [item(2_500, period_end)]},
    })
}

/// An item of a subscription.
pub(crate) fn item(amount: i64, period_end: i64) -> Value {
    json!({
        "id": "si_1", "object": "subscription_item", "current_period_end": period_end, "quantity": 1,
        "price": {"id": "price_1", "object": "price", "currency": "usd", "type": "recurring", "unit_amount": amount,
            "recurring": {"interval": "month", "interval_count": 1, "usage_type": "licensed"}},
    })
}

/// The same subscription as written before: plan, quantity and period at the top.
pub(crate) fn old_subscription(customer: &str, status: &str, period_end: i64) -> Value {
    json!({
        "id": format!("sub_{customer}"), "object": "subscription", "customer": customer, "status": status, "quantity": 1,
        "current_period_end": period_end, "cancel_at_period_end": false,
        "plan": {"id": "gold", "object": "plan", "amount": 2_500, "currency": "usd", "interval": "month",
            "interval_count": 1},
    })
}

/// An object with some fields set otherwise.
pub(crate) fn with(object: &Value, fields: Value) -> Value {
    let mut object = object.clone();
    for (field, value) in fields.as_object().unwrap() {
        object[field] = value.clone();
    }
    object
}

/// Waits until webhooks, events and what follows from them are all done with.
#[track_caller]
pub(crate) fn quiet(observer: &Observer<'_>, within: Duration) -> impl Future<Output = u64> {
    eventually(within, async || is_quiet(observer).await)
}

async fn is_quiet(observer: &Observer<'_>) -> Result<u64, Trouble> {
    let waiting = observer.webhooks_waiting().await?;
    if waiting > 0 {
        return Err(format!("{waiting} webhooks are not done with"));
    }
    let last = observer.is_caught_up().await?;
    let left =
        observer.number("SELECT count(*) FROM outbox WHERE published_at IS NULL AND kind <> 'held_alert'").await?;
    if left > 0 {
        return Err(format!("{left} messages of the outbox are not published"));
    }
    match observer.last_sequence("CHURN_EVENTS").await? {
        now if now == last => Ok(last),
        now => Err(format!("events came meanwhile: {last} to {now}")),
    }
}
