//! Scenarios of single factors: on and off at their edges.

use expect_test::expect;

use super::play::{check, check_scores};

#[test]
fn nothing_known_is_no_risk() {
    check("d5 acme (nothing)", expect!["d5 acme 0 low"]);
}

#[test]
fn a_login_exactly_14_days_ago_is_still_all_right() {
    check(
        "d1 acme login
         d15 acme (nothing)",
        expect!["d15 acme 0 low"],
    );
}

#[test]
fn a_millisecond_later_it_is_not() {
    check(
        "d1 acme login
         d15 00:00:00.001 acme (nothing)",
        expect!["d15 00:00:00.001 acme 30 low · No login for 14 days → Send re-engagement email"],
    );
}

#[test]
fn the_score_changes_at_that_very_instant() {
    check_scores(
        "d1 acme login
         d20 acme (nothing)",
        expect![[r#"
            d8 acme scores 25 low active [Usage dropped 100%]
            d15 acme scores 0 low active []
            d15 00:00:00.001 acme scores 30 low active [No login for 14 days]
            d20 acme 30 low · No login for 19 days → Send re-engagement email"#]],
    );
}

#[test]
fn days_without_login_are_whole() {
    check(
        "d1 12:00 acme login
         d17 11:59:59.999 acme (nothing)
         d17 12:00 acme (nothing)",
        expect![[r#"
            d17 11:59:59.999 acme 30 low · No login for 15 days → Send re-engagement email
            d17 12:00 acme 30 low · No login for 16 days → Send re-engagement email"#]],
    );
}

#[test]
fn a_login_makes_good() {
    check_scores(
        "d1 acme login
         d16 acme login
         d16 acme (nothing)",
        expect![[r#"
            d8 acme scores 25 low active [Usage dropped 100%]
            d15 acme scores 0 low active []
            d15 00:00:00.001 acme scores 30 low active [No login for 14 days]
            d16 acme scores 0 low active []
            d16 acme 0 low"#]],
    );
}

#[test]
fn no_login_ever_is_silent() {
    check(
        "d1 acme page_view
         d60 acme (nothing)",
        expect!["d60 acme 0 low"],
    );
}

#[test]
fn no_login_ever_counts_from_the_first_event_where_rules_say_so() {
    check(
        "d0 * rules since_first_seen
         d1 acme identify_user
         d15 acme (nothing)
         d15 00:00:00.001 acme (nothing)",
        expect![[r#"
            d15 acme 0 low
            d15 00:00:00.001 acme 30 low · No login for 14 days → Send re-engagement email"#]],
    );
}

#[test]
fn half_the_usage_is_still_all_right() {
    check(
        "d1 acme click x10
         d8 acme click x5
         d8 acme (nothing)",
        expect!["d8 acme 0 low"],
    );
}

#[test]
fn less_than_half_is_not() {
    check(
        "d1 acme click x11
         d8 acme click x5
         d8 acme (nothing)",
        expect!["d8 acme 25 low · Usage dropped 55% → Offer a check-in call"],
    );
}

#[test]
fn a_drop_is_rounded_half_up() {
    check(
        "d1 acme click x8
         d8 acme click x3
         d8 acme (nothing)
         d8 other click
         d9 other (nothing)",
        expect![[r#"
            d8 acme 25 low · Usage dropped 63% → Offer a check-in call
            d9 other 0 low"#]],
    );
}

#[test]
fn the_windows_are_168_whole_hours_that_end_with_this_one() {
    check(
        "d1 00:59:59.999 acme click x3
         d7 23:59:59.999 acme (nothing)
         d8 acme (nothing)
         d14 23:59:59.999 acme (nothing)
         d15 acme (nothing)",
        expect![[r#"
            d7 23:59:59.999 acme 0 low
            d8 acme 25 low · Usage dropped 100% → Offer a check-in call
            d14 23:59:59.999 acme 25 low · Usage dropped 100% → Offer a check-in call
            d15 acme 0 low"#]],
    );
}

#[test]
fn a_window_of_30_days_is_counted_by_the_day() {
    check(
        "d0 * rules monthly
         d1 23:00 acme click x5
         d30 23:59:59.999 acme (nothing)
         d31 acme (nothing)
         d60 23:59:59.999 acme (nothing)
         d61 acme (nothing)",
        expect![[r#"
            d30 23:59:59.999 acme 0 low
            d31 acme 25 low · Usage dropped 100% → Offer a check-in call
            d60 23:59:59.999 acme 25 low · Usage dropped 100% → Offer a check-in call
            d61 acme 0 low"#]],
    );
}

#[test]
fn usage_falls_and_comes_back_without_an_event() {
    check_scores(
        "d1 acme click x4
         d9 acme click
         d16 acme (nothing)",
        expect![[r#"
            d8 acme scores 25 low active [Usage dropped 100%]
            d15 acme scores 0 low active []
            d16 acme scores 25 low active [Usage dropped 100%]
            d16 acme 25 low · Usage dropped 100% → Offer a check-in call"#]],
    );
}

#[test]
fn what_is_no_usage_does_not_count() {
    check(
        "d1 acme click
         d8 acme billing_page_view
         d8 acme support_ticket
         d8 acme payment_x
         d8 acme identify
         d8 acme (nothing)",
        expect![[r#"
            d8 acme 0→45 medium raised
            d8 acme 45 medium · Usage dropped 100% · Viewed billing page recently → Offer a check-in call"#]],
    );
}

#[test]
fn the_billing_page_counts_for_7_days_the_edge_included() {
    check(
        "d1 acme billing_page_view
         d8 acme (nothing)
         d8 00:00:00.001 acme (nothing)",
        expect![[r#"
            d8 acme 20 low · Viewed billing page recently → Reach out about plan and pricing
            d8 00:00:00.001 acme 0 low"#]],
    );
}

#[test]
fn a_bad_support_interaction_counts_for_30_days() {
    check(
        "d1 acme support negative
         d31 acme (nothing)
         d31 00:00:00.001 acme (nothing)",
        expect![[r#"
            d31 acme 15 low · Negative support interaction → Escalate to customer success
            d31 00:00:00.001 acme 0 low"#]],
    );
}

#[test]
fn a_later_good_one_makes_good() {
    check(
        "d1 acme support negative
         d2 acme support positive
         d2 acme (nothing)",
        expect!["d2 acme 0 low"],
    );
}

#[test]
fn at_the_same_instant_the_negative_one_counts() {
    check(
        "d1 acme support negative
         d1 acme support positive
         d1 acme support neutral
         d1 acme (nothing)",
        expect!["d1 acme 15 low · Negative support interaction → Escalate to customer success"],
    );
}

#[test]
fn an_unknown_mood_changes_nothing() {
    check(
        "d1 acme support negative
         d2 acme support_ticket
         d2 acme support whatever
         d2 acme (nothing)",
        expect!["d2 acme 15 low · Negative support interaction → Escalate to customer success"],
    );
}

#[test]
fn a_mood_is_worked_out_from_the_message() {
    check(
        "d1 acme support this is terrible, I want a refund
         d1 acme (nothing)",
        expect!["d1 acme 15 low · Negative support interaction → Escalate to customer success"],
    );
}

#[test]
fn events_that_are_usage_may_have_a_mood_too() {
    check(
        "d0 * rules chat
         d1 acme chat negative
         d1 acme (nothing)
         d2 acme support positive
         d2 acme (nothing)",
        expect![[r#"
            d1 acme 15 low · Negative support interaction → Escalate to customer success
            d2 acme 15 low · Negative support interaction → Escalate to customer success"#]],
    );
}

#[test]
fn a_failed_payment_counts_for_30_days() {
    check(
        "d1 acme payment_failed
         d31 acme (nothing)
         d31 00:00:00.001 acme (nothing)",
        expect![[r#"
            d1 acme 0→40 medium raised
            d31 acme 40 medium · Recent payment failure → Ask for a new payment method
            d31 00:00:00.001 acme 40→0 low lowered
            d31 00:00:00.001 acme 0 low"#]],
    );
}

#[test]
fn a_payment_at_the_same_instant_makes_good() {
    check(
        "d1 acme payment_failed
         d1 acme payment_succeeded
         d1 acme (nothing)",
        expect![[r#"
            d1 acme 0→40 medium raised
            d1 acme 40→0 low lowered
            d1 acme 0 low"#]],
    );
}

#[test]
fn a_payment_before_it_does_not() {
    check(
        "d1 acme payment_succeeded
         d1 00:00:00.001 acme payment_failed
         d1 12:00 acme (nothing)",
        expect![[r#"
            d1 00:00:00.001 acme 0→40 medium raised
            d1 12:00 acme 40 medium · Recent payment failure → Ask for a new payment method"#]],
    );
}

#[test]
fn a_payment_that_comes_late_makes_good() {
    check(
        "d1 acme payment_failed
         d2 acme payment_succeeded @d2 00:10
         d3 acme (nothing)",
        expect![[r#"
            d1 acme 0→40 medium raised
            d2 00:10 acme 40→0 low lowered
            d3 acme 0 low"#]],
    );
}

#[test]
fn points_add_up() {
    check(
        "d1 acme login x9
         d2 acme billing_page_view
         d2 acme support negative
         d2 acme (nothing)",
        expect![
            "d2 acme 35 low · Viewed billing page recently · Negative support interaction → Reach out about plan and pricing"
        ],
    );
}

#[test]
fn the_sum_stops_at_100() {
    check(
        "d1 acme login x9
         d14 acme support negative
         d14 acme billing_page_view
         d14 acme payment_failed
         d15 00:00:00.001 acme (nothing)",
        expect![[r#"
            d14 acme 0→40 medium raised
            d14 acme 40→100 high raised
            d15 00:00:00.001 acme 100 high · No login for 14 days · Viewed billing page recently · Negative support interaction · Recent payment failure → Ask for a new payment method"#]],
    );
}

#[test]
fn the_first_factor_in_the_file_wins_a_tie_of_actions() {
    check(
        "d1 acme billing_page_view
         d1 acme sub s1 active 5usd downgraded
         d1 acme (nothing)",
        expect![[r#"
            d1 acme 0→40 medium raised
            d1 acme 40 medium · Viewed billing page recently · Downgraded 0 days ago → Reach out about plan and pricing"#]],
    );
}

#[test]
fn the_factor_with_the_most_points_gives_the_action() {
    check(
        "d1 acme login
         d15 12:00 acme billing_page_view
         d15 12:00 acme (nothing)",
        expect![[r#"
            d15 12:00 acme 0→50 medium raised
            d15 12:00 acme 50 medium · No login for 14 days · Viewed billing page recently → Send re-engagement email"#]],
    );
}

#[test]
fn silence_after_a_failed_payment_raises_to_high() {
    check(
        "d1  acme  login
         d2  acme  payment_failed
         d16 acme  (nothing)",
        expect![[r#"
            d2 acme 0→40 medium raised
            d15 00:00:00.001 acme 40→70 high raised
            d16 acme 70 high · No login for 15 days · Recent payment failure → Ask for a new payment method"#]],
    );
}

#[test]
fn levels_begin_at_their_scores() {
    check(
        "d0 * rules low_high
         d1 acme payment_failed
         d2 acme support negative
         d40 acme (nothing)",
        expect![[r#"
            d1 acme 0→40 medium raised
            d2 acme 40→55 high raised
            d31 00:00:00.001 acme 55→15 low lowered
            d40 acme 0 low"#]],
    );
}
