//! Linking: whenever a customer is linked to its Stripe customer, it comes to the same.

use std::time::Duration;

use churnd::event::time::Timestamp;
use serde_json::{Value, json};

use crate::support::{
    Cluster, Feed, Observer,
    daemon::Daemon,
    now,
    webhooks::{quiet, subscription, webhook, with},
};

const SOON: Duration = Duration::from_secs(60);

/// What Stripe says about a customer, in its order: it pays, its payment is disputed, it does not pay any more.
fn story(stripe: &str, start: i64) -> Vec<Value> {
    let id = |number: u32| format!("evt_{stripe}_{number}");
    let charge = json!({"id": format!("ch_{stripe}"), "object": "charge", "customer": stripe});
    let dispute =
        json!({"id": format!("du_{stripe}"), "object": "dispute", "charge": charge["id"], "status": "needs_response"});
    let invoice = json!({"id": format!("in_{stripe}"), "object": "invoice", "customer": stripe, "amount_due": 2_500});
    vec![
        webhook(&id(1), "customer.subscription.created", start, &subscription(stripe, "active", start + 900_000)),
        webhook(&id(2), "charge.succeeded", start + 60, &charge),
        webhook(&id(3), "charge.dispute.created", start + 120, &dispute),
        webhook(&id(4), "invoice.payment_failed", start + 180, &invoice),
        webhook(
            &id(5),
            "customer.subscription.updated",
            start + 240,
            &subscription(stripe, "past_due", start + 900_000),
        ),
    ]
}

fn identify(customer: &str, stripe: &str, at: i64) -> Value {
    json!({
        "event": "identify", "id": format!("identify-{customer}"), "customerId": customer,
        "timestamp": Timestamp::from_millis(at), "properties": {"stripeCustomerId": stripe},
    })
}

/// A report less what differs between customers.
fn of_anybody(mut report: Value) -> Value {
    report["customerId"] = Value::Null;
    report
}

#[tokio::test]
async fn a_link_before_between_or_after_the_webhooks_comes_to_the_same() {
    let cluster = Cluster::start().await;
    let (feed, observer) = (Feed::open(&cluster).await, Observer::of(&cluster).await);
    let _daemon = Daemon::start(&cluster, "one").await;
    let as_of = now();
    let start = as_of / 1_000 - 86_400;
    let steps = story("cus_0", start).len();
    // One customer per moment of its link, and one whose story comes backwards.
    let customers: Vec<(String, String)> =
        (0..steps + 2).map(|number| (format!("customer {number}"), format!("cus_{number}"))).collect();
    for (customer, _) in &customers {
        feed.event(customer, &json!({"event": "login", "timestamp": Timestamp::from_millis(as_of - 20 * 86_400_000)}))
            .await;
    }
    for step in 0..=steps {
        for (number, (customer, stripe)) in customers.iter().enumerate() {
            if number == step {
                feed.event(customer, &identify(customer, stripe, as_of - 1_000)).await;
            }
        }
        quiet(&observer, SOON).await;
        for (number, (_, stripe)) in customers.iter().enumerate() {
            let mut webhooks = story(stripe, start);
            if number > steps {
                webhooks.reverse();
            }
            if let Some(webhook) = webhooks.get(step) {
                feed.webhook(webhook).await;
            }
        }
        quiet(&observer, SOON).await;
    }
    let (last, stripe) = customers.last().unwrap();
    feed.event(last, &identify(last, stripe, as_of - 1_000)).await;
    quiet(&observer, SOON).await;

    let first = of_anybody(observer.risk(&customers[0].0, Some(as_of)).await.unwrap());
    let reasons = ["No login for 20 days", "Recent payment failure", "Subscription is past due", "Payment disputed"];
    let found: Vec<String> =
        first["factors"].as_array().unwrap().iter().map(|reason| reason.as_str().unwrap().to_owned()).collect();
    assert_eq!(found.len(), reasons.len(), "{found:?}");
    assert_eq!((&first["score"], &first["level"]), (&json!(70), &json!("high")), "{first}");
    assert_eq!(first["mrr"], json!({"amount": 2_500, "currency": "usd"}));
    for (customer, stripe) in &customers {
        let report = of_anybody(observer.risk(customer, Some(as_of)).await.unwrap());
        assert_eq!(report, first, "{customer}");
        let sql = "SELECT status FROM customer_states WHERE account = 'acme' AND token = $1";
        let rows = observer.rows(sql, &[stripe]).await.unwrap();
        assert_eq!(rows[0].get::<_, String>(0), "moved", "{stripe}");
    }
    late_comers(&feed, &observer, &customers[1], as_of).await;
}

/// What comes to the Stripe customer's own id after the link reaches the customer, whatever its id looks like.
async fn late_comers(feed: &Feed, observer: &Observer<'_>, (customer, stripe): &(String, String), as_of: i64) {
    let start = as_of / 1_000;
    let ended = with(&subscription(stripe, "canceled", start), json!({"ended_at": start - 600}));
    feed.webhook(&webhook("evt_late", "customer.subscription.deleted", start - 600, &ended)).await;
    quiet(observer, SOON).await;
    let report = observer.risk(customer, Some(as_of)).await.unwrap();
    assert_eq!((&report["score"], &report["status"]), (&json!(100), &json!("churned")), "{report}");
    // Published to the signpost itself, with an id that no header can hold.
    let odd = json!({"event": "billing_page_view", "id": "odd\r\nNats-Expected-Stream: none\u{0}ü"});
    let mut message = crate::support::feed::event(stripe, &odd);
    message.message_id = None;
    feed.send(message).await;
    feed.event(stripe, &json!({"event": "billing_page_view", "timestamp": Timestamp::from_millis(as_of)})).await;
    quiet(observer, SOON).await;
    let report = observer.risk(customer, None).await.unwrap();
    let viewed = report["factors"].as_array().unwrap().iter().any(|reason| reason == "Viewed billing page recently");
    assert!(viewed, "{report}");
}

#[tokio::test]
async fn a_dispute_before_its_charge_waits_for_it() {
    let cluster = Cluster::start().await;
    let (feed, observer) = (Feed::open(&cluster).await, Observer::of(&cluster).await);
    let daemon = Daemon::start(&cluster, "one").await;
    let start = now() / 1_000 - 3_600;
    let mut webhooks = story("cus_9", start);
    feed.webhook(&webhooks.remove(2)).await;
    quiet(&observer, SOON).await;
    assert_eq!(observer.count("CHURN_EVENTS").await.unwrap(), 0, "nobody knows whose it is");
    assert_eq!(observer.number("SELECT count(*) FROM stripe_pending").await.unwrap(), 1);
    drop(daemon);
    let _daemon = Daemon::start(&cluster, "two").await;
    feed.webhook(&webhooks.remove(1)).await;
    quiet(&observer, SOON).await;
    let report = observer.risk("cus_9", None).await.unwrap();
    assert_eq!((&report["score"], &report["factors"]), (&json!(70), &json!(["Payment disputed"])), "{report}");
    assert_eq!(observer.number("SELECT count(*) FROM stripe_pending").await.unwrap(), 0);
}
