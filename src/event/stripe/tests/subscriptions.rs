//! Subscriptions: what their webhooks say of plan, status, cancellation and items.

use serde_json::{Value, json};

use super::{CREATED, check, item, items, print, read, subscription, with};
use crate::event::fact::StripeFact;

#[track_caller]
fn check_update(object: &Value, previous: &Value, expected: &str) {
    assert_eq!(print(&read("customer.subscription.updated", object, previous)), expected);
}

/// A subscription as written before items and prices.
fn old_subscription() -> Value {
    json!({
        "id": "sub_1", "object": "subscription", "customer": "cus_1", "status": "active", "quantity": 3,
        "current_period_end": CREATED + 86_400, "cancel_at_period_end": false,
        "plan": {"id": "gold", "object": "plan", "amount": 1_200, "currency": "eur", "interval": "year", "interval_count": 1},
    })
}

#[test]
fn subscriptions_give_status_and_revenue() {
    let read =
        "cus_1 change=created id=sub_1 kind=subscription mrr={\"amount\":5000,\"currency\":\"usd\"} status=active";
    check("customer.subscription.created", &subscription(), &format!("subscription_created {read}"));
    check(
        "customer.subscription.updated",
        &with(&subscription(), json!({"status": "trialing", "customer": {"id": "cus_2", "object": "customer"}})),
        "subscription_updated cus_2 change=updated id=sub_1 kind=subscription mrr={\"amount\":0,\"currency\":\"usd\"} status=trialing",
    );
    check(
        "customer.subscription.paused",
        &with(&subscription(), json!({"status": "paused"})),
        "subscription_paused cus_1 change=updated id=sub_1 kind=subscription mrr={\"amount\":0,\"currency\":\"usd\"} status=paused",
    );
    check(
        "customer.subscription.resumed",
        &with(&subscription(), json!({"status": "past_due", "pause_collection": {"behavior": "void"}})),
        "subscription_resumed cus_1 change=updated id=sub_1 kind=subscription mrr={\"amount\":5000,\"currency\":\"usd\"} status=past_due",
    );
    check(
        "customer.subscription.trial_will_end",
        &old_subscription(),
        "subscription_trial_will_end cus_1 change=updated id=sub_1 kind=subscription mrr={\"amount\":300,\"currency\":\"eur\"} status=active",
    );
}

#[test]
fn a_planned_end_is_read_from_either_shape() {
    let planned = |object: &Value| match read("customer.subscription.updated", object, &Value::Null)
        .unwrap()
        .unwrap()
        .facts
        .remove(0)
    {
        StripeFact::Subscription(fact) => fact.cancel_at.map(|at| at.millis() / 1_000 - CREATED),
        other => panic!("{other:?}"),
    };
    assert_eq!(planned(&subscription()), None);
    assert_eq!(planned(&with(&subscription(), json!({"cancel_at": CREATED + 5}))), Some(5));
    assert_eq!(
        planned(&with(&subscription(), json!({"cancel_at": CREATED + 5, "cancel_at_period_end": true}))),
        Some(5)
    );
    assert_eq!(planned(&with(&subscription(), json!({"cancel_at_period_end": true}))), Some(864_000));
    let two = items(&[item(1, "year", 1), with(&item(1, "month", 1), json!({"current_period_end": CREATED + 9}))]);
    assert_eq!(planned(&with(&subscription(), json!({"cancel_at_period_end": true, "items": two}))), Some(9));
    assert_eq!(planned(&with(&old_subscription(), json!({"cancel_at_period_end": true}))), Some(86_400));
    let undated = with(&subscription(), json!({"cancel_at_period_end": true, "items": items(&[])}));
    assert_eq!(planned(&undated), Some(0));
}

#[test]
fn a_deleted_subscription_has_ended() {
    let head = "subscription_canceled cus_1 change=deleted";
    let tail = "id=sub_1 kind=subscription mrr={\"amount\":0,\"currency\":\"usd\"} status=canceled";
    let deleted =
        with(&subscription(), json!({"status": "canceled", "ended_at": CREATED - 60, "cancel_at": CREATED - 60}));
    check("customer.subscription.deleted", &deleted, &format!("{head} ended_at=2026-03-01T11:59:00Z {tail}"));
    check("customer.subscription.deleted", &subscription(), &format!("{head} ended_at=2026-03-01T12:00:00Z {tail}"));
    check(
        "customer.subscription.updated",
        &with(&subscription(), json!({"status": "incomplete_expired", "ended_at": CREATED})),
        "subscription_updated cus_1 change=updated ended_at=2026-03-01T12:00:00Z id=sub_1 kind=subscription \
         mrr={\"amount\":0,\"currency\":\"usd\"} status=incomplete_expired",
    );
}

#[test]
fn a_lower_monthly_amount_is_a_downgrade() {
    let same = "subscription_updated cus_1 change=updated id=sub_1 kind=subscription mrr={\"amount\":5000,\"currency\":\"usd\"} status=active";
    let lower = &same.replace("change=updated", "change=updated downgraded=true");
    let before = |list: &[Value]| json!({ "items": items(list) });
    check_update(&subscription(), &json!({}), same);
    check_update(&subscription(), &json!({"status": "past_due"}), same);
    check_update(&subscription(), &before(&[item(2_500, "month", 3)]), lower);
    check_update(&subscription(), &before(&[item(2_500, "month", 2)]), same);
    check_update(&subscription(), &before(&[item(2_500, "month", 1)]), same);
    check_update(&subscription(), &before(&[item(2_500, "month", 2), item(100, "month", 1)]), lower);
    check_update(&subscription(), &before(&[item(61_200, "year", 1)]), lower);
    check_update(&subscription(), &before(&[item(60_000, "year", 1)]), same);
    let mut euros = item(9_000, "month", 9);
    euros["price"]["currency"] = json!("eur");
    let mut other_currency = subscription();
    other_currency["currency"] = Value::Null;
    check_update(&other_currency, &before(&[euros]), same);
    let mut partial = before(&[item(2_500, "month", 3)]);
    partial["items"]["has_more"] = json!(true);
    check_update(&subscription(), &partial, same);
}

#[test]
fn a_downgrade_is_seen_in_the_old_shape() {
    let same = "subscription_updated cus_1 change=updated id=sub_1 kind=subscription mrr={\"amount\":300,\"currency\":\"eur\"} status=active";
    let lower = &same.replace("change=updated", "change=updated downgraded=true");
    let plan = |amount: i64| json!({"plan": {"amount": amount, "currency": "eur", "interval": "year"}});
    check_update(&old_subscription(), &json!({"quantity": 4}), lower);
    check_update(&old_subscription(), &json!({"quantity": 2}), same);
    check_update(&old_subscription(), &plan(1_300), lower);
    check_update(&old_subscription(), &plan(1_100), same);
    check_update(&old_subscription(), &with(&plan(2_400), json!({"quantity": 1})), same);
}
