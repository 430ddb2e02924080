//! What Stripe would send: bodies of webhooks, with no more in them than a reader needs.

use serde_json::{Value, json};

use super::cast::Customer;
use crate::event::time::Timestamp;

const MONTH_SECONDS: i64 = 30 * 86_400;

/// Makes webhooks; each has an id of its own.
pub(super) struct Stripe {
    run: i64,
    count: u64,
}

impl Stripe {
    /// Ids begin with the instant, so that runs do not repeat each other.
    pub(super) fn new(now: Timestamp) -> Self {
        Self { run: now.millis(), count: 0 }
    }

    /// The customer has subscribed.
    pub(super) fn subscribed(&mut self, customer: &Customer, at: Timestamp) -> Value {
        self.event("customer.subscription.created", at, subscription(customer, at, &json!({ "status": "active" })))
    }

    /// The customer has told that it will leave at the end of the month.
    pub(super) fn cancellation_scheduled(&mut self, customer: &Customer, at: Timestamp) -> Value {
        let end = at.millis() / 1_000 + MONTH_SECONDS / 2;
        let changes = json!({
            "status": "active", "cancel_at_period_end": true, "cancel_at": end, "canceled_at": at.millis() / 1_000,
            "cancellation_details": { "reason": "cancellation_requested", "feedback": "too_expensive", "comment": null },
        });
        self.event("customer.subscription.updated", at, subscription(customer, at, &changes))
    }

    /// The customer's subscription is over.
    pub(super) fn ended(&mut self, customer: &Customer, at: Timestamp) -> Value {
        let end = at.millis() / 1_000;
        let changes = json!({ "status": "canceled", "canceled_at": end, "ended_at": end });
        self.event("customer.subscription.deleted", at, subscription(customer, at, &changes))
    }

    /// A month's payment, tried or made.
    pub(super) fn invoice(&mut self, customer: &Customer, at: Timestamp, paid: bool) -> Value {
        let kind = if paid { "invoice.paid" } else { "invoice.payment_failed" };
        let object = json!({
            "id": format!("in_{}", &customer.stripe[4..]),
            "object": "invoice",
            "customer": customer.stripe,
            "currency": "usd",
            "status": if paid { "paid" } else { "open" },
            "attempt_count": 1,
            "amount_due": customer.monthly,
            "amount_paid": if paid { customer.monthly } else { 0 },
            "amount_remaining": if paid { 0 } else { customer.monthly },
            "created": at.millis() / 1_000,
            "parent": {
                "type": "subscription_details",
                "subscription_details": { "subscription": format!("sub_{}", &customer.stripe[4..]) },
            },
        });
        self.event(kind, at, object)
    }

    /// The customer's card was charged.
    pub(super) fn charged(&mut self, customer: &Customer, at: Timestamp) -> Value {
        let object = json!({
            "id": charge(customer), "object": "charge", "customer": customer.stripe, "amount": customer.monthly,
            "currency": "usd", "paid": true, "status": "succeeded", "refunded": false, "disputed": false,
            "created": at.millis() / 1_000, "payment_intent": null,
        });
        self.event("charge.succeeded", at, object)
    }

    /// The customer's bank wants the charge back.
    pub(super) fn disputed(&mut self, customer: &Customer, at: Timestamp) -> Value {
        let object = json!({
            "id": format!("dp_{}", &customer.stripe[4..]), "object": "dispute", "charge": charge(customer),
            "payment_intent": null, "amount": customer.monthly, "currency": "usd", "reason": "product_unacceptable",
            "status": "needs_response", "created": at.millis() / 1_000,
        });
        self.event("charge.dispute.created", at, object)
    }

    fn event(&mut self, kind: &str, at: Timestamp, object: Value) -> Value {
        self.count += 1;
        json!({
            "id": format!("evt_demo{}{:05}", self.run, self.count),
            "object": "event",
            "api_version": "2026-07-29.dahlia",
            "created": at.millis() / 1_000,
            "type": kind,
            "livemode": false,
            "pending_webhooks": 1,
            "request": { "id": null, "idempotency_key": null },
            "data": { "object": object },
        })
    }
}

fn charge(customer: &Customer) -> String {
    format!("ch_{}", &customer.stripe[4..])
}

fn subscription(customer: &Customer, at: Timestamp, changes: &Value) -> Value {
    let (number, now) = (&customer.stripe[4..], at.millis() / 1_000);
    let mut object = json!({
        "id": format!("sub_{number}"),
        "object": "subscription",
        "customer": customer.stripe,
        "currency": "usd",
        "created": now,
        "start_date": now,
        "cancel_at": null,
        "cancel_at_period_end": false,
        "canceled_at": null,
        "ended_at": null,
        "pause_collection": null,
        "items": { "object": "list", "has_more": false, "data": [{
            "id": format!("si_{number}"),
            "object": "subscription_item",
            "quantity": 1,
            "current_period_start": now,
            "current_period_end": now + MONTH_SECONDS,
            "price": {
                "id": format!("price_{}", customer.monthly),
                "object": "price",
                "currency": "usd",
                "unit_amount": customer.monthly,
                "recurring": { "interval": "month", "interval_count": 1, "usage_type": "licensed" },
            },
        }]},
    });
    for (name, value) in changes.as_object().into_iter().flatten() {
        object[name] = value.clone();
    }
    object
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Scale, cast::cast},
        *,
    };
    use crate::event::stripe::{CustomerRef, read_webhook};

    #[test]
    fn churnd_reads_every_webhook_that_is_made_up() {
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let customer = &cast(&Scale { customers: 5, days: 1, seed: 1 })[0];
        let mut stripe = Stripe::new(now);
        for (body, name) in [
            (stripe.subscribed(customer, now), "subscription_created"),
            (stripe.cancellation_scheduled(customer, now), "subscription_updated"),
            (stripe.ended(customer, now), "subscription_canceled"),
            (stripe.invoice(customer, now, false), "payment_failed"),
            (stripe.invoice(customer, now, true), "payment_succeeded"),
            (stripe.charged(customer, now), "payment_succeeded"),
            (stripe.disputed(customer, now), "payment_disputed"),
        ] {
            let event = read_webhook(body.to_string().as_bytes()).unwrap().unwrap();
            assert_eq!(event.name, name);
            let about = match &event.customer {
                CustomerRef::Customer(id) => id.clone(),
                CustomerRef::Charge(charges) => charges[0].replace("ch_", "cus_"),
            };
            assert_eq!(about, customer.stripe);
        }
    }
}
