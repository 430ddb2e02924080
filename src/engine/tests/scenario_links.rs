//! Scenarios of Stripe customers that are linked to customers.

use expect_test::expect;

use super::play::{check, check_scores};

#[test]
fn facts_after_the_link_reach_the_customer() {
    check(
        "d1 acme identify cus_1
         d2 cus_1 sub s1 active 49usd cancels d30
         d2 acme (nothing)
         d2 cus_1 (nothing)",
        expect![[r#"
            d2 acme 0→80 high raised
            d2 acme 80 high · Cancellation scheduled for 2026-03-30 → Call before the subscription ends
            d2 cus_1 0 low"#]],
    );
}

#[test]
fn facts_before_the_link_are_handed_over() {
    check_scores(
        "d1 cus_1 sub s1 active 49usd
         d2 cus_1 invoice i1 failed
         d3 acme identify cus_1
         d3 acme (nothing)
         d3 cus_1 (nothing)",
        expect![[r#"
            d2 cus_1 scores 40 medium active [Recent payment failure]
            d2 cus_1 0→40 medium raised
            d3 cus_1 scores 0 low moved []
            d3 acme 40 medium · Recent payment failure → Ask for a new payment method
            d3 cus_1 0 low"#]],
    );
}

#[test]
fn facts_before_and_after_the_link_come_together() {
    check_scores(
        "d1 cus_1 invoice i1 failed
         d2 acme identify cus_1
         d3 cus_1 invoice i1 paid
         d3 acme (nothing)",
        expect![[r#"
            d1 cus_1 scores 40 medium active [Recent payment failure]
            d1 cus_1 0→40 medium raised
            d2 cus_1 scores 0 low moved []
            d2 00:00:05 acme scores 40 medium active [Recent payment failure]
            d2 00:00:05 acme 0→40 medium raised
            d3 acme scores 0 low active []
            d3 acme 40→0 low lowered
            d3 acme 0 low"#]],
    );
}

#[test]
fn a_repeat_on_both_sides_of_the_link_counts_once() {
    check(
        "d1 cus_1 click x3 #e1
         d1 01:00 acme identify cus_1
         d1 02:00 cus_1 click #e1
         d1 03:00 cus_1 click #e2
         d8 acme click
         d8 12:00 acme (nothing)",
        expect!["d8 12:00 acme 0 low"],
    );
}

#[test]
fn an_event_without_id_is_forwarded_once() {
    check(
        "d1 acme identify cus_1
         d1 01:00 cus_1 click x3
         d8 acme click
         d8 01:30 acme (nothing)",
        expect!["d8 01:30 acme 25 low · Usage dropped 67% → Offer a check-in call"],
    );
}

#[test]
fn linking_twice_changes_nothing() {
    check(
        "d1 cus_1 invoice i1 failed
         d2 acme identify cus_1
         d3 acme identify cus_1
         d3 acme (nothing)",
        expect![[r#"
            d1 cus_1 0→40 medium raised
            d2 00:00:05 acme 0→40 medium raised
            d3 acme 40 medium · Recent payment failure → Ask for a new payment method"#]],
    );
}

#[test]
fn two_stripe_customers_of_one_customer() {
    check(
        "d1 cus_1 sub s1 active 49usd
         d1 cus_2 sub s2 active 49usd
         d2 acme identify cus_1
         d2 acme identify cus_2
         d3 cus_1 sub s1 canceled
         d3 acme (nothing)
         d4 cus_2 sub s2 canceled
         d4 acme (nothing)",
        expect![[r#"
            d3 acme 0 low
            d4 acme 0→100 high churned
            d4 acme 100 high · Last subscription ended → Ask why they left and offer a way back"#]],
    );
}

#[test]
fn a_link_to_another_customer_moves_what_comes_later() {
    check(
        "d1 acme identify cus_1
         d2 other identify cus_1
         d3 cus_1 payment_failed
         d3 acme (nothing)
         d3 other (nothing)",
        expect![[r#"
            d3 other 0→40 medium raised
            d3 acme 0 low
            d3 other 40 medium · Recent payment failure → Ask for a new payment method"#]],
    );
}

#[test]
fn an_older_link_does_not_replace_a_newer_one() {
    check(
        "d2 other identify cus_1
         d1 12:00 acme identify cus_1 @d2 00:10
         d2 01:00 cus_1 payment_failed
         d2 02:00 acme (nothing)
         d2 02:00 other (nothing)",
        expect![[r#"
            d2 01:00 other 0→40 medium raised
            d2 02:00 acme 0 low
            d2 02:00 other 40 medium · Recent payment failure → Ask for a new payment method"#]],
    );
}

#[test]
fn a_stripe_customer_cannot_take_others_in() {
    check(
        "d1 cus_1 identify cus_2
         d1 cus_2 payment_failed
         d1 cus_1 (nothing)
         d1 cus_2 (nothing)",
        expect![[r#"
            d1 cus_2 0→40 medium raised
            d1 cus_1 0 low
            d1 cus_2 40 medium · Recent payment failure → Ask for a new payment method"#]],
    );
}

#[test]
fn only_a_stripe_customer_can_be_linked_away() {
    check(
        "d1 acme payment_failed
         d2 acme subscription_linked
         d2 acme (nothing)",
        expect![[r#"
            d1 acme 0→40 medium raised
            d2 acme 40 medium · Recent payment failure → Ask for a new payment method"#]],
    );
}

#[test]
fn a_signpost_has_no_score_and_is_never_due() {
    check_scores(
        "d1 cus_1 login
         d2 cus_1 payment_failed
         d3 acme identify cus_1
         d4 * restart
         d60 acme (nothing)
         d60 cus_1 (nothing)",
        expect![[r#"
            d2 cus_1 scores 40 medium active [Recent payment failure]
            d2 cus_1 0→40 medium raised
            d3 cus_1 scores 0 low moved []
            d3 00:00:05 acme scores 40 medium active [Recent payment failure]
            d3 00:00:05 acme 0→40 medium raised
            d8 acme scores 65 medium active [Usage dropped 100%; Recent payment failure]
            d15 acme scores 40 medium active [Recent payment failure]
            d15 00:00:00.001 acme scores 70 high active [No login for 14 days; Recent payment failure]
            d15 00:00:00.001 acme 40→70 high raised
            d32 00:00:00.001 acme scores 30 low active [No login for 31 days]
            d32 00:00:00.001 acme 70→30 low lowered
            d60 acme 30 low · No login for 59 days → Send re-engagement email
            d60 cus_1 0 low"#]],
    );
}

#[test]
fn a_link_after_churn_hands_it_over() {
    check(
        "d1 cus_1 sub s1 active 49usd
         d2 cus_1 sub s1 canceled
         d3 acme identify cus_1
         d4 cus_1 sub s2 active 49usd
         d4 acme (nothing)",
        expect![[r#"
            d2 cus_1 0→100 high churned
            d3 00:00:05 acme 0→100 high churned
            d4 acme 100→0 low recovered
            d4 acme 0 low"#]],
    );
}

#[test]
fn linking_survives_a_restart_in_between() {
    check(
        "d1 cus_1 invoice i1 failed
         d2 acme login
         d2 acme identify cus_1
         d2 * restart
         d3 cus_1 dispute dp1 open
         d3 * evict
         d4 cus_1 dispute dp1 closed
         d4 acme (nothing)",
        expect![[r#"
            d1 cus_1 0→40 medium raised
            d2 00:00:10 acme 0→40 medium raised
            d3 acme 40→70 high raised
            d4 acme 70→40 medium lowered
            d4 acme 40 medium · Recent payment failure → Ask for a new payment method"#]],
    );
}
