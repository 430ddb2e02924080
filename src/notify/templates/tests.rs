//! What each kind of message says, and which templates are refused.

use expect_test::{Expect, expect};

use super::*;
use crate::notify::{
    message::{MOST_ROWS, Told},
    sample::Sample,
};

const URL: Option<&str> = Some("https://churn.example/");

fn texts(sample: Sample) -> Texts {
    render(&Templates::default(), &Wording::of(&sample::notice(sample), URL))
}

#[track_caller]
fn check(sample: Sample, expected: Expect) {
    let Texts { subject, text, .. } = texts(sample);
    expected.assert_eq(&format!("{subject}\n====\n{text}"));
}

#[test]
fn a_raised_risk_is_told_with_all_that_helps() {
    check(
        Sample::Raised,
        expect![[r#"
        High churn risk: Example Ltd, score 85 (was 40), 1,200.00 EUR a month
        ====
        High churn risk: Example Ltd, score 85 (was 40), 1,200.00 EUR a month

        Customer: Example Ltd (c-17)
        Score: 85 of 100, was 40 (+45)
        Level: high, was medium
        MRR: 1,200.00 EUR, at risk: 1,020.00 EUR

        Why:
        - Recent payment failure
        - No login for 15 days
        - Negative support interaction

        What to do: Ask for a new payment method

        If nothing happens:
        - silent until 3 December → medium (score 55)
        - silent until 2 January 2027 → low (score 30)

        https://churn.example/dashboard/customers/c-17

        --
        churnd, account demo. A score is 0 (safe) to 100 (at risk)."#]],
    );
}

#[test]
fn a_lowered_risk_is_told() {
    check(
        Sample::Lowered,
        expect![[r#"
        Risk fell to low: c-18, score 30 (was 70)
        ====
        Risk fell to low: c-18, score 30 (was 70)

        Customer: c-18
        Score: 30 of 100, was 70 (-40)
        Level: low, was high
        MRR: 49.00 USD, at risk: 14.70 USD

        Why:
        - No login for 20 days

        What to do: Send re-engagement email

        https://churn.example/dashboard/customers/c-18

        --
        churnd, account demo. A score is 0 (safe) to 100 (at risk)."#]],
    );
}

#[test]
fn who_left_is_told() {
    check(
        Sample::Churned,
        expect![[r#"
        Churned: Sample & Sons
        ====
        Churned: Sample & Sons

        Customer: Sample & Sons (c-19)
        Score: 100 of 100, was 80 (+20)
        Level: high, was high

        What to do: Ask why, and offer a way back

        https://churn.example/dashboard/customers/c-19

        --
        churnd, account demo. A score is 0 (safe) to 100 (at risk)."#]],
    );
}

#[test]
fn who_came_back_is_told() {
    check(
        Sample::Recovered,
        expect![[r#"
        Back again: c-20, score 0 (low)
        ====
        Back again: c-20, score 0 (low)

        Customer: c-20
        Score: 0 of 100, was 100 (-100)
        Level: low, was high
        MRR: 99.00 USD, at risk: 0.00 USD

        If nothing happens:
        - silent until 3 December → medium (score 40)

        https://churn.example/dashboard/customers/c-20

        --
        churnd, account demo. A score is 0 (safe) to 100 (at risk)."#]],
    );
}

#[test]
fn missing_events_are_told_with_what_to_check() {
    check(
        Sample::Anomaly,
        expect![[r#"
            Tracking may be broken: events of account demo are missing
            ====
            Tracking may be broken: events of account demo are missing

            Account: demo
            Noticed: 22 November 2026, 14:09 UTC

            Why:
            - Events fell to 0 in the last 60 minutes, usually about 1,200: tracking may be broken

            What to do: Check whether tracking still sends events; alerts about missing logins and usage are held back until it does

            https://churn.example/dashboard

            --
            churnd, account demo. A score is 0 (safe) to 100 (at risk)."#]],
    );
}

#[test]
fn events_that_are_back_are_no_alarm() {
    let mut notice = sample::notice(Sample::Anomaly);
    let alert = &mut notice.alerts[0].alert;
    (alert.level, alert.suggested_action) = (crate::engine::checkpoint::Level::Low, None);
    alert.factors = vec!["Events are back: 900 in the last 60 minutes, usually about 1,200".to_owned()];
    let texts = render(&Templates::default(), &Wording::of(&notice, None));
    assert_eq!(texts.subject, "Events are back: tracking of account demo works again");
    assert!(!texts.text.contains("What to do"), "{}", texts.text);
}

#[test]
fn a_digest_lists_customers_by_what_is_at_risk() {
    check(
        Sample::Digest,
        expect![[r#"
            5 changes: 1 churned, 1 at high risk (1,020.00 EUR, 14.70 USD a month at risk)
            ====
            5 changes: 1 churned, 1 at high risk (1,020.00 EUR, 14.70 USD a month at risk)

            churned: 1
            high: 1
            low: 2
            MRR: 1,200.00 EUR, 148.00 USD, at risk: 1,020.00 EUR, 14.70 USD

            * Tracking may be broken: events of account demo are missing
              Events fell to 0 in the last 60 minutes, usually about 1,200: tracking may be broken
              To do: Check whether tracking still sends events; alerts about missing logins and usage are held back until it does
              https://churn.example/dashboard
            * High churn risk: Example Ltd, score 85 (was 40), 1,200.00 EUR a month
              Recent payment failure; No login for 15 days; Negative support interaction
              To do: Ask for a new payment method
              https://churn.example/dashboard/customers/c-17
            * Risk fell to low: c-18, score 30 (was 70)
              No login for 20 days
              To do: Send re-engagement email
              https://churn.example/dashboard/customers/c-18
            * Churned: Sample & Sons
              To do: Ask why, and offer a way back
              https://churn.example/dashboard/customers/c-19
            * Back again: c-20, score 0 (low)
              https://churn.example/dashboard/customers/c-20

            --
            churnd, account demo. A score is 0 (safe) to 100 (at risk)."#]],
    );
}

#[test]
fn without_an_address_there_are_no_links() {
    for notice in sample::all() {
        let Texts { text, html, .. } = render(&Templates::default(), &Wording::of(&notice, None));
        assert!(!text.contains("://") && !html.contains("href"), "{text}\n{html}");
        let linked = render(&Templates::default(), &Wording::of(&notice, URL));
        assert!(linked.text.contains("https://churn.example/dashboard"), "{}", linked.text);
        assert!(linked.html.contains(r#"href="https:&#x2f;&#x2f;churn.example&#x2f;dashboard"#), "{}", linked.html);
    }
}

#[test]
fn mail_loads_nothing_and_what_customers_are_called_is_no_html() {
    let mut notice = sample::notice(Sample::Raised);
    notice.alerts[0].company = Some("<img src=https://evil.example/x onerror='a()'>".to_owned());
    notice.alerts[0].alert.customer_id = Some("\"><script>&".to_owned());
    notice.alerts[0].alert.factors = vec!["</td><b>".to_owned()];
    let mut digest = sample::notice(Sample::Digest);
    digest.alerts.push(notice.alerts[0].clone());
    for notice in [notice, digest] {
        let html = render(&Templates::default(), &Wording::of(&notice, URL)).html;
        for never in ["<img", "<script", "</td><b>", "onerror='", "url(", "@import", "<link", " src="] {
            assert!(!html.replace("&lt;img src=", "").contains(never), "{never} in {html}");
        }
        assert!(html.contains("prefers-color-scheme: dark") && html.contains("&lt;img"), "{html}");
    }
}

#[test]
fn a_digest_has_an_end_and_one_row_for_each_customer() {
    let one = sample::notice(Sample::Raised).alerts.remove(0);
    let alerts: Vec<Told> = (0..MOST_ROWS + 37)
        .flat_map(|number| {
            let mut raised = one.clone();
            raised.alert.customer_id = Some(format!("c-{number:03}"));
            raised.company = None;
            let mut lowered = raised.clone();
            (lowered.alert.level, lowered.alert.score) = (crate::engine::checkpoint::Level::Low, 10);
            lowered.alert.at = raised.alert.at.plus_millis(1_000);
            [lowered, raised]
        })
        .collect();
    let wording = Wording::of(&Notice { key: "digest-1".to_owned(), alerts }, URL);
    assert_eq!((wording.count, wording.alerts.len(), wording.more), (MOST_ROWS + 37, MOST_ROWS, 37));
    let first = &wording.alerts[0];
    assert_eq!(
        (first.customer.as_str(), first.score, first.previous_score, first.change.as_str()),
        ("c-000", 10, 40, "-30")
    );
    let Texts { subject, text, html } = render(&Templates::default(), &wording);
    assert!(text.contains("… and 37 more") && html.contains("and 37 more"), "{text}");
    assert_eq!(subject, "77 changes: 77 at low risk (9,240.00 EUR a month at risk)");
}

#[test]
fn a_channel_s_own_templates_are_used() {
    let templates = Templates {
        subject: "{{ alert.customer }}\r\nBcc: all@example.com".to_owned(),
        text:
            "{{ alert.customer }} *is* at {{ alert.score }}{% for reason in alert.reasons %}, {{ reason }}{% endfor %}"
                .to_owned(),
        html: Some("<p>{{ alert.customer }}</p>".to_owned()),
    };
    assert_eq!(problems(&templates), Vec::<String>::new());
    let mut notice = sample::notice(Sample::Raised);
    notice.alerts[0].company = Some("<A&B>".to_owned());
    let wording = Wording::of(&notice, URL);
    let texts = render(&templates, &wording);
    assert_eq!(texts.subject, "<A&B>  Bcc: all@example.com");
    assert_eq!(texts.html, "<p>&lt;A&amp;B&gt;</p>");
    let slack = slack_text(&templates, &wording).unwrap();
    assert!(slack.starts_with("&lt;A&amp;B&gt; *is* at 85, Recent payment failure"), "{slack}");
    assert_eq!(slack_text(&Templates::default(), &wording), None);
}

#[test]
fn templates_that_cannot_be_used_are_refused_with_field_and_line() {
    let told = |text: &str| problems(&Templates { text: text.to_owned(), ..Templates::default() }).join("; ");
    for (text, expected) in [
        ("hi\n{{ alert.custmer }}", "line 2: there is no such field: "),
        ("{{ nobody }}", "line 1: there is no such field"),
        ("{% if alert.score > 3 %}\n\nx", "line 2: unexpected end of input"),
        ("{{ alert.score|nope }}", "line 1: filter nope is unknown"),
        ("{{ alert.customer|safe }}", "line 1: filter safe is unknown"),
        ("{% include 'x' %}", "line 1: "),
        ("{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}", "it computes too much"),
        ("{{ 'x' * 100000000 }}", "it computes too much"),
    ] {
        let problem = told(text);
        assert!(
            problem.starts_with("the template of the text cannot be used: ") && problem.contains(expected),
            "{text}: {problem}"
        );
    }
    assert!(told("{{ alert.custmer }}").contains("custmer"), "{}", told("{{ alert.custmer }}"));
    assert!(told(&"x".repeat(40_000)).contains("has 40000 bytes"));
    let html = Templates { html: Some("{{ no.thing }}".to_owned()), ..Templates::default() };
    assert!(problems(&html)[0].starts_with("the template of the html cannot be used: line 1"));
}

#[test]
fn an_own_template_that_fails_does_not_keep_the_alert_back() {
    let broken = Templates {
        subject: "{{ 1 / 0 }}".to_owned(),
        text: "{{ (".to_owned(),
        html: Some("{{ 'x' * 100000000 }}".to_owned()),
    };
    let wording = Wording::of(&sample::notice(Sample::Raised), URL);
    assert_eq!(render(&broken, &wording), render(&Templates::default(), &wording));
}
