//! The default rules' five factors, recomputed from a customer's whole history.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::instant::{self, DAY, HOUR};

/// One line of what `churnd score` prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Line {
    pub(crate) customer_id: String,
    pub(crate) score: u8,
    pub(crate) level: String,
    pub(crate) factors: Vec<String>,
}

/// The numbers of the default rules.
#[derive(Clone, Debug)]
pub(crate) struct Parameters {
    /// Milliseconds without a login that are still all right, and the points for more.
    pub(crate) login: (i64, i64),
    /// Hours of each of the two windows, the percentage that is still all right, and the points for more.
    pub(crate) usage_hours: i64,
    pub(crate) usage_drop: (i64, i64),
    /// Milliseconds for which the event counts, and its points.
    pub(crate) billing: (i64, i64),
    pub(crate) support: (i64, i64),
    pub(crate) payment: (i64, i64),
    /// From which score on a level holds.
    pub(crate) medium: i64,
    pub(crate) high: i64,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            login: (14 * DAY, 30),
            usage_hours: 168,
            usage_drop: (50, 25),
            billing: (7 * DAY, 20),
            support: (30 * DAY, 15),
            payment: (30 * DAY, 40),
            medium: 40,
            high: 70,
        }
    }
}

/// One event as the model sees it.
#[derive(Clone, Debug)]
pub(crate) struct Past {
    pub(crate) name: String,
    pub(crate) at: i64,
    pub(crate) sentiment: Option<String>,
}

/// Scores each customer of a file, sorted by id.
pub(crate) fn score_file(file: &str, as_of: i64, parameters: &Parameters) -> Vec<Line> {
    let histories = histories(file);
    histories.iter().map(|(customer, history)| score(customer, history, as_of, parameters)).collect()
}

/// The events of each customer, repeats left out.
pub(crate) fn histories(file: &str) -> BTreeMap<String, Vec<Past>> {
    let mut seen = HashSet::new();
    let mut histories: BTreeMap<String, Vec<Past>> = BTreeMap::new();
    for line in file.lines().filter(|line| !line.trim().is_empty()) {
        let event: Value = serde_json::from_str(line).expect("each line is JSON");
        let customer = event["customerId"].as_str().expect("each event has a customer").to_owned();
        let history = histories.entry(customer.clone()).or_default();
        if let Some(id) = event["id"].as_str()
            && !seen.insert((customer, id.to_owned()))
        {
            continue;
        }
        history.push(Past {
            name: event["event"].as_str().expect("each event has a name").to_owned(),
            at: instant::parse(event["timestamp"].as_str().expect("each event has a time")).expect("a readable time"),
            sentiment: event["properties"]["sentiment"].as_str().map(str::to_ascii_lowercase),
        });
    }
    histories
}

/// Scores one customer from all that ever happened.
pub(crate) fn score(customer: &str, history: &[Past], as_of: i64, parameters: &Parameters) -> Line {
    let history: Vec<&Past> = history.iter().filter(|event| event.at <= as_of).collect();
    let factors: Vec<(i64, String)> = [
        login_inactivity(&history, as_of, parameters),
        usage_drop(&history, as_of, parameters),
        billing_page_view(&history, as_of, parameters),
        negative_support(&history, as_of, parameters),
        payment_failed(&history, as_of, parameters),
    ]
    .into_iter()
    .flatten()
    .collect();
    let sum: i64 = factors.iter().map(|(points, _)| points).sum();
    let score = if sum > 100 { 100 } else { sum };
    Line {
        customer_id: customer.to_owned(),
        score: u8::try_from(score).expect("0 to 100"),
        level: level(score, parameters).to_owned(),
        factors: factors.into_iter().map(|(_, reason)| reason).collect(),
    }
}

/// The level that a score stands for.
pub(crate) fn level(score: i64, parameters: &Parameters) -> &'static str {
    if score >= parameters.high {
        "high"
    } else if score >= parameters.medium {
        "medium"
    } else {
        "low"
    }
}

type Factor = Option<(i64, String)>;

fn login_inactivity(history: &[&Past], as_of: i64, parameters: &Parameters) -> Factor {
    let (allowed, points) = parameters.login;
    let silence = as_of - newest(history, "login")?;
    (silence > allowed).then(|| (points, format!("No login for {} days", silence / DAY)))
}

fn usage_drop(history: &[&Past], as_of: i64, parameters: &Parameters) -> Factor {
    let mut hours: HashMap<i64, i64> = HashMap::new();
    for event in history.iter().filter(|event| is_usage(&event.name)) {
        *hours.entry(event.at.div_euclid(HOUR)).or_default() += 1;
    }
    let this_hour = as_of.div_euclid(HOUR);
    let window = parameters.usage_hours;
    let count = |from: i64, to: i64| -> i64 { (from..=to).filter_map(|hour| hours.get(&hour)).sum() };
    let current = count(this_hour - window + 1, this_hour);
    let previous = count(this_hour - 2 * window + 1, this_hour - window);
    let (allowed, points) = parameters.usage_drop;
    let lost = previous - current;
    if previous == 0 || lost * 100 <= allowed * previous {
        return None;
    }
    let (percent, rest) = (lost * 100 / previous, lost * 100 % previous);
    let rounded = if rest * 2 >= previous { percent + 1 } else { percent };
    Some((points, format!("Usage dropped {rounded}%")))
}

fn is_usage(name: &str) -> bool {
    !matches!(name, "billing_page_view" | "support_ticket" | "identify")
        && !name.starts_with("payment_")
        && !name.starts_with("subscription_")
}

fn billing_page_view(history: &[&Past], as_of: i64, parameters: &Parameters) -> Factor {
    let (counts_for, points) = parameters.billing;
    let age = as_of - newest(history, "billing_page_view")?;
    (age <= counts_for).then(|| (points, "Viewed billing page recently".to_owned()))
}

fn negative_support(history: &[&Past], as_of: i64, parameters: &Parameters) -> Factor {
    let (counts_for, points) = parameters.support;
    let known = |event: &&&Past| {
        event.name == "support_ticket"
            && matches!(event.sentiment.as_deref(), Some("negative" | "neutral" | "positive"))
    };
    let newest = history.iter().filter(known).map(|event| event.at).max()?;
    let negative =
        history.iter().filter(known).any(|event| event.at == newest && event.sentiment.as_deref() == Some("negative"));
    (negative && as_of - newest <= counts_for).then(|| (points, "Negative support interaction".to_owned()))
}

fn payment_failed(history: &[&Past], as_of: i64, parameters: &Parameters) -> Factor {
    let (counts_for, points) = parameters.payment;
    let failed = newest(history, "payment_failed")?;
    let made_good = history.iter().any(|event| event.name == "payment_succeeded" && event.at >= failed);
    (!made_good && as_of - failed <= counts_for).then(|| (points, "Recent payment failure".to_owned()))
}

fn newest(history: &[&Past], name: &str) -> Option<i64> {
    history.iter().filter(|event| event.name == name).map(|event| event.at).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-03-31T10:30:00Z";

    /// Events as `days before now` (with a shift in ms) and a name, optionally with a sentiment after a slash.
    #[track_caller]
    fn check(events: &[(f64, i64, &str)], score: u8, level: &str, factors: &[&str]) {
        let now = instant::parse(NOW).unwrap();
        let past = events.iter().map(|(days, shift, what)| {
            let (name, sentiment) = what.split_once('/').unwrap_or((what, ""));
            let sentiment = (!sentiment.is_empty()).then(|| sentiment.to_owned());
            #[expect(clippy::cast_possible_truncation, reason = "whole milliseconds of a few days")]
            let ago = (days * 86_400_000.0).round() as i64;
            Past { name: name.to_owned(), at: now - ago + shift, sentiment }
        });
        let found = super::score("c", &past.collect::<Vec<_>>(), now, &Parameters::default());
        let factors = factors.iter().map(|&reason| reason.to_owned()).collect();
        assert_eq!(found, Line { customer_id: "c".into(), score, level: level.into(), factors });
    }

    #[test]
    fn nothing_known_is_no_risk() {
        check(&[], 0, "low", &[]);
    }

    #[test]
    fn a_login_exactly_14_days_ago_is_still_all_right() {
        check(&[(14.0, 0, "login")], 0, "low", &[]);
        check(&[(14.0, -1, "login"), (0.0, 0, "x")], 30, "low", &["No login for 14 days"]);
    }

    #[test]
    fn the_days_without_login_are_whole() {
        check(&[(29.999, 0, "login")], 30, "low", &["No login for 29 days"]);
        check(&[(30.0, 0, "login")], 30, "low", &["No login for 30 days"]);
    }

    #[test]
    fn half_the_usage_is_still_all_right() {
        check(&[(8.0, 0, "a"), (8.0, 0, "a"), (1.0, 0, "a")], 0, "low", &[]);
        check(&[(8.0, 0, "a"), (8.0, 0, "a"), (9.0, 0, "a"), (1.0, 0, "a")], 25, "low", &["Usage dropped 67%"]);
    }

    #[test]
    fn a_drop_is_rounded_half_up() {
        let mut events = vec![(8.0, 0, "a"); 8];
        events.extend([(1.0, 0, "a"); 3]);
        check(&events, 25, "low", &["Usage dropped 63%"]); // 62.5
    }

    #[test]
    fn the_windows_are_168_whole_hours_and_end_with_this_one() {
        // Now is 10:30, so the current window begins at 11:00 seven days ago less an hour: 6 d 23.5 h before now.
        let edge = 7.0 - 0.5 / 24.0;
        check(&[(edge, 0, "a"), (8.0, 0, "a")], 0, "low", &[]);
        check(&[(edge, -1, "a"), (8.0, 0, "a")], 25, "low", &["Usage dropped 100%"]);
        let start = 14.0 - 0.5 / 24.0;
        check(&[(start, 0, "a")], 25, "low", &["Usage dropped 100%"]);
        check(&[(start, -1, "a")], 0, "low", &[]);
    }

    #[test]
    fn names_that_are_no_usage_do_not_count() {
        for name in ["billing_page_view", "support_ticket", "identify", "payment_x", "subscription_x"] {
            check(&[(8.5, 0, name)], 0, "low", &[]);
        }
        check(&[(8.5, 0, "payments")], 25, "low", &["Usage dropped 100%"]);
    }

    #[test]
    fn the_billing_page_counts_for_7_days_the_edge_included() {
        check(&[(7.0, 0, "billing_page_view")], 20, "low", &["Viewed billing page recently"]);
        check(&[(7.0, -1, "billing_page_view")], 0, "low", &[]);
    }

    #[test]
    fn of_two_interactions_at_once_the_negative_one_counts() {
        let reason: &[&str] = &["Negative support interaction"];
        check(&[(2.0, 0, "support_ticket/negative"), (2.0, 0, "support_ticket/positive")], 15, "low", reason);
        check(&[(2.0, 0, "support_ticket/negative"), (2.0, 1, "support_ticket/neutral")], 0, "low", &[]);
        check(&[(2.0, 0, "support_ticket/negative"), (1.0, 0, "support_ticket")], 15, "low", reason);
        check(&[(30.0, -1, "support_ticket/negative")], 0, "low", &[]);
    }

    #[test]
    fn a_payment_at_the_same_instant_makes_good() {
        let reason: &[&str] = &["Recent payment failure"];
        check(&[(3.0, 0, "payment_failed")], 40, "medium", reason);
        check(&[(3.0, 0, "payment_failed"), (3.0, 0, "payment_succeeded")], 0, "low", &[]);
        check(&[(3.0, 0, "payment_failed"), (3.0, -1, "payment_succeeded")], 40, "medium", reason);
        check(&[(30.0, 0, "payment_failed")], 40, "medium", reason);
        check(&[(30.0, -1, "payment_failed")], 0, "low", &[]);
    }

    #[test]
    fn what_comes_later_does_not_count_yet() {
        check(&[(3.0, 0, "payment_failed"), (0.0, 1, "payment_succeeded")], 40, "medium", &["Recent payment failure"]);
        check(&[(15.0, 0, "login"), (0.0, 1, "login")], 30, "low", &["No login for 15 days"]);
    }

    #[test]
    fn the_sum_stops_at_100_and_the_reasons_stand_in_the_order_of_the_rules() {
        let events = [
            (1.0, 0, "payment_failed"),
            (1.0, 0, "support_ticket/negative"),
            (1.0, 0, "billing_page_view"),
            (10.0, 0, "a"),
            (20.0, 0, "login"),
        ];
        let reasons = [
            "No login for 20 days",
            "Usage dropped 100%",
            "Viewed billing page recently",
            "Negative support interaction",
            "Recent payment failure",
        ];
        check(&events, 100, "high", &reasons);
        check(&events[..1], 40, "medium", &reasons[4..]);
        check(&[events[0], events[4]], 70, "high", &[reasons[0], reasons[4]]);
    }

    #[test]
    fn a_repeat_counts_once_and_events_without_id_count_each() {
        let line = |id: &str| {
            format!(r#"{{"customerId":"c",{id}"event":"x","timestamp":"2026-03-31T10:00:00Z","properties":{{}}}}"#)
        };
        let file = [line(r#""id":"1","#), line(r#""id":"1","#), line(""), line("")].join("\n");
        assert_eq!(histories(&file)["c"].len(), 3);
    }
}
