//! What Slack shows: blocks within its limits, and a text for where blocks are not shown.
//!
//! What customers are called and what rules say is escaped, and no text is searched for links and mentions.

use serde_json::{Value, json};

use crate::{
    notify::{
        message::{Wording, Words},
        templates::{self, for_slack},
        words::cut,
    },
    store::channels::Templates,
};

/// What Slack takes: characters of a text, of a header and of a field, blocks of a message.
const TEXT_CHARS: usize = 3_000;
const HEADER_CHARS: usize = 150;
const FIELD_CHARS: usize = 2_000;
const BLOCKS: usize = 50;
const URL_CHARS: usize = 3_000;
const ID_CHARS: usize = 255;
/// The most of a customer's reasons in a digest: all its rows must fit.
const REASONS_CHARS: usize = 160;

/// A message as Slack takes it: `text` and `blocks`.
pub(in crate::notify) fn message(templates: &Templates, wording: &Wording) -> Value {
    let subject = templates::subject(templates, wording);
    let own = templates::slack_text(templates, wording);
    let mut blocks = vec![header(&subject, &wording.key)];
    match own {
        Some(text) => blocks.extend(in_pieces(&text).into_iter().map(|piece| section(&piece))),
        None if wording.digest => blocks.extend(digest(wording)),
        None => blocks.extend(single(wording)),
    }
    let (url, label) = match wording.digest {
        true => (&wording.link, "Open the dashboard".to_owned()),
        false if wording.alert.customer.is_empty() => (&wording.alert.link, "Open the dashboard".to_owned()),
        false => (&wording.alert.link, format!("Open {}", wording.alert.customer)),
    };
    let button = button(url, &label);
    let foot = context(&format!("churnd, account {}. A score is 0 (safe) to 100 (at risk).", wording.account));
    blocks.truncate(BLOCKS - 1 - button.iter().len());
    blocks.extend(button);
    blocks.push(foot);
    json!({"text": escaped(&subject, TEXT_CHARS), "blocks": blocks})
}

fn single(wording: &Wording) -> Vec<Value> {
    let alert = &wording.alert;
    let mut blocks = Vec::new();
    if alert.kind == "anomaly" {
        blocks.push(fields(&[("Account", wording.account.clone()), ("Noticed", alert.at.clone())]));
    } else {
        let named = alert.customer != alert.customer_id;
        let customer =
            if named { format!("{} ({})", alert.customer, alert.customer_id) } else { alert.customer.clone() };
        let mut known = vec![
            ("Customer", customer),
            ("Score", format!("{} of 100, was {} ({})", alert.score, alert.previous_score, alert.change)),
            ("Level", format!("{}, was {}", alert.level, alert.previous_level)),
        ];
        if !alert.mrr.is_empty() {
            known.push(("MRR", format!("{}, at risk {}", alert.mrr, alert.mrr_at_risk)));
        }
        blocks.push(fields(&known));
    }
    blocks.extend(list("Why", &alert.reasons));
    if !alert.action.is_empty() {
        blocks.push(section(&format!("*What to do*\n{}", for_slack(&alert.action))));
    }
    blocks.extend(list("If nothing happens", &alert.forecast));
    blocks
}

fn digest(wording: &Wording) -> Vec<Value> {
    let levels = wording.levels.iter().map(|entry| format!("*{}* {}", entry.count, entry.level));
    let mut summary = levels.collect::<Vec<_>>().join(" · ");
    if !wording.mrr.is_empty() {
        summary += &format!("\nMRR {}", wording.mrr.join(", "));
        if !wording.mrr_at_risk.is_empty() {
            summary += &format!(", at risk {}", wording.mrr_at_risk.join(", "));
        }
    }
    let mut lines: Vec<String> = wording.alerts.iter().map(row).collect();
    if wording.more > 0 {
        lines.push(format!("… and {} more", wording.more));
    }
    let summary = if summary.is_empty() { None } else { Some(section(&summary)) };
    summary.into_iter().chain(in_pieces(&lines.join("\n")).iter().map(|piece| section(piece))).collect()
}

fn row(alert: &Words) -> String {
    let reasons = cut(&alert.reasons.join("; "), REASONS_CHARS);
    let reasons = if reasons.is_empty() { reasons } else { format!("\n      {}", for_slack(&reasons)) };
    if alert.kind == "anomaly" {
        return format!("• *{}*{reasons}", for_slack(&alert.headline));
    }
    let name = for_slack(&alert.customer);
    let name = if alert.link.is_empty() { name } else { format!("<{}|{name}>", alert.link) };
    let level = if alert.kind == "churned" { "churned" } else { alert.level };
    let money = if alert.mrr_at_risk.is_empty() { String::new() } else { format!(" · {} at risk", alert.mrr_at_risk) };
    format!("• *{name}* {level}, {} (was {}){money}{reasons}", alert.score, alert.previous_score)
}

fn header(text: &str, key: &str) -> Value {
    json!({
        "type": "header",
        "block_id": cut(key, ID_CHARS),
        "text": {"type": "plain_text", "text": cut(text, HEADER_CHARS), "emoji": false},
    })
}

fn section(text: &str) -> Value {
    json!({"type": "section", "text": {"type": "mrkdwn", "text": cut_escaped(text, TEXT_CHARS), "verbatim": true}})
}

fn fields(known: &[(&str, String)]) -> Value {
    let field = |(name, text): &(&str, String)| {
        let text = format!("*{name}*\n{}", for_slack(text));
        json!({"type": "mrkdwn", "text": cut_escaped(&text, FIELD_CHARS), "verbatim": true})
    };
    json!({"type": "section", "fields": known.iter().map(field).collect::<Vec<_>>()})
}

fn list(title: &str, items: &[String]) -> Option<Value> {
    let lines: Vec<String> = items.iter().map(|item| format!("• {}", for_slack(item))).collect();
    (!lines.is_empty()).then(|| section(&format!("*{title}*\n{}", lines.join("\n"))))
}

fn context(text: &str) -> Value {
    json!({"type": "context", "elements": [{"type": "mrkdwn", "text": for_slack(text), "verbatim": true}]})
}

fn button(url: &str, label: &str) -> Option<Value> {
    let possible = !url.is_empty() && url.len() <= URL_CHARS;
    possible.then(|| {
        json!({"type": "actions", "elements": [{
            "type": "button", "action_id": "open", "url": url,
            "text": {"type": "plain_text", "text": cut(label, 75), "emoji": false},
        }]})
    })
}

/// A text in pieces that a section takes, cut between lines where that is possible.
fn in_pieces(text: &str) -> Vec<String> {
    let mut pieces: Vec<String> = Vec::new();
    for line in text.lines() {
        let line = cut_escaped(line, TEXT_CHARS);
        match pieces.last_mut() {
            Some(last) if last.chars().count() + 1 + line.chars().count() <= TEXT_CHARS => {
                last.push('\n');
                *last += &line;
            }
            _ => pieces.push(line),
        }
    }
    pieces.retain(|piece| !piece.trim().is_empty());
    pieces
}

fn escaped(text: &str, most: usize) -> String {
    cut_escaped(&for_slack(text), most)
}

/// Cuts an escaped text, and not inside of what is escaped or of a link.
fn cut_escaped(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let kept: String = text.chars().take(most - 1).collect();
    let open = |begin: char, end: char| kept.rfind(begin).filter(|at| !kept[*at..].contains(end));
    let end = open('&', ';').into_iter().chain(open('<', '>')).min().unwrap_or(kept.len());
    format!("{}…", &kept[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::{
        message::{MOST_ROWS, Notice},
        sample::{self, Sample},
    };

    const URL: Option<&str> = Some("https://churn.example");

    fn of(notice: &Notice) -> Value {
        message(&Templates::default(), &Wording::of(notice, URL))
    }

    /// What Slack's documentation says of blocks.
    #[track_caller]
    fn check_limits(message: &Value) {
        let blocks = message["blocks"].as_array().unwrap();
        assert!(!blocks.is_empty() && blocks.len() <= 50, "{}", blocks.len());
        assert!(message["text"].as_str().unwrap().chars().count() <= 3_000);
        let length = |text: &Value| text["text"].as_str().map_or(1, |text| text.chars().count());
        for block in blocks {
            match block["type"].as_str().unwrap() {
                "header" => assert!((1..=150).contains(&length(&block["text"]))),
                "section" if block["fields"].is_array() => {
                    let fields = block["fields"].as_array().unwrap();
                    assert!(fields.len() <= 10 && fields.iter().all(|field| (1..=2_000).contains(&length(field))));
                }
                "section" => assert!((1..=3_000).contains(&length(&block["text"])), "{block}"),
                "context" => assert!((1..=3_000).contains(&length(&block["elements"][0]))),
                "actions" => assert!((1..=75).contains(&length(&block["elements"][0]["text"]))),
                other => panic!("unknown block {other}"),
            }
        }
    }

    #[test]
    fn all_kinds_are_within_slacks_limits() {
        sample::all().iter().for_each(|notice| check_limits(&of(notice)));
        let mut huge = sample::notice(Sample::Raised);
        let alert = &mut huge.alerts[0].alert;
        alert.factors = vec!["<&>".repeat(5_000); 100];
        alert.suggested_action = Some("<&>".repeat(5_000));
        alert.customer_id = Some("&".repeat(255));
        huge.alerts[0].company = Some("<".repeat(4_000));
        check_limits(&of(&huge));
        let one = huge.alerts[0].clone();
        let alerts = (0..500).map(|number| {
            let mut told = one.clone();
            told.alert.customer_id = Some(format!("{number}{}", "&".repeat(250)));
            told
        });
        let digest = of(&Notice { key: "k".repeat(400), alerts: alerts.collect() });
        check_limits(&digest);
        let text = digest.to_string();
        assert!(text.contains(&format!("… and {} more", 500 - MOST_ROWS)), "{text}");
        let own =
            Templates { text: format!("{}{{{{ alert.customer }}}}", "word ".repeat(5_000)), ..Templates::default() };
        check_limits(&message(&own, &Wording::of(&huge, URL)));
    }

    #[test]
    fn names_cannot_mention_or_link() {
        let mut notice = sample::notice(Sample::Raised);
        notice.alerts[0].company = Some("<!channel> <https://evil.example|Acme> & Co".to_owned());
        notice.alerts[0].alert.factors = vec!["<@U123>".to_owned()];
        let text = of(&notice).to_string();
        assert!(
            text.contains("&lt;!channel&gt;") && text.contains("&lt;@U123&gt;") && text.contains("&amp; Co"),
            "{text}"
        );
        let blocks = of(&notice);
        for block in blocks["blocks"].as_array().unwrap().iter().filter(|block| block["type"] == "section") {
            assert!(!block.to_string().contains("<!channel"), "{block}");
        }
        assert!(!blocks["text"].as_str().unwrap().contains('<'));
        assert!(
            of(&sample::notice(Sample::Digest))
                .to_string()
                .contains("<https://churn.example/dashboard/customers/c-17|Example Ltd>")
        );
    }

    #[test]
    fn the_key_and_the_link_are_there() {
        let message = of(&sample::notice(Sample::Raised));
        assert_eq!(message["blocks"][0]["block_id"], sample::notice(Sample::Raised).key);
        assert!(message.to_string().contains(r#""url":"https://churn.example/dashboard/customers/c-17""#));
        let without = super::message(&Templates::default(), &Wording::of(&sample::notice(Sample::Raised), None));
        assert!(!without.to_string().contains("\"url\""));
    }

    #[test]
    fn nothing_escaped_is_cut_in_the_middle() {
        assert_eq!(cut_escaped("ab&amp;cd", 6), "ab…");
        assert_eq!(cut_escaped("ab&amp;cd", 8), "ab&amp;…");
        assert_eq!(cut_escaped("ab&amp;cd", 9), "ab&amp;cd");
        assert_eq!(cut_escaped("ab<https://x|y>", 10), "ab…");
    }
}
