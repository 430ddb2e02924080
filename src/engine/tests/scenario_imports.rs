//! Scenarios of history, repeats, disorder and wrong clocks.

use expect_test::expect;

use super::play::{check, check_scores};

#[test]
fn an_import_is_scored_once_when_it_is_over() {
    check_scores(
        "d1 acme login @d40
         d2 acme payment_failed @d40
         d38 acme payment_failed @d40 00:00:01
         d39 acme login @d40 00:00:02
         d39 acme billing_page_view @d40 00:00:03
         d40 00:00:07.999 acme (nothing)
         d40 00:00:08 acme (nothing)",
        expect![[r#"
            d40 00:00:07.999 acme 60 medium · Viewed billing page recently · Recent payment failure → Ask for a new payment method
            d40 00:00:08 acme scores 60 medium active [Viewed billing page recently; Recent payment failure]
            d40 00:00:08 acme 0→60 medium raised
            d40 00:00:08 acme 60 medium · Viewed billing page recently · Recent payment failure → Ask for a new payment method"#]],
    );
}

#[test]
fn an_import_that_ends_well_alerts_nobody() {
    check_scores(
        "d1 acme payment_failed @d20
         d2 acme payment_succeeded @d20 00:00:04
         d20 00:01 acme (nothing)",
        expect!["d20 00:01 acme 0 low"],
    );
}

#[test]
fn history_of_others_keeps_an_import_going() {
    check_scores(
        "d1 acme payment_failed @d10
         d1 other login @d10 00:00:04
         d1 other login @d10 00:00:08
         d1 other login @d10 00:00:12
         d11 acme (nothing)",
        expect![[r#"
            d10 00:00:17 acme scores 40 medium active [Recent payment failure]
            d10 00:00:17 other scores 25 low active [Usage dropped 100%]
            d10 00:00:17 acme 0→40 medium raised
            d11 acme 40 medium · Recent payment failure → Ask for a new payment method"#]],
    );
}

#[test]
fn nobody_waits_longer_than_ten_minutes() {
    let others: String =
        (1..160).map(|count| format!("d1 other login @d10 00:{:02}:{:02}\n", count * 4 / 60, count * 4 % 60)).collect();
    check_scores(
        &format!("d1 acme payment_failed @d10\n{others}d10 00:11 acme (nothing)"),
        expect![[r#"
            d10 00:10 acme scores 40 medium active [Recent payment failure]
            d10 00:10 acme 0→40 medium raised
            d10 00:10:04 other scores 25 low active [Usage dropped 100%]
            d10 00:11 acme 40 medium · Recent payment failure → Ask for a new payment method"#]],
    );
}

#[test]
fn an_event_of_now_does_not_end_an_import() {
    check_scores(
        "d1 acme login @d30
         d30 00:00:01 acme click
         d29 acme login @d30 00:00:02
         d30 00:01 acme (nothing)",
        expect!["d30 00:01 acme 0 low"],
    );
}

#[test]
fn what_is_an_hour_old_is_not_history() {
    check(
        "d1 acme payment_failed @d1 01:00
         d1 02:00 acme (nothing)",
        expect![[r#"
            d1 01:00 acme 0→40 medium raised
            d1 02:00 acme 40 medium · Recent payment failure → Ask for a new payment method"#]],
    );
}

#[test]
fn what_is_older_is() {
    check(
        "d1 acme payment_failed @d1 01:00:00.001
         d1 02:00 acme (nothing)",
        expect![[r#"
            d1 01:00:05.001 acme 0→40 medium raised
            d1 02:00 acme 40 medium · Recent payment failure → Ask for a new payment method"#]],
    );
}

#[test]
fn a_restart_does_not_end_an_import() {
    check_scores(
        "d1 acme login @d40
         d40 00:00:03 * restart
         d39 acme login @d40 00:00:07
         d40 00:00:11.999 acme (nothing)
         d40 00:00:12 acme (nothing)",
        expect![[r#"
            d40 00:00:11.999 acme 0 low
            d40 00:00:12 acme 0 low"#]],
    );
}

#[test]
fn rules_that_change_do_not_end_an_import() {
    check_scores(
        "d1 acme login @d40
         d40 00:00:01 * rules strict
         d40 00:00:04 acme (nothing)
         d40 00:01 acme (nothing)",
        expect![[r#"
            d40 00:00:04 acme 30 low · No login for 39 days → Send re-engagement email
            d40 00:00:05 acme scores 30 low active [No login for 39 days]
            d40 00:01 acme 30 low · No login for 39 days → Send re-engagement email"#]],
    );
}

#[test]
fn a_repeat_counts_once() {
    check(
        "d1 acme click #1
         d1 acme click #1
         d1 acme click #2
         d8 acme click #3
         d8 acme (nothing)",
        expect!["d8 acme 0 low"],
    );
}

#[test]
fn a_repeat_that_comes_a_day_later_counts_once() {
    check(
        "d1 acme click #1
         d2 acme click #2
         d1 acme click #1 @d2 12:00
         d8 acme click #3
         d8 12:00 acme (nothing)",
        expect!["d8 12:00 acme 0 low"],
    );
}

#[test]
fn without_an_id_each_counts() {
    check(
        "d1 acme click
         d1 acme click
         d1 acme click
         d8 acme click
         d8 acme (nothing)",
        expect!["d8 acme 25 low · Usage dropped 67% → Offer a check-in call"],
    );
}

#[test]
fn disorder_does_not_matter() {
    check_scores(
        "d10 acme payment_succeeded
         d9 acme payment_failed @d10 00:10
         d8 acme login @d10 00:10
         d10 01:00 acme (nothing)
         d23 acme (nothing)",
        expect![[r#"
            d10 01:00 acme 0 low
            d15 acme scores 25 low active [Usage dropped 100%]
            d22 acme scores 0 low active []
            d22 00:00:00.001 acme scores 30 low active [No login for 14 days]
            d23 acme 30 low · No login for 15 days → Send re-engagement email"#]],
    );
}

#[test]
fn an_old_login_does_not_replace_a_newer_one() {
    check(
        "d10 acme login
         d1 acme login @d10 00:00:01
         d24 acme (nothing)
         d24 00:00:00.001 acme (nothing)",
        expect![[r#"
            d24 acme 0 low
            d24 00:00:00.001 acme 30 low · No login for 14 days → Send re-engagement email"#]],
    );
}

#[test]
fn a_timestamp_of_the_future_is_that_of_its_receipt() {
    check(
        "d30 acme login @d1
         d15 acme (nothing)
         d15 00:00:00.001 acme (nothing)",
        expect![[r#"
            d15 acme 0 low
            d15 00:00:00.001 acme 30 low · No login for 14 days → Send re-engagement email"#]],
    );
}

#[test]
fn a_clock_that_is_five_minutes_ahead_is_believed() {
    check(
        "d1 00:05 acme login @d1
         d15 00:05 acme (nothing)
         d15 00:05:00.001 acme (nothing)",
        expect![[r#"
            d15 00:05 acme 0 low
            d15 00:05:00.001 acme 30 low · No login for 14 days → Send re-engagement email"#]],
    );
}

#[test]
fn an_event_of_the_near_future_is_scored_as_of_itself() {
    check_scores(
        "d1 00:04 acme payment_failed @d1
         d1 00:04 acme (nothing)",
        expect![[r#"
            d1 00:04 acme scores 40 medium active [Recent payment failure]
            d1 00:04 acme 0→40 medium raised
            d1 00:04 acme 40 medium · Recent payment failure → Ask for a new payment method"#]],
    );
}

#[test]
fn what_is_older_than_every_window_is_late() {
    check(
        "d100 acme click
         d1 acme click @d100 00:00:01
         d100 01:00 acme (nothing)",
        expect!["d100 01:00 acme 0 low"],
    );
}

#[test]
fn first_seen_is_the_oldest_event() {
    check(
        "d0 * rules since_first_seen
         d20 acme click
         d19 23:00 acme click @d20 00:00:01
         d33 22:59 acme (nothing)
         d33 23:00:00.001 acme (nothing)",
        expect![[r#"
            d33 22:59 acme 25 low · Usage dropped 100% → Offer a check-in call
            d33 23:00:00.001 acme 0→55 medium raised
            d33 23:00:00.001 acme 55 medium · No login for 14 days · Usage dropped 100% → Send re-engagement email"#]],
    );
}
