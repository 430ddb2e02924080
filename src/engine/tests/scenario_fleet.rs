//! Scenarios of accounts whose events stop coming: nobody hears of what that alone makes of its customers.

use std::fmt::Write as _;

use expect_test::expect;

use super::play::{check, check_scores};

/// A customer who logs in on day 1 and uses the product each day of `days`.
fn busy(customer: &str, days: std::ops::RangeInclusive<i64>) -> String {
    let mut lines = String::new();
    for day in days {
        let name = if day == 1 { "login" } else { "page_view" };
        writeln!(lines, "d{day} 09:00 {customer} {name} x5").unwrap();
    }
    lines
}

#[test]
fn without_a_guard_silence_tells() {
    check(
        &format!("{} d20 acme (nothing)", busy("acme", 1..=14)),
        expect![[r#"
        d18 09:00 acme 0→55 medium raised
        d20 acme 55 medium · No login for 18 days · Usage dropped 71% → Send re-engagement email"#]],
    );
}

#[test]
fn silence_of_the_whole_account_tells_nothing_and_is_scored() {
    let gone = "d14 12:00 * gone\nd20 acme (nothing)";
    check_scores(
        &format!("{}{gone}", busy("acme", 1..=14)),
        expect![[r#"
        d15 09:00:00.001 acme scores 30 low active [No login for 14 days]
        d18 09:00 acme scores 55 medium active [No login for 17 days; Usage dropped 57%]
        d20 acme 55 medium · No login for 18 days · Usage dropped 71% → Send re-engagement email"#]],
    );
}

#[test]
fn another_account_is_told_as_ever() {
    let (one, other) = (busy("acme", 1..=14), busy("b:zeta", 1..=14));
    let mut lines: Vec<&str> = one.lines().chain(other.lines()).collect();
    lines.sort_by_key(|line| line[1..].split(' ').next().unwrap().parse::<i64>().unwrap());
    check(
        &format!("{}\nd14 12:00 * gone\nd20 acme (nothing)", lines.join("\n")),
        expect![[r#"
        d18 09:00 b:zeta 0→55 medium raised
        d20 acme 55 medium · No login for 18 days · Usage dropped 71% → Send re-engagement email"#]],
    );
}

#[test]
fn a_failed_payment_tells_at_once_with_what_can_be_believed() {
    check(
        &format!(
            "{}d14 12:00 * gone
             d18 acme payment_failed
             d19 acme (nothing)
             d20 acme payment_succeeded
             d21 acme (nothing)",
            busy("acme", 1..=14)
        ),
        expect![[r#"
            d18 acme 0→40 medium raised
            d19 acme 95 high · No login for 17 days · Usage dropped 57% · Recent payment failure → Ask for a new payment method
            d21 acme 55 medium · No login for 19 days · Usage dropped 86% → Send re-engagement email"#]],
    );
}

#[test]
fn who_is_silent_when_events_are_back_is_told_when_that_can_be_believed() {
    check(
        &format!(
            "{}d14 12:00 * gone
             d16 12:00 * back
             d40 acme (nothing)",
            busy("acme", 1..=14)
        ),
        expect![[r#"
            d21 17:00 acme 0→55 medium raised
            d28 09:00 acme 55→30 low lowered
            d40 acme 30 low · No login for 38 days → Send re-engagement email"#]],
    );
}

#[test]
fn who_is_there_again_is_never_told() {
    check(
        &format!(
            "{}d14 12:00 * gone
             d17 12:00 * back
             d17 13:00 acme login
             {}
             d31 acme (nothing)",
            busy("acme", 1..=14),
            busy("acme", 18..=30)
        ),
        expect!["d31 acme 0 low"],
    );
}

#[test]
fn long_gone_logins_are_not_told_at_once_when_events_are_back() {
    check(
        &format!(
            "{}d14 12:00 * gone
             d24 12:00 * back
             {}
             d45 acme (nothing)",
            busy("acme", 1..=14),
            busy("acme", 25..=44)
        ),
        expect!["d45 acme 30 low · No login for 43 days → Send re-engagement email"],
    );
}

#[test]
fn a_restart_and_leaving_memory_change_nothing() {
    check(
        &format!(
            "{}d14 12:00 * gone
             d15 * evict
             d15 12:00 * restart
             d16 12:00 * back
             d17 * restart
             d18 * evict
             d40 acme (nothing)",
            busy("acme", 1..=14)
        ),
        expect![[r#"
            d21 17:00 acme 0→55 medium raised
            d28 09:00 acme 55→30 low lowered
            d40 acme 30 low · No login for 38 days → Send re-engagement email"#]],
    );
}

#[test]
fn other_rules_meanwhile_tell_nothing_either() {
    check(
        &format!(
            "{}d14 12:00 * gone
             d17 * rules strict
             d19 acme (nothing)",
            busy("acme", 1..=14)
        ),
        expect!["d19 acme 55 medium · No login for 17 days · Usage dropped 57% → Send re-engagement email"],
    );
}

#[test]
fn what_was_true_before_stays_told_and_its_end_is_told() {
    check(
        "d1 acme login x20
         d2 acme billing_page_view
         d9 acme page_view
         d10 acme support negative
         d15 12:00 * gone
         d15 13:00 acme (nothing)
         d16 acme login
         d17 acme (nothing)",
        expect![[r#"
            d8 acme 0→45 medium raised
            d9 00:00:00.001 acme 45→25 low lowered
            d10 acme 25→40 medium raised
            d15 acme 40→15 low lowered
            d15 00:00:00.001 acme 15→45 medium raised
            d15 13:00 acme 45 medium · No login for 14 days · Negative support interaction → Send re-engagement email
            d16 acme 45→15 low lowered
            d17 acme 15 low · Negative support interaction → Escalate to customer success"#]],
    );
}

#[test]
fn a_customer_who_comes_back_to_life_meanwhile_is_told_of() {
    check(
        &format!(
            "{}d10 acme sub s1 active 49usd
             d11 acme sub s1 canceled
             d14 12:00 * gone
             d19 acme sub s2 active 49usd
             d20 acme (nothing)",
            busy("acme", 1..=9)
        ),
        expect![[r#"
            d11 acme 0→100 high churned
            d19 acme 100→0 low recovered
            d20 acme 55 medium · No login for 18 days · Usage dropped 100% → Send re-engagement email"#]],
    );
}
