//! Scenarios of levels, alerts, cooldown, churn and rules.

use expect_test::expect;

use super::play::{check, check_scores};

#[test]
fn a_rise_alerts_at_once_and_a_fall_when_silence_brings_it() {
    check(
        "d1 acme payment_failed
         d40 acme (nothing)",
        expect![[r#"
            d1 acme 0→40 medium raised
            d31 00:00:00.001 acme 40→0 low lowered
            d40 acme 0 low"#]],
    );
}

#[test]
fn the_same_level_is_not_told_again_within_24_hours() {
    check(
        "d1 acme payment_failed
         d1 06:00 acme payment_succeeded
         d1 12:00 acme payment_failed
         d1 18:00 acme (nothing)
         d2 acme (nothing)",
        expect![[r#"
            d1 acme 0→40 medium raised
            d1 06:00 acme 40→0 low lowered
            d1 12:00 acme 0→40 medium raised, held
            d1 18:00 acme 40 medium · Recent payment failure → Ask for a new payment method
            d2 acme 0→40 medium raised
            d2 acme 40 medium · Recent payment failure → Ask for a new payment method"#]],
    );
}

#[test]
fn what_was_held_back_is_told_when_the_24_hours_are_over() {
    check(
        "d1 acme payment_failed
         d1 01:00 acme payment_succeeded
         d1 02:00 acme payment_failed
         d3 acme (nothing)",
        expect![[r#"
            d1 acme 0→40 medium raised
            d1 01:00 acme 40→0 low lowered
            d1 02:00 acme 0→40 medium raised, held
            d2 acme 0→40 medium raised
            d3 acme 40 medium · Recent payment failure → Ask for a new payment method"#]],
    );
}

#[test]
fn what_was_held_back_is_forgotten_if_it_is_over_by_then() {
    check(
        "d1 acme payment_failed
         d1 01:00 acme payment_succeeded
         d1 02:00 acme payment_failed
         d1 03:00 acme payment_succeeded
         d3 acme (nothing)",
        expect![[r#"
            d1 acme 0→40 medium raised
            d1 01:00 acme 40→0 low lowered
            d1 02:00 acme 0→40 medium raised, held
            d3 acme 0 low"#]],
    );
}

#[test]
fn a_level_above_the_held_one_is_told_at_once() {
    check(
        "d1 acme payment_failed
         d1 01:00 acme payment_succeeded
         d1 02:00 acme payment_failed
         d1 03:00 acme support negative
         d1 04:00 acme dispute dp1 open
         d3 acme (nothing)",
        expect![[r#"
            d1 acme 0→40 medium raised
            d1 01:00 acme 40→0 low lowered
            d1 02:00 acme 0→40 medium raised, held
            d1 04:00 acme 0→70 high raised
            d3 acme 70 high · Negative support interaction · Recent payment failure · Payment disputed → Ask for a new payment method"#]],
    );
}

#[test]
fn a_held_level_is_shown_once() {
    check(
        "d1 acme payment_failed
         d1 01:00 acme payment_succeeded
         d1 02:00 acme payment_failed
         d1 03:00 acme payment_failed
         d1 04:00 acme payment_failed
         d1 05:00 acme (nothing)",
        expect![[r#"
            d1 acme 0→40 medium raised
            d1 01:00 acme 40→0 low lowered
            d1 02:00 acme 0→40 medium raised, held
            d1 05:00 acme 40 medium · Recent payment failure → Ask for a new payment method"#]],
    );
}

#[test]
fn a_fall_is_held_back_too() {
    check(
        "d1 acme payment_failed
         d2 12:00 acme payment_succeeded
         d2 13:00 acme payment_failed
         d2 14:00 acme payment_succeeded
         d4 acme (nothing)",
        expect![[r#"
            d1 acme 0→40 medium raised
            d2 12:00 acme 40→0 low lowered
            d2 13:00 acme 0→40 medium raised
            d2 14:00 acme 40→0 low lowered, held
            d3 12:00 acme 40→0 low lowered
            d4 acme 0 low"#]],
    );
}

#[test]
fn exactly_24_hours_later_it_is_told_again() {
    check(
        "d1 acme payment_failed
         d1 12:00 acme payment_succeeded
         d2 acme payment_failed",
        expect![[r#"
            d1 acme 0→40 medium raised
            d1 12:00 acme 40→0 low lowered
            d2 acme 0→40 medium raised"#]],
    );
}

#[test]
fn a_score_within_its_level_is_history_but_no_alert() {
    check_scores(
        "d1 acme payment_failed
         d2 acme support negative
         d3 acme billing_page_view
         d3 acme (nothing)",
        expect![[r#"
            d1 acme scores 40 medium active [Recent payment failure]
            d1 acme 0→40 medium raised
            d2 acme scores 55 medium active [Negative support interaction; Recent payment failure]
            d3 acme scores 75 high active [Viewed billing page recently; Negative support interaction; Recent payment failure]
            d3 acme 40→75 high raised
            d3 acme 75 high · Viewed billing page recently · Negative support interaction · Recent payment failure → Ask for a new payment method"#]],
    );
}

#[test]
fn churned_is_told_once_and_ends_all_other_alerts() {
    check(
        "d1 acme sub s1 active 49usd
         d5 acme sub s1 canceled
         d6 acme payment_failed
         d7 acme payment_succeeded
         d7 acme login
         d60 acme (nothing)",
        expect![[r#"
            d5 acme 0→100 high churned
            d60 acme 100 high · Last subscription ended · No login for 53 days → Ask why they left and offer a way back"#]],
    );
}

#[test]
fn a_customer_that_comes_back_has_recovered() {
    check(
        "d1 acme sub s1 active 49usd
         d5 acme sub s1 canceled
         d20 acme sub s2 active 49usd
         d20 acme (nothing)",
        expect![[r#"
            d5 acme 0→100 high churned
            d20 acme 100→0 low recovered
            d20 acme 0 low"#]],
    );
}

#[test]
fn recovered_at_risk_says_its_level() {
    check(
        "d1 acme sub s1 active 49usd
         d5 acme sub s1 canceled
         d20 acme payment_failed
         d20 acme sub s2 past_due 49usd
         d20 acme (nothing)",
        expect![[r#"
            d5 acme 0→100 high churned
            d20 acme 100→60 medium recovered
            d20 acme 60 medium · Recent payment failure · Subscription is past due → Ask for a new payment method"#]],
    );
}

#[test]
fn churned_and_back_and_churned_within_a_second_are_three_alerts() {
    check(
        "d1 acme sub s1 active 49usd
         d5 acme sub s1 canceled
         d5 acme sub s2 active 49usd
         d5 acme sub s2 canceled
         d5 acme (nothing)",
        expect![[r#"
            d5 acme 0→100 high churned
            d5 acme 100→0 low recovered
            d5 acme 0→100 high churned
            d5 acme 100 high · Last subscription ended → Ask why they left and offer a way back"#]],
    );
}

#[test]
fn churned_at_once_without_ever_being_at_risk() {
    check_scores(
        "d1 acme sub s1 canceled
         d1 acme (nothing)",
        expect![[r#"
            d1 acme scores 100 high churned [Last subscription ended]
            d1 acme 0→100 high churned
            d1 acme 100 high · Last subscription ended → Ask why they left and offer a way back"#]],
    );
}

#[test]
fn other_rules_score_everybody_anew() {
    check_scores(
        "d1 acme login
         d1 b:acme login
         d6 * rules strict
         d6 acme (nothing)
         d6 b:acme (nothing)",
        expect![[r#"
            d6 acme scores 30 low active [No login for 5 days]
            d6 acme 30 low · No login for 5 days → Send re-engagement email
            d6 acme 0 low"#]],
    );
}

#[test]
fn each_account_has_its_own_rules() {
    check(
        "d0 b:* rules strict
         d1 acme login
         d1 b:acme login
         d1 acme payment_failed
         d1 b:acme payment_failed
         d5 acme (nothing)
         d5 b:acme (nothing)",
        expect![[r#"
            d1 acme 0→40 medium raised
            d1 b:acme 0→40 medium raised
            d4 00:00:00.001 b:acme 40→70 high raised
            d5 acme 40 medium · Recent payment failure → Ask for a new payment method
            d5 acme 70 high · No login for 4 days · Recent payment failure → Ask for a new payment method"#]],
    );
}

#[test]
fn rules_that_change_raise_and_lower_levels() {
    check(
        "d1 acme payment_failed
         d1 acme support negative
         d2 * rules low_high
         d4 * rules default
         d5 acme (nothing)",
        expect![[r#"
            d1 acme 0→40 medium raised
            d2 acme 40→55 high raised
            d4 acme 55→55 medium lowered
            d5 acme 55 medium · Negative support interaction · Recent payment failure → Ask for a new payment method"#]],
    );
}

#[test]
fn what_silence_brings_is_the_same_after_a_restart() {
    check(
        "d1 acme login
         d2 acme payment_failed
         d3 * restart
         d16 acme (nothing)
         d17 * restart
         d60 acme (nothing)",
        expect![[r#"
            d2 acme 0→40 medium raised
            d15 00:00:00.001 acme 40→70 high raised
            d16 acme 70 high · No login for 15 days · Recent payment failure → Ask for a new payment method
            d32 00:00:00.001 acme 70→30 low lowered
            d60 acme 30 low · No login for 59 days → Send re-engagement email"#]],
    );
}

#[test]
fn what_silence_brings_is_the_same_out_of_memory() {
    check(
        "d1 acme login
         d2 acme payment_failed
         d2 * evict
         d16 acme (nothing)
         d16 * evict
         d60 acme (nothing)",
        expect![[r#"
            d2 acme 0→40 medium raised
            d15 00:00:00.001 acme 40→70 high raised
            d16 acme 70 high · No login for 15 days · Recent payment failure → Ask for a new payment method
            d32 00:00:00.001 acme 70→30 low lowered
            d60 acme 30 low · No login for 59 days → Send re-engagement email"#]],
    );
}

#[test]
fn a_held_alert_survives_a_restart() {
    check(
        "d1 acme payment_failed
         d1 01:00 acme payment_succeeded
         d1 02:00 acme payment_failed
         d1 03:00 * restart
         d3 acme (nothing)",
        expect![[r#"
            d1 acme 0→40 medium raised
            d1 01:00 acme 40→0 low lowered
            d1 02:00 acme 0→40 medium raised, held
            d2 acme 0→40 medium raised
            d3 acme 40 medium · Recent payment failure → Ask for a new payment method"#]],
    );
}

#[test]
fn two_customers_do_not_mix() {
    check(
        "d1 acme login
         d1 other login
         d2 other payment_failed
         d2 acme (nothing)
         d2 other (nothing)",
        expect![[r#"
            d2 other 0→40 medium raised
            d2 acme 0 low
            d2 other 40 medium · Recent payment failure → Ask for a new payment method"#]],
    );
}
