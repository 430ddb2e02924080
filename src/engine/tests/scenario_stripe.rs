//! Scenarios of what Stripe says.

use expect_test::expect;

use super::play::{check, check_scores};

#[test]
fn a_living_subscription_is_no_risk() {
    check(
        "d1 acme sub s1 active 49usd
         d2 acme (nothing)",
        expect!["d2 acme 0 low"],
    );
}

#[test]
fn a_scheduled_cancellation_is_at_least_80() {
    check(
        "d1 acme sub s1 active 49usd
         d2 acme sub s1 active 49usd cancels d30
         d2 acme (nothing)",
        expect![[r#"
            d2 acme 0→80 high raised
            d2 acme 80 high · Cancellation scheduled for 2026-03-30 → Call before the subscription ends"#]],
    );
}

#[test]
fn a_cancellation_taken_back_is_no_risk() {
    check(
        "d1 acme sub s1 active 49usd cancels d30
         d3 acme sub s1 active 49usd
         d3 acme (nothing)",
        expect![[r#"
            d1 acme 0→80 high raised
            d3 acme 80→0 low lowered
            d3 acme 0 low"#]],
    );
}

#[test]
fn points_above_at_least_count() {
    check(
        "d1 acme sub s1 active 49usd cancels d30
         d1 acme payment_failed
         d1 acme (nothing)",
        expect![[r#"
            d1 acme 0→80 high raised
            d1 acme 90 high · Recent payment failure · Cancellation scheduled for 2026-03-30 → Call before the subscription ends"#]],
    );
}

#[test]
fn past_due_and_unpaid_are_at_least_60() {
    check(
        "d1 acme sub s1 past_due 49usd
         d1 acme (nothing)
         d2 acme sub s1 unpaid 49usd
         d2 acme (nothing)
         d3 acme sub s1 active 49usd
         d3 acme (nothing)",
        expect![[r#"
            d1 acme 0→60 medium raised
            d1 acme 60 medium · Subscription is past due → Ask for a new payment method
            d2 acme 60 medium · Subscription is unpaid → Ask for a new payment method
            d3 acme 60→0 low lowered
            d3 acme 0 low"#]],
    );
}

#[test]
fn an_open_dispute_is_at_least_70() {
    check(
        "d1 acme dispute dp1 open
         d1 acme (nothing)
         d9 acme dispute dp1 closed
         d9 acme (nothing)",
        expect![[r#"
            d1 acme 0→70 high raised
            d1 acme 70 high · Payment disputed → Resolve the dispute with the customer
            d9 acme 70→0 low lowered
            d9 acme 0 low"#]],
    );
}

#[test]
fn a_closed_dispute_stays_closed() {
    check(
        "d9 acme dispute dp1 closed
         d9 00:10 acme dispute dp1 open
         d9 01:00 acme (nothing)",
        expect!["d9 01:00 acme 0 low"],
    );
}

#[test]
fn a_downgrade_counts_for_30_days() {
    check(
        "d1 acme sub s1 active 9usd downgraded
         d31 acme (nothing)
         d31 00:00:00.001 acme (nothing)",
        expect![[r#"
            d31 acme 20 low · Downgraded 30 days ago → Ask what is missing in the smaller plan
            d31 00:00:00.001 acme 0 low"#]],
    );
}

#[test]
fn a_card_counts_from_30_days_before_it_expires() {
    check_scores(
        "d1 acme card c1 expires d60
         d29 23:59:59.999 acme (nothing)
         d30 acme (nothing)",
        expect![[r#"
            d29 23:59:59.999 acme 0 low
            d30 acme scores 10 low active [Card expires soon]
            d30 acme 10 low · Card expires soon → Ask for a new payment method"#]],
    );
}

#[test]
fn a_card_that_lasts_longer_makes_good() {
    check(
        "d1 acme card c1 expires d20
         d2 acme card c2 expires d100
         d20 acme (nothing)
         d21 acme card c2 detached
         d21 acme (nothing)",
        expect![[r#"
            d20 acme 0 low
            d21 acme 10 low · Card expires soon → Ask for a new payment method"#]],
    );
}

#[test]
fn a_card_without_an_end_never_expires() {
    check(
        "d1 acme card c1 expires d20
         d2 acme card c2 lasting
         d20 acme (nothing)",
        expect!["d20 acme 0 low"],
    );
}

#[test]
fn the_last_subscription_ends() {
    check(
        "d1 acme sub s1 active 49usd
         d2 acme sub s1 canceled 49usd
         d2 acme (nothing)",
        expect![[r#"
            d2 acme 0→100 high churned
            d2 acme 100 high · Last subscription ended → Ask why they left and offer a way back"#]],
    );
}

#[test]
fn one_of_two_subscriptions_ends() {
    check(
        "d1 acme sub s1 active 49usd
         d1 acme sub s2 active 10usd
         d2 acme sub s1 canceled
         d2 acme (nothing)
         d3 acme sub s2 canceled
         d3 acme (nothing)",
        expect![[r#"
            d2 acme 0 low
            d3 acme 0→100 high churned
            d3 acme 100 high · Last subscription ended → Ask why they left and offer a way back"#]],
    );
}

#[test]
fn a_first_payment_that_never_came_is_no_churn() {
    check(
        "d1 acme sub s1 incomplete created
         d2 acme sub s1 incomplete_expired
         d2 acme (nothing)",
        expect!["d2 acme 0 low"],
    );
}

#[test]
fn an_expired_attempt_does_not_bring_a_churned_customer_back() {
    check(
        "d1 acme sub s1 active 49usd
         d2 acme sub s1 canceled
         d3 acme sub s2 incomplete created
         d3 acme (nothing)
         d4 acme sub s2 incomplete_expired
         d4 acme (nothing)",
        expect![[r#"
            d2 acme 0→100 high churned
            d3 acme 100 high · Last subscription ended → Ask why they left and offer a way back
            d4 acme 100 high · Last subscription ended → Ask why they left and offer a way back"#]],
    );
}

#[test]
fn what_ended_stays_ended() {
    check(
        "d2 acme sub s1 canceled
         d2 00:10 acme sub s1 active 49usd
         d2 01:00 acme (nothing)",
        expect![[r#"
            d2 acme 0→100 high churned
            d2 01:00 acme 100 high · Last subscription ended → Ask why they left and offer a way back"#]],
    );
}

#[test]
fn in_the_same_second_a_deletion_is_newer() {
    check(
        "d2 acme sub s1 canceled
         d2 acme sub s1 active 49usd
         d2 acme sub s1 active 49usd created
         d2 01:00 acme (nothing)",
        expect![[r#"
            d2 acme 0→100 high churned
            d2 01:00 acme 100 high · Last subscription ended → Ask why they left and offer a way back"#]],
    );
}

#[test]
fn an_older_fact_does_not_replace_a_newer_one() {
    check(
        "d2 acme sub s1 active 49usd
         d1 acme sub s1 past_due 49usd @d2 00:00:01
         d2 01:00 acme (nothing)",
        expect!["d2 01:00 acme 0 low"],
    );
}

#[test]
fn a_failed_invoice_counts_until_it_is_paid() {
    check(
        "d1 acme invoice i1 failed
         d1 acme (nothing)
         d3 acme invoice i1 paid
         d3 acme (nothing)",
        expect![[r#"
            d1 acme 0→40 medium raised
            d1 acme 40 medium · Recent payment failure → Ask for a new payment method
            d3 acme 40→0 low lowered
            d3 acme 0 low"#]],
    );
}

#[test]
fn a_voided_invoice_is_owed_by_nobody() {
    check(
        "d1 acme invoice i1 failed
         d3 acme invoice i1 voided
         d3 acme (nothing)",
        expect![[r#"
            d1 acme 0→40 medium raised
            d3 acme 40→0 low lowered
            d3 acme 0 low"#]],
    );
}

#[test]
fn facts_of_an_invoice_come_in_any_order() {
    check(
        "d3 acme invoice i1 paid
         d1 acme invoice i1 failed @d3 00:00:01
         d3 01:00 acme (nothing)",
        expect!["d3 01:00 acme 0 low"],
    );
}

#[test]
fn a_payment_of_another_invoice_makes_good() {
    check(
        "d1 acme invoice i1 failed
         d2 acme invoice i2 paid
         d2 acme (nothing)",
        expect![[r#"
            d1 acme 0→40 medium raised
            d2 acme 40→0 low lowered
            d2 acme 0 low"#]],
    );
}

#[test]
fn another_invoice_fails_after_that() {
    check(
        "d1 acme invoice i1 failed
         d2 acme invoice i1 paid
         d3 acme invoice i2 failed
         d3 acme (nothing)
         d33 00:00:00.001 acme (nothing)",
        expect![[r#"
            d1 acme 0→40 medium raised
            d2 acme 40→0 low lowered
            d3 acme 0→40 medium raised
            d3 acme 40 medium · Recent payment failure → Ask for a new payment method
            d33 00:00:00.001 acme 40→0 low lowered
            d33 00:00:00.001 acme 0 low"#]],
    );
}

#[test]
fn a_repeated_fact_is_harmless_however_late() {
    check(
        "d1 acme sub s1 active 49usd
         d1 acme invoice i1 failed
         d2 acme invoice i1 paid
         d1 acme invoice i1 failed @d20
         d1 acme sub s1 active 49usd @d20
         d21 acme (nothing)",
        expect![[r#"
            d1 acme 0→40 medium raised
            d2 acme 40→0 low lowered
            d21 acme 0 low"#]],
    );
}

#[test]
fn a_paused_subscription_lives() {
    check(
        "d1 acme sub s1 paused 49usd
         d1 acme (nothing)",
        expect!["d1 acme 0 low"],
    );
}

#[test]
fn a_card_that_is_expired_still_counts() {
    check(
        "d1 acme card c1 expires d20
         d90 acme (nothing)",
        expect!["d90 acme 10 low · Card expires soon → Ask for a new payment method"],
    );
}
