//! What is sent and what waits, a scenario a line, and that nothing is ever forgotten.

use proptest::prelude::*;

use super::*;
use crate::store::channels::QuietHours;

/// Noon in UTC, from which minutes are counted.
const NOON: &str = "2026-11-23T12:00:00Z";

fn noon() -> Timestamp {
    NOON.parse().unwrap()
}

fn minutes(minutes: i64) -> Timestamp {
    noon().plus_millis(minutes * 60_000)
}

/// `hour=3 customer=1 digest=5 quiet=20:00-08:00`; what is absent is unlimited.
fn settings(text: &str) -> Settings {
    let mut settings = Settings { digest_after: None, ..Settings::default() };
    for (name, value) in text.split_whitespace().map(|word| word.split_once('=').unwrap()) {
        match name {
            "hour" => settings.per_hour = value.parse().ok(),
            "customer" => settings.per_customer_per_hour = value.parse().ok(),
            "digest" => settings.digest_after = value.parse().ok(),
            "quiet" => {
                let (from, to) = value.split_once('-').unwrap();
                let zone = "UTC".to_owned();
                settings.quiet_hours = Some(QuietHours { from: from.to_owned(), to: to.to_owned(), zone });
            }
            other => panic!("{other}"),
        }
    }
    settings
}

/// Alerts in the order they came: `acme`, `-` about nobody, `!` a test; `acme=k` was tried under a key, `acme=k@30` is tried
/// again in 30 minutes.
fn waiting(text: &str) -> Vec<WaitingRow> {
    let read = |(index, word): (usize, &str)| {
        let (word, at) = word.split_once('@').map_or((word, 0), |(word, at)| (word, at.parse().unwrap()));
        let (token, key) = word.split_once('=').map_or((word, None), |(token, key)| (token, Some(key.to_owned())));
        let is_test = token == "!";
        let token = (!matches!(token, "!" | "-")).then(|| token.into());
        WaitingRow {
            id: index as u64 + 1,
            alert_id: String::new(),
            token,
            key,
            is_test,
            next_attempt_at: minutes(at),
            held: None,
        }
    };
    text.split_whitespace().enumerate().map(read).collect()
}

/// Messages with how many minutes ago they were sent: `acme@50 acme,other@10`.
fn sent(text: &str) -> Vec<SentMessage> {
    let read = |word: &str| {
        let (tokens, ago) = word.split_once('@').unwrap();
        let tokens = tokens.split(',').map(str::to_owned).collect();
        SentMessage { at: minutes(-ago.parse::<i64>().unwrap()), tokens }
    };
    text.split_whitespace().map(read).collect()
}

fn row_of(rows: &[WaitingRow], id: u64) -> &WaitingRow {
    rows.iter().find(|row| row.id == id).unwrap()
}

fn shown(plan: &Plan) -> String {
    let list = |rows: &[u64]| rows.iter().map(u64::to_string).collect::<Vec<_>>().join(" ");
    let send = plan.send.iter().map(|message| match &message.key {
        Some(key) => format!("{}={key}", list(&message.rows)),
        None => list(&message.rows),
    });
    let hold = plan.hold.iter().map(|hold| {
        let minutes = hold.until.millis_since(noon()) / 60_000;
        format!("{} wait {minutes} min for {}", list(&hold.rows), hold.reason.as_str())
    });
    send.chain(hold).collect::<Vec<_>>().join(" · ")
}

#[track_caller]
fn check(of: &str, waits: &str, was_sent: &str, expected: &str) {
    assert_eq!(shown(&plan(&settings(of), &waiting(waits), &sent(was_sent), noon())), expected);
}

#[test]
fn without_settings_each_alert_is_a_message() {
    check("", "", "", "");
    check("", "a", "", "1");
    check("", "a b a - !", "a@1 b@1", "5 · 1 · 2 · 3 · 4");
}

#[test]
fn many_at_once_are_one_message() {
    check("digest=3", "a b", "", "1 · 2");
    check("digest=3", "a b c", "", "1 2 3");
    check("digest=3", "a a a !", "", "4 · 1 2 3");
    check("digest=3", "a=k b c d", "", "1=k · 2 3 4");
    let all = (1..=250).map(|_| "x").collect::<Vec<_>>().join(" ");
    let sizes: Vec<usize> =
        plan(&settings("digest=3"), &waiting(&all), &[], noon()).send.iter().map(|one| one.rows.len()).collect();
    assert_eq!(sizes, [100, 100, 50]);
}

#[test]
fn what_is_over_the_limit_of_an_hour_waits_and_is_then_one_message() {
    check("hour=2", "a b", "", "1 · 2");
    check("hour=2", "a b c", "", "1 2 3");
    check("hour=2", "a", "x@50", "1");
    check("hour=2", "a b", "x@50", "1 2");
    check("hour=2", "a b", "x@50 y@20", "1 2 wait 10 min for limit");
    check("hour=2", "a b", "w@55 x@50 y@20", "1 2 wait 10 min for limit");
    check("hour=1 digest=9", "a b !", "x@59", "3 · 1 2 wait 1 min for limit");
}

#[test]
fn what_is_over_the_limit_of_a_customer_waits_and_is_then_one_message() {
    check("customer=1", "a b", "", "1 · 2");
    check("customer=1", "a a b", "", "1 2 · 3");
    check("customer=1", "a b", "a@40", "2 · 1 wait 20 min for limit");
    check("customer=2", "a a b", "a@40", "1 2 · 3");
    check("customer=2", "a b b b", "a@40 a@10", "2 3 4 · 1 wait 20 min for limit");
    check("customer=1", "- - -", "", "1 · 2 · 3");
    check("customer=1 digest=3", "a b c", "a@40", "1 2 3");
    check("customer=1 hour=3", "a b c", "a@40", "2 · 3 · 1 wait 20 min for limit");
    check("customer=1", "a", "a,b@40", "1 wait 20 min for limit");
}

#[test]
fn nothing_is_sent_in_quiet_hours_but_tests() {
    check("quiet=11:00-13:00", "a b=k ! ", "", "3 · 1 2 wait 60 min for quiet_hours");
    check("quiet=11:00-12:00", "a b", "", "1 · 2");
    check("quiet=13:00-14:00", "a", "", "1");
    check("quiet=20:00-19:00 digest=2", "a b", "", "1 2 wait 420 min for quiet_hours");
}

#[test]
fn a_message_that_was_tried_stays_what_it_was() {
    check("digest=2", "a=k b=k c=l", "", "1 2=k · 3=l");
    check("", "a=k@30", "", "");
    check("", "b=l a=k", "", "1=l · 2=k");
    check("hour=1", "a=k b", "", "1=k · 2 wait 0 min for limit");
    check("hour=1", "a=k", "x@45", "1 wait 15 min for limit");
}

#[test]
fn later_alerts_about_a_customer_wait_behind_those_that_were_tried() {
    check("", "a=k@30 a b", "", "3 · 2 wait 30 min for retry");
    check("", "a=k a b", "", "1=k · 3");
    check("digest=2", "a=k@30 b=k@30 b a c", "", "5 · 3 4 wait 30 min for retry");
    check("digest=2", "a=k@30 a b c", "", "3 4 · 2 wait 30 min for retry");
}

#[test]
fn what_waits_as_it_should_is_not_written_again() {
    let mut rows = waiting("a@10 b");
    rows[0].held = Some(HeldReason::Limit);
    let found = plan(&settings("hour=1"), &rows, &sent("x@50"), noon());
    assert_eq!(shown(&found), "2 wait 10 min for limit");
}

proptest! {
    /// Each alert is sent, or waits for an instant to come; none twice; none before an earlier one about its customer.
    #[test]
    fn every_alert_is_sent_or_waits_and_customers_keep_their_order(
        hour in prop::option::of(1..5_u32), customer in prop::option::of(1..3_u32), digest in prop::option::of(2..8_u32),
        words in prop::collection::vec((prop::sample::select(vec!["a", "b", "c", "-", "!"]), 0..4_u8, 0..3_i64), 0..24),
        lately in prop::collection::vec((prop::sample::select(vec!["a", "b", "c"]), 1..60_i64), 0..6),
    ) {
        let settings =
            Settings { per_hour: hour, per_customer_per_hour: customer, digest_after: digest, ..settings("") };
        // Keys of singles; rows that were tried come before those that were not, as they do.
        let mut rows: Vec<WaitingRow> = Vec::new();
        for (index, (token, tried, later)) in words.iter().enumerate() {
            let key = (*tried == 0 && !rows.iter().any(|row| row.key.is_none())).then(|| format!("k{index}"));
            let text = key.map_or((*token).to_owned(), |key| format!("{token}={key}@{later}"));
            rows.push(WaitingRow { id: index as u64, ..waiting(&text).remove(0) });
        }
        let mut lately: Vec<SentMessage> =
            lately.iter().flat_map(|(token, ago)| sent(&format!("{token}@{ago}"))).collect();
        lately.sort_by_key(|sent| sent.at);
        let found = plan(&settings, &rows, &lately, noon());
        let sent: Vec<u64> = found.send.iter().flat_map(|message| message.rows.clone()).collect();
        let held: Vec<u64> = found.hold.iter().flat_map(|hold| hold.rows.clone()).collect();
        prop_assert!(found.hold.iter().all(|hold| hold.until > noon()));
        for row in &rows {
            let times = sent.iter().chain(&held).filter(|id| **id == row.id).count();
            let (tries_later, is_behind) = (row.key.is_some() && row.next_attempt_at > noon(), row.token.is_some());
            prop_assert!(times == 1 || (times == 0 && (tries_later || is_behind)), "{:?}: {}", row, shown(&found));
            if times == 0 && !tries_later {
                // It waits behind a message that is sent now.
                let before = rows.iter().any(|other| other.token == row.token && sent.contains(&other.id) && other.id < row.id);
                prop_assert!(before, "{:?} is forgotten: {}", row, shown(&found));
            }
        }
        for token in ["a", "b", "c"] {
            let of = |ids: &[u64]| ids.iter().copied().filter(|id| row_of(&rows, *id).token.as_deref() == Some(token)).collect::<Vec<_>>();
            prop_assert!(of(&sent).is_sorted());
            let waits: Vec<u64> = rows.iter().map(|row| row.id).filter(|id| !sent.contains(id)).collect();
            let (last_sent, first_waiting) = (of(&sent).last().copied(), of(&waits).first().copied());
            // But for digests, which take along what waits for its limit; nothing goes past what was tried.
            let tried = |id: u64| row_of(&rows, id).key.is_some();
            if let (Some(last), Some(first)) = (last_sent, first_waiting) {
                prop_assert!(last < first || !tried(first) || tried(last), "{}", shown(&found));
            }
        }
        let messages = found.send.iter().filter(|message| !row_of(&rows, message.rows[0]).is_test).count();
        if let Some(most) = hour {
            prop_assert!(messages + lately.len().min(most as usize) <= most as usize || messages == 0, "{}", shown(&found));
        }
    }
}
