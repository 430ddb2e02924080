//! Webhooks of both shapes end in the right factors, and in one state whatever the order.

use std::time::Duration;

use churnd::{
    event::{
        ids::CustomerId,
        stripe::{event_body_for, read_webhook},
    },
    stream::publisher::Outgoing,
};
use serde_json::{Value, json};

use crate::support::{
    Cluster, Feed, Observer,
    daemon::Daemon,
    feed::subject_of,
    now,
    webhooks::{changed, item, old_subscription, quiet, subscription, webhook, with},
};

const SOON: Duration = Duration::from_secs(90);
const DAY: i64 = 86_400;

/// What both shapes must come to.
async fn check(observer: &Observer<'_>, customer: &str, as_of: i64, score: u64, factors: &[&str]) {
    let report = observer.risk(customer, Some(as_of)).await.unwrap_or_else(|error| panic!("{customer}: {error}"));
    assert_eq!((&report["score"], &report["factors"]), (&json!(score), &json!(factors)), "{customer}: {report}");
}

/// Makes a subscription as one version of the API shows it.
type Shape = fn(&str, &str, i64) -> Value;

#[tokio::test]
async fn both_shapes_of_webhooks_come_to_the_same_factors() {
    let cluster = Cluster::start().await;
    let (feed, observer) = (Feed::open(&cluster).await, Observer::of(&cluster).await);
    let _daemon = Daemon::start(&cluster, "one").await;
    let as_of = now();
    let start = as_of / 1_000 - DAY;
    let end = start + 20 * DAY;
    let shapes: [(&str, Shape); 2] = [("new", subscription), ("old", old_subscription)];
    for (shape, of) in shapes {
        let named = |what: &str| format!("cus_{shape}_{what}");
        let updated = |what: &str, object: &Value, previous: &Value| {
            let id = format!("evt_{shape}_{what}");
            changed(&id, "customer.subscription.updated", start, object, previous)
        };
        let canceling = with(&of(&named("canceling"), "active", end), json!({"cancel_at_period_end": true}));
        feed.webhook(&updated("canceling", &canceling, &json!({"cancel_at_period_end": false}))).await;
        let unpaid = of(&named("unpaid"), "unpaid", end);
        feed.webhook(&updated("unpaid", &unpaid, &json!({"status": "past_due"}))).await;
        let cheaper = of(&named("cheaper"), "active", end);
        let previous = match shape {
            "new" => json!({"items": {"object": "list", "data": [item(9_900, end)]}}),
            _ => json!({"plan": {"id": "platinum", "object": "plan", "amount": 9_900, "currency": "usd",
                "interval": "month", "interval_count": 1}}),
        };
        feed.webhook(&updated("cheaper", &cheaper, &previous)).await;
        let gone = with(&of(&named("gone"), "canceled", end), json!({"ended_at": start}));
        feed.webhook(&webhook(&format!("evt_{shape}_gone"), "customer.subscription.deleted", start, &gone)).await;
        let subscribed = match shape {
            "new" => json!({"parent": {"type": "subscription_details",
                "subscription_details": {"subscription": "sub_1"}}}),
            _ => json!({"subscription": "sub_1", "charge": "ch_1", "payment_intent": "pi_1"}),
        };
        let invoice = json!({"id": "in_1", "object": "invoice", "customer": named("failing"), "amount_due": 2_500});
        let failed = with(&invoice, subscribed);
        feed.webhook(&webhook(&format!("evt_{shape}_failed"), "invoice.payment_failed", start, &failed)).await;
    }
    quiet(&observer, SOON).await;
    for shape in ["new", "old"] {
        let named = |what: &str| format!("cus_{shape}_{what}");
        let date = churnd::event::time::Timestamp::from_millis(end * 1_000).to_string();
        let report = observer.risk(&named("canceling"), Some(as_of)).await.unwrap();
        assert_eq!((&report["score"], &report["level"]), (&json!(80), &json!("high")), "{report}");
        let reason = report["factors"][0].as_str().unwrap();
        assert!(reason.starts_with("Cancellation scheduled for"), "{reason}, {date}");
        let unpaid = observer.risk(&named("unpaid"), Some(as_of)).await.unwrap();
        assert_eq!(unpaid["score"], 60, "{unpaid}");
        check(&observer, &named("cheaper"), as_of, 20, &["Downgraded 1 days ago"]).await;
        check(&observer, &named("failing"), as_of, 40, &["Recent payment failure"]).await;
        let gone = observer.risk(&named("gone"), Some(as_of)).await.unwrap();
        assert_eq!((&gone["score"], &gone["status"]), (&json!(100), &json!("churned")), "{gone}");
    }
}

/// A subscription's life of six events.
fn life(customer: &str, start: i64) -> Vec<Value> {
    let end = start + 20 * DAY;
    let id = |number: u32| format!("evt_{customer}_{number}");
    let active = subscription(customer, "active", end);
    let canceling = with(&active, json!({"cancel_at_period_end": true}));
    let previous = json!({"items": {"object": "list", "data": [item(9_900, end)]}});
    let invoice =
        json!({"id": format!("in_{customer}"), "object": "invoice", "customer": customer, "amount_due": 2_500});
    let updated = "customer.subscription.updated";
    vec![
        webhook(&id(1), "customer.subscription.created", start, &subscription(customer, "trialing", end)),
        // In the same second as the creation.
        changed(&id(2), updated, start, &active, &previous),
        webhook(&id(3), "invoice.payment_failed", start + 60, &invoice),
        changed(&id(4), updated, start + 60, &with(&active, json!({"status": "past_due"})), &json!({})),
        webhook(&id(5), "invoice.paid", start + 120, &with(&invoice, json!({"amount_paid": 2_500}))),
        changed(&id(6), updated, start + 120, &canceling, &json!({"cancel_at_period_end": false})),
    ]
}

/// All orders of so many things.
fn orders(of: usize) -> Vec<Vec<usize>> {
    if of == 0 {
        return vec![Vec::new()];
    }
    let shorter = orders(of - 1);
    let longer = shorter.iter().flat_map(|order| {
        (0..of).map(|place| {
            let mut order = order.clone();
            order.insert(place, of - 1);
            order
        })
    });
    longer.collect()
}

#[tokio::test]
async fn a_subscriptions_life_ends_in_one_state_in_any_of_720_orders() {
    let cluster = Cluster::start().await;
    let (feed, observer) = (Feed::open(&cluster).await, Observer::of(&cluster).await);
    let _daemon = Daemon::start(&cluster, "one").await;
    let as_of = now();
    let start = as_of / 1_000 - 3 * DAY;
    let orders = orders(6);
    let mut messages = Vec::new();
    for (number, order) in orders.iter().enumerate() {
        let customer = format!("cus_{number}");
        let life = life(&customer, start);
        // As the normalizer puts them into the event stream, but in this order.
        messages.extend(order.iter().map(|step| {
            let event = read_webhook(life[*step].to_string().as_bytes()).unwrap().unwrap();
            let body = event_body_for(&event, &CustomerId::parse(&customer).unwrap());
            Outgoing::new(subject_of(&customer), body).with_id(format!("acme:{}", event.id))
        }));
    }
    feed.send_all(messages).await;
    quiet(&observer, SOON).await;
    let first = observer.risk("cus_0", Some(as_of)).await.unwrap();
    assert_eq!((&first["score"], &first["level"]), (&json!(80), &json!("high")), "{first}");
    assert_eq!(first["factors"].as_array().unwrap().len(), 2, "cancellation and downgrade: {first}");
    for (number, order) in orders.iter().enumerate() {
        let mut report = observer.risk(&format!("cus_{number}"), Some(as_of)).await.unwrap();
        report["customerId"] = first["customerId"].clone();
        assert_eq!(report, first, "in the order {order:?}");
    }
}
