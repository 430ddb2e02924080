//! Webhooks of every type and shape, read into events.

use serde_json::{Value, json};

use super::*;
use crate::event::decode::{Encoding, decode};

mod damage;
mod subscriptions;

const CREATED: i64 = 1_772_366_400; // 2026-03-01T12:00:00Z

fn webhook(kind: &str, object: &Value, previous: &Value) -> Value {
    json!({
        "id": "evt_1", "object": "event", "api_version": "2026-03-25.dahlia", "created": CREATED, "livemode": false,
        "type": kind, "pending_webhooks": 1, "request": {"id": null, "idempotency_key": null},
        "data": {"object": object, "previous_attributes": previous},
    })
}

fn read(kind: &str, object: &Value, previous: &Value) -> Result<Option<StripeEvent>, Reject> {
    read_webhook(webhook(kind, object, previous).to_string().as_bytes())
}

/// One line: name, customer, facts without their guard, then charges and reference.
fn print(outcome: &Result<Option<StripeEvent>, Reject>) -> String {
    let event = match outcome {
        Ok(Some(event)) => event,
        Ok(None) => return "nothing".to_owned(),
        Err(reject) => return reject.to_string().split(':').next().unwrap_or_default().to_owned(),
    };
    let mut line = match &event.customer {
        CustomerRef::Customer(customer) => format!("{} {customer}", event.name),
        CustomerRef::Charge(charges) => format!("{} of {}", event.name, charges.join("+")),
    };
    for fact in &event.facts {
        let mut fact = serde_json::to_value(fact).unwrap();
        let fields = fact.as_object_mut().unwrap();
        assert_eq!(fields.remove("created"), Some(json!("2026-03-01T12:00:00Z")));
        for (field, value) in fields {
            line += &format!(" {field}={}", value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        }
    }
    for charge in &event.charges {
        line += &format!(" +{charge}");
    }
    if let Some(reference) = &event.reference {
        line += &format!(" reference={reference}");
    }
    line
}

#[track_caller]
fn check(kind: &str, object: &Value, expected: &str) {
    assert_eq!(print(&read(kind, object, &Value::Null)), expected, "{kind} {object}");
}

/// The object with some fields set otherwise.
fn with(object: &Value, fields: Value) -> Value {
    let mut object = object.clone();
    for (field, value) in fields.as_object().unwrap() {
        object[field] = value.clone();
    }
    object
}

fn item(amount: i64, interval: &str, quantity: u64) -> Value {
    json!({
        "id": "si_1", "object": "subscription_item", "current_period_end": CREATED + 864_000, "quantity": quantity,
        "price": {"id": "price_1", "object": "price", "currency": "usd", "type": "recurring", "unit_amount": amount,
            "recurring": {"interval": interval, "interval_count": 1, "usage_type": "licensed"}},
    })
}

fn items(items: &[Value]) -> Value {
    json!({"object": "list", "data": items, "has_more": false, "url": "/v1/subscription_items"})
}

/// A subscription as written since 2025-03-31.
fn subscription() -> Value {
    json!({
        "id": "sub_1", "object": "subscription", "customer": "cus_1", "status": "active", "currency": "usd",
        "cancel_at": null, "cancel_at_period_end": false, "ended_at": null, "items": items(&[item(2_500, "month", 2)]),
        "metadata": {"plan": "pro"}, "pause_collection": null,
    })
}

#[test]
fn invoices_tell_their_outcome() {
    let invoice = json!({"id": "in_1", "object": "invoice", "customer": "cus_1", "amount_due": 1_000, "amount_paid": 0,
        "parent": {"type": "subscription_details", "subscription_details": {"subscription": "sub_1"}}});
    for (kind, name, outcome) in [
        ("invoice.payment_failed", "payment_failed", "failed"),
        ("invoice.overdue", "payment_failed", "failed"),
        ("invoice.marked_uncollectible", "payment_failed", "failed"),
        ("invoice.paid", "payment_succeeded", "paid"),
        ("invoice.payment_succeeded", "payment_succeeded", "paid"),
        ("invoice.voided", "payment_voided", "voided"),
    ] {
        check(kind, &invoice, &format!("{name} cus_1 id=in_1 kind=invoice outcome={outcome}"));
    }
    check("invoice.payment_action_required", &invoice, "payment_action_required cus_1");
    let free = with(&invoice, json!({"amount_due": 0}));
    check("invoice.paid", &free, "payment_not_due cus_1 id=in_1 kind=invoice outcome=paid");
    let old = with(&invoice, json!({"charge": "ch_1", "payment_intent": {"id": "pi_1"}, "subscription": "sub_1"}));
    check("invoice.paid", &old, "payment_succeeded cus_1 id=in_1 kind=invoice outcome=paid +ch_1 +pi_1");
    let payments = json!({"data": [{"payment": {"type": "payment_intent", "payment_intent": "pi_2"}}, 7]});
    let expanded = with(&invoice, json!({ "payments": payments }));
    check("invoice.paid", &expanded, "payment_succeeded cus_1 id=in_1 kind=invoice outcome=paid +pi_2");
}

#[test]
fn charges_and_intents_tell_whose_they_are() {
    let charge = json!({"id": "ch_1", "object": "charge", "customer": "cus_1", "payment_intent": "pi_1"});
    check("charge.failed", &charge, "payment_failed cus_1 +ch_1 +pi_1");
    check("charge.succeeded", &charge, "payment_succeeded cus_1 +ch_1 +pi_1");
    check("charge.refunded", &charge, "payment_refunded cus_1 +ch_1 +pi_1");
    check("charge.succeeded", &with(&charge, json!({"customer": null})), "nothing");
    let intent = json!({"id": "pi_1", "object": "payment_intent", "customer": "cus_1", "latest_charge": "ch_2"});
    check("payment_intent.succeeded", &intent, "payment_succeeded cus_1 +pi_1 +ch_2");
    let old = with(
        &intent,
        json!({"latest_charge": null, "charges": {"data": [{"id": "ch_3"}, {"id": "ch_4"}, {"id": "ch_3"}]}}),
    );
    check("payment_intent.payment_failed", &old, "payment_failed cus_1 +pi_1 +ch_3 +ch_4");
    check("payment_intent.requires_action", &with(&intent, json!({"customer": null})), "nothing");
    check("payment_intent.created", &intent, "nothing");
}

#[test]
fn disputes_are_open_until_decided() {
    let dispute = json!({"id": "du_1", "object": "dispute", "charge": "ch_1", "payment_intent": "pi_1", "status": "needs_response"});
    let of = |name: &str, open: bool| format!("{name} of ch_1+pi_1 id=du_1 kind=dispute open={open}");
    check("charge.dispute.created", &dispute, &of("payment_disputed", true));
    check(
        "charge.dispute.updated",
        &with(&dispute, json!({"status": "under_review"})),
        &of("payment_dispute_updated", true),
    );
    check("charge.dispute.funds_withdrawn", &dispute, &of("payment_dispute_updated", true));
    check(
        "charge.dispute.funds_reinstated",
        &with(&dispute, json!({"status": "won"})),
        &of("payment_dispute_updated", false),
    );
    check(
        "charge.dispute.created",
        &with(&dispute, json!({"status": "warning_needs_response"})),
        &of("payment_disputed", true),
    );
    check(
        "charge.dispute.updated",
        &with(&dispute, json!({"status": "warning_closed"})),
        &of("payment_dispute_updated", false),
    );
    for status in ["won", "lost", "warning_closed", "something_new"] {
        check(
            "charge.dispute.closed",
            &with(&dispute, json!({ "status": status })),
            &of("payment_dispute_closed", false),
        );
    }
    check(
        "charge.dispute.created",
        &with(&dispute, json!({"charge": {"id": "ch_1", "customer": "cus_1"}})),
        "payment_disputed cus_1 id=du_1 kind=dispute open=true +ch_1 +pi_1",
    );
    check(
        "charge.dispute.created",
        &with(&dispute, json!({"payment_intent": {"id": "pi_1", "customer": {"id": "cus_1"}}})),
        "payment_disputed cus_1 id=du_1 kind=dispute open=true +ch_1 +pi_1",
    );
    let warning = json!({"id": "issfr_1", "charge": "ch_1", "payment_intent": null});
    check("radar.early_fraud_warning.created", &warning, "payment_fraud_warning of ch_1");
}

#[test]
fn cards_expire_with_their_month() {
    let method = json!({"id": "pm_1", "object": "payment_method", "type": "card", "customer": "cus_1",
        "card": {"brand": "visa", "exp_month": 8, "exp_year": 2026}});
    let attached = "payment_method_updated cus_1 attached=true expires=2026-09-01T00:00:00Z id=pm_1 kind=card";
    for kind in ["attached", "updated", "automatically_updated"] {
        check(&format!("payment_method.{kind}"), &method, attached);
    }
    let december = with(&method, json!({"card": {"exp_month": 12, "exp_year": 2026}}));
    check("payment_method.attached", &december, &attached.replace("2026-09", "2027-01"));
    for card in [
        json!({}),
        json!({"exp_month": 13, "exp_year": 2026}),
        json!({"exp_month": 255, "exp_year": 65_535}),
        json!({"exp_month": 0, "exp_year": 2026}),
    ] {
        let unknown = with(&method, json!({ "card": card }));
        check("payment_method.attached", &unknown, "payment_method_updated cus_1 attached=true id=pm_1 kind=card");
    }
    let debit = json!({"id": "pm_2", "type": "sepa_debit", "customer": "cus_1", "sepa_debit": {"last4": "3000"}});
    check("payment_method.attached", &debit, "payment_method_updated cus_1");
    let detached = with(&method, json!({"customer": null}));
    let removed = read("payment_method.detached", &detached, &json!({"customer": "cus_1"}));
    let expected = "payment_method_removed cus_1 attached=false expires=2026-09-01T00:00:00Z id=pm_1 kind=card";
    assert_eq!(print(&removed), expected);
    check("payment_method.detached", &detached, "nothing");
}

#[test]
fn old_cards_and_sources_are_cards_too() {
    let card = json!({"id": "card_1", "object": "card", "customer": "cus_1", "exp_month": 2, "exp_year": 2027});
    let read = "cus_1 attached=true expires=2027-03-01T00:00:00Z id=card_1 kind=card";
    check("customer.source.created", &card, &format!("payment_method_updated {read}"));
    check("customer.source.expiring", &card, &format!("payment_method_expiring {read}"));
    check("customer.source.deleted", &card, &format!("payment_method_removed {}", read.replace("true", "false")));
    let source =
        json!({"id": "src_1", "object": "source", "customer": "cus_1", "card": {"exp_month": 2, "exp_year": 2027}});
    check("customer.source.updated", &source, &format!("payment_method_updated {}", read.replace("card_1", "src_1")));
    let bank = json!({"id": "ba_1", "object": "bank_account", "customer": "cus_1"});
    check("customer.source.created", &bank, "payment_method_updated cus_1");
}

#[test]
fn checkouts_link_the_own_customer() {
    let session = json!({"id": "cs_1", "object": "checkout.session", "customer": "cus_1", "client_reference_id": "acme-7",
        "mode": "subscription", "payment_intent": null});
    check("checkout.session.completed", &session, "subscription_checkout_completed cus_1 reference=acme-7");
    let payment = with(&session, json!({"mode": "payment", "payment_intent": "pi_1", "client_reference_id": null}));
    check("checkout.session.completed", &payment, "payment_checkout_completed cus_1 +pi_1");
    check("checkout.session.async_payment_failed", &session, "payment_failed cus_1 reference=acme-7");
    check("checkout.session.completed", &with(&session, json!({"customer": null})), "nothing");
}

#[test]
fn other_types_are_mentions_or_nothing() {
    let owned = json!({"id": "x_1", "customer": "cus_1"});
    check("customer.discount.deleted", &owned, "subscription_discount_ended cus_1");
    check("subscription_schedule.expiring", &owned, "subscription_schedule_expiring cus_1");
    check("billing_portal.session.created", &owned, "subscription_portal_opened cus_1");
    check(
        "billing_portal.session.created",
        &json!({"customer_account": "acct_1"}),
        "subscription_portal_opened acct_1",
    );
    for kind in
        ["plan.created", "customer.updated", "customer.deleted", "invoice.upcoming", "", "charge", "Charge.failed"]
    {
        check(kind, &owned, "nothing");
    }
}

#[test]
fn what_lacks_the_necessary_is_refused_by_name() {
    for (kind, field) in [
        ("customer.subscription.updated", "customer"),
        ("customer.subscription.updated", "id"),
        ("customer.subscription.updated", "status"),
        ("invoice.payment_failed", "customer"),
        ("invoice.payment_failed", "id"),
        ("charge.dispute.created", "charge"),
        ("charge.dispute.created", "id"),
        ("payment_method.attached", "id"),
    ] {
        let complete = json!({"id": "x_1", "customer": "cus_1", "status": "active", "charge": "ch_1", "card": {}});
        assert!(read(kind, &complete, &Value::Null).is_ok());
        let other = json!([{}, "\u{1}"]);
        for unusable in [Value::Null, json!(7), json!(""), json!({}), other] {
            let outcome = read(kind, &with(&complete, json!({ field: unusable })), &Value::Null);
            let expected = format!("data.object.{field}");
            assert!(
                matches!(&outcome, Err(Reject::MalformedWebhook { field, .. }) if **field == expected),
                "{outcome:?}"
            );
        }
    }
    let unknown = with(&subscription(), json!({"status": "hibernating"}));
    assert_eq!(read("customer.subscription.updated", &unknown, &Value::Null).unwrap_err().code(), "malformed_webhook");
}

#[test]
fn envelopes_are_checked() {
    let code = |body: &[u8]| read_webhook(body).map_err(|reject| (reject.code(), reject.to_string()));
    let field = |body: &Value| match read_webhook(body.to_string().as_bytes()) {
        Err(Reject::MalformedWebhook { field, .. }) => field,
        other => panic!("{other:?}"),
    };
    for (body, expected) in [
        (&b""[..], "not_json"),
        (b"{", "not_json"),
        (b"{}x", "not_json"),
        (b"[]", "not_an_object"),
        (b"[1,2,3,4,5,6]", "not_an_object"),
        (b"7", "not_an_object"),
        (b"\"x\"", "not_an_object"),
        (b"{\"type\":\"\xff\"}", "not_utf8"),
        (b"{}", "malformed_webhook"),
        (b"{\"type\":7}", "malformed_webhook"),
        (b"{\"type\":\"a\",\"type\":\"b\"}", "malformed_webhook"),
    ] {
        assert_eq!(code(body).unwrap_err().0, expected);
    }
    let complete = webhook("charge.failed", &json!({"id": "ch_1", "customer": "cus_1"}), &Value::Null);
    assert!(read_webhook(complete.to_string().as_bytes()).unwrap().is_some());
    for name in ["id", "created", "type"] {
        assert_eq!(field(&with(&complete, json!({ name: null }))), name);
    }
    assert_eq!(field(&with(&complete, json!({"data": null}))), "data.object");
    assert_eq!(field(&with(&complete, json!({"data": {"object": []}}))), "data.object");
    assert_eq!(field(&with(&complete, json!({"created": -1}))), "created");
    assert_eq!(field(&with(&complete, json!({"created": i64::MAX}))), "created");
    assert_eq!(field(&with(&complete, json!({"created": "2026-03-01T12:00:00Z"}))), "created");
    assert_eq!(field(&with(&complete, json!({"id": "x".repeat(101)}))), "id");
    let twice = complete.to_string().replace("\"customer\":\"cus_1\"", "\"customer\":\"cus_1\",\"customer\":\"cus_2\"");
    assert_eq!(code(twice.as_bytes()).unwrap_err().0, "malformed_webhook");
}

#[test]
fn thin_events_are_refused_with_advice() {
    let thin = json!({"id": "evt_1", "object": "v2.core.event", "type": "v1.customer.subscription.updated",
        "created": "2026-03-01T12:00:00.000Z", "related_object": {"id": "sub_1", "type": "subscription", "url": "/v1/x"}});
    let reject = read_webhook(thin.to_string().as_bytes()).unwrap_err();
    assert_eq!(reject, Reject::ThinEvent);
    assert!(reject.to_string().contains("snapshot"));
    assert_eq!(read_webhook(with(&thin, json!({"object": "event"})).to_string().as_bytes()), Err(Reject::ThinEvent));
}

#[test]
fn names_never_count_as_usage() {
    for (kind, name, _) in TYPES {
        assert!(name.starts_with("payment_") || name.starts_with("subscription_"), "{kind}");
        assert_eq!(TYPES.iter().filter(|(other, ..)| other == kind).count(), 1, "{kind}");
    }
}

#[test]
fn bodies_are_events_with_the_same_facts() {
    let object = with(&subscription(), json!({"cancel_at": CREATED + 5}));
    let event = read("customer.subscription.updated", &object, &json!({"items": items(&[item(1, "day", 9)])}))
        .unwrap()
        .unwrap();
    let body = event_body(&event);
    assert_eq!(body, event_body(&event));
    expect_test::expect![[r#"{"event":"subscription_updated","id":"evt_1","timestamp":"2026-03-01T12:00:00Z","facts":[{"kind":"subscription","id":"sub_1","created":"2026-03-01T12:00:00Z","change":"updated","status":"active","cancel_at":"2026-03-01T12:00:05Z","mrr":{"amount":5000,"currency":"usd"}}]}"#]]
    .assert_eq(std::str::from_utf8(&body).unwrap());
    let mut scratch = Vec::new();
    let decoded = decode(&body, Encoding::Json, &mut scratch).unwrap();
    assert_eq!(
        (decoded.name.as_ref(), decoded.id.as_deref(), decoded.timestamp),
        (event.name, Some("evt_1"), Some(event.created))
    );
    assert_eq!(decoded.facts(), event.facts);
    let customer = CustomerId::parse("jane@example.com").unwrap();
    let mut scratch = Vec::new();
    let named = event_body_for(&event, &customer);
    let decoded = decode(&named, Encoding::Json, &mut scratch).unwrap();
    assert_eq!((decoded.customer_id.as_deref(), decoded.facts()), (Some("jane@example.com"), event.facts.clone()));
}

#[test]
fn depth_bombs_do_no_harm() {
    for (open, close) in [("[", "]"), ("{\"items\":", "}"), ("{\"charge\":", "}")] {
        let bomb = format!("{}1{}", open.repeat(100_000), close.repeat(100_000));
        for kind in
            ["customer.subscription.updated", "charge.dispute.created", "invoice.paid", "payment_method.attached"]
        {
            let object = format!(
                r#"{{"id":"x_1","customer":"cus_1","status":"active","items":{bomb},"charge":{bomb},"card":{bomb}}}"#
            );
            let body = format!(
                r#"{{"id":"evt_1","type":"{kind}","created":1,"x":{bomb},"data":{{"object":{object},"previous_attributes":{bomb}}}}}"#
            );
            assert!(
                matches!(read_webhook(body.as_bytes()), Ok(Some(_)) | Err(Reject::MalformedWebhook { .. })),
                "{kind}"
            );
        }
    }
}
