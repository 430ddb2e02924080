//! Messages to Slack, mailboxes and webhooks: what arrives, and what becomes of each way in which it does not.

use std::{process::Stdio, sync::Arc};

use churnd::{
    config::{Config, Sources},
    event::time::Timestamp,
    notify::{
        message::Notice,
        sample::{self, Sample},
        send::{Failure, Receipt},
        sender::Sender,
    },
    store::channels::{Target, Templates},
};
use data_encoding::BASE64;
use secrecy::SecretString;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use crate::support::{
    Scratch,
    mailbox::{Mailbox, Manners, Oddity, PASSWORD, USER},
    receivers::{Behavior, Receiver},
};

const NOW: i64 = 1_795_000_000;

/// A sender with these settings, patient for a second.
#[track_caller]
fn sender(settings: &[(&str, &str)]) -> Sender {
    let known =
        [("CHURND__SENDING__TIMEOUT_SECONDS", "1"), ("CHURND__SENDING__MAIL_FROM", "Alerts <alerts@example.com>")];
    let environment =
        known.iter().chain(settings).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let config = Config::load(&Sources { environment, ..Sources::default() }).unwrap_or_else(|error| panic!("{error}"));
    Sender::new(config.sender(), Arc::new(|| Timestamp::from_seconds(NOW))).unwrap()
}

async fn send(sender: &Sender, target: &Target) -> Result<Receipt, Failure> {
    sender.send(target, &Templates::default(), &sample::notice(Sample::Raised), None).await
}

/// `ok`, or what is to be done about a failure and when.
fn outcome(result: &Result<Receipt, Failure>) -> String {
    match result {
        Ok(_) => "ok".to_owned(),
        Err(Failure::Again { after: None, .. }) => "again".to_owned(),
        Err(Failure::Again { after: Some(after), .. }) => format!("again {}", after.as_secs()),
        Err(Failure::Refused { .. }) => "refused".to_owned(),
        Err(Failure::Gone { .. }) => "gone".to_owned(),
    }
}

fn secret() -> SecretString {
    format!("whsec_{}", BASE64.encode(&[42; 32])).into()
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_are_signed_and_each_answer_has_its_meaning() {
    let receiver = Receiver::start([Behavior::says(204, "")]).await;
    let sender = sender(&[("CHURND__SENDING__INTERNAL_RECEIVERS", &receiver.host())]);
    let target = Target::Webhook { url: format!("{}/hook?a=b", receiver.url()).into(), secrets: vec![secret()] };
    let says = |status| Behavior::says(status, "");
    for (behavior, expected) in [
        (says(200), "ok"),
        (says(202), "ok"),
        (says(204), "ok"),
        (says(301), "again"),
        (says(302), "again"),
        (says(308), "again"),
        (says(400), "again"),
        (says(401), "again"),
        (says(403), "again"),
        (says(404), "again"),
        (says(410), "gone"),
        (says(413), "refused"),
        (Behavior::Answer(429, "retry-after: 17\r\n", String::new()), "again 17"),
        (Behavior::Answer(429, "retry-after: Wed, 18 Nov 2026 11:07:40 GMT\r\n", String::new()), "again 60"),
        (Behavior::Answer(429, "retry-after: Wed, 18 Nov 2020 11:07:40 GMT\r\n", String::new()), "again 0"),
        (Behavior::Answer(429, "retry-after: 99999999999\r\n", String::new()), "again 86400"),
        (Behavior::Answer(429, "retry-after: soon\r\n", String::new()), "again"),
        (says(500), "again"),
        (Behavior::Answer(503, "retry-after: 5\r\n", String::new()), "again 5"),
        (Behavior::says(200, "x".repeat(100_000)), "again"),
        (Behavior::Hang, "again"),
        (Behavior::Cut, "again"),
        (Behavior::Close, "again"),
    ] {
        receiver.behave([behavior.clone()]);
        let result = send(&sender, &target).await;
        assert_eq!(outcome(&result), expected, "{behavior:?}: {result:?}");
        assert!(!format!("{result:?}").contains("a=b"), "{result:?}");
    }
    let request = receiver.last();
    assert_eq!(request.line, "POST /hook?a=b");
    assert_eq!(request.header("webhook-id"), sample::notice(Sample::Raised).key);
    assert_eq!(request.header("webhook-timestamp"), NOW.to_string());
    assert_eq!(request.header("content-type"), "application/json");
    let body = request.json();
    assert_eq!((&body["type"], &body["customerId"]), (&json!("io.churnd.alert.v1"), &json!("c-17")));
    for (url, secrets) in [
        ("http://127.0.0.1:1/", vec![secret()]),
        ("https://10.0.0.1/", vec![secret()]),
        ("https://localhost/", vec![secret()]),
        ("nonsense", vec![secret()]),
        ("https://example.com/", Vec::new()),
        ("https://example.com/", vec!["whsec_short".into()]),
    ] {
        let result = send(&sender, &Target::Webhook { url: url.into(), secrets }).await;
        assert_eq!(outcome(&result), "gone", "{url}: {result:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reference_package_accepts_signatures_of_old_and_new_secrets() {
    let receiver = Receiver::start([Behavior::says(200, "")]).await;
    let sender = sender(&[("CHURND__SENDING__INTERNAL_RECEIVERS", &receiver.host())]);
    let new: SecretString = format!("whsec_{}", BASE64.encode(&[43; 24])).into();
    let target = Target::Webhook { url: receiver.url().into(), secrets: vec![new, secret()] };
    assert_eq!(outcome(&send(&sender, &target).await), "ok");
    let digest = sample::notice(Sample::Digest);
    let sent = sender.send(&target, &Templates::default(), &digest, None).await;
    assert_eq!(outcome(&sent), "ok");
    let requests: Vec<_> = receiver.requests().iter().map(|request| {
        json!({"headers": request.headers.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(), "body": request.body})
    }).collect();
    let told = json!({
        "requests": requests,
        "secrets": [format!("whsec_{}", BASE64.encode(&[43; 24])), format!("whsec_{}", BASE64.encode(&[42; 32]))],
        "now": NOW,
    });
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let node = root.join(".tools/bin/node");
    assert!(node.exists(), "{} is missing: run scripts/tools --clients", node.display());
    let mut child = tokio::process::Command::new(node)
        .arg(root.join("tests/clients/standard_webhooks.mjs"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(told.to_string().as_bytes()).await.unwrap();
    let output = child.wait_with_output().await.unwrap();
    assert!(output.status.success(), "the package refuses a signature");
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), r#"{"verified":4,"refused":4}"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_word_of_slacks_incoming_webhooks_has_its_meaning() {
    let slack = Receiver::start([Behavior::says(200, "ok")]).await;
    let sender = sender(&[("CHURND__SLACK__HOOKS_URL", &slack.url())]);
    let target = Target::SlackWebhook { url: format!("{}/services/T0/B0/quetzal", slack.url()).into() };
    for (behavior, expected) in [
        (Behavior::says(200, "ok"), "ok"),
        (Behavior::says(200, "<html>"), "again"),
        (Behavior::says(400, "invalid_payload"), "refused"),
        (Behavior::says(400, "invalid_blocks"), "refused"),
        (Behavior::says(400, "user_not_found"), "gone"),
        (Behavior::says(403, "action_prohibited"), "gone"),
        (Behavior::says(403, "invalid_token"), "gone"),
        (Behavior::says(404, "no_service"), "gone"),
        (Behavior::says(404, "channel_not_found"), "gone"),
        (Behavior::says(410, "channel_is_archived"), "gone"),
        (Behavior::Answer(429, "retry-after: 30\r\n", "rate_limited".to_owned()), "again 30"),
        (Behavior::says(500, "rollup_error"), "again"),
        (Behavior::says(302, ""), "again"),
        (Behavior::Hang, "again"),
        (Behavior::Cut, "again"),
        (Behavior::Close, "again"),
    ] {
        slack.behave([behavior.clone()]);
        let result = send(&sender, &target).await;
        assert_eq!(outcome(&result), expected, "{behavior:?}: {result:?}");
        assert!(!format!("{result:?}").contains("quetzal"), "{result:?}");
    }
    let body = slack.last().json();
    assert_eq!(body["text"], "High churn risk: Example Ltd, score 85 (was 40), 1,200.00 EUR a month");
    assert_eq!(body["blocks"][0]["block_id"], sample::notice(Sample::Raised).key);
    let before = slack.requests().len();
    for other in
        ["http://127.0.0.1:1/services/x", "https://hooks.slack.com.evil.example/", "https://hooks.slack.com/services/x"]
    {
        assert_eq!(outcome(&send(&sender, &Target::SlackWebhook { url: other.into() }).await), "gone", "{other}");
    }
    assert_eq!(slack.requests().len(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_error_of_slacks_api_has_its_meaning() {
    let slack = Receiver::start([Behavior::says(200, "")]).await;
    let sender = sender(&[("CHURND__SLACK__API_URL", &format!("{}/api", slack.url()))]);
    let target = Target::SlackApp { token: "xoxb-quetzal".into(), channel: "C1".to_owned() };
    let error = |code: &str| Behavior::says(200, json!({"ok": false, "error": code}).to_string());
    let posted = || Behavior::says(200, r#"{"ok":true,"channel":"C1","ts":"1503435956.000247"}"#);
    for (behavior, expected) in [
        (posted(), "ok"),
        (error("ratelimited"), "again"),
        (Behavior::Answer(200, "retry-after: 3\r\n", r#"{"ok":false,"error":"ratelimited"}"#.to_owned()), "again 3"),
        (Behavior::Answer(429, "retry-after: 30\r\n", r#"{"ok":false,"error":"ratelimited"}"#.to_owned()), "again 30"),
        (error("channel_not_found"), "gone"),
        (error("is_archived"), "gone"),
        (error("not_in_channel"), "gone"),
        (error("token_revoked"), "gone"),
        (error("token_expired"), "gone"),
        (error("account_inactive"), "gone"),
        (error("invalid_auth"), "gone"),
        (error("missing_scope"), "gone"),
        (error("restricted_action"), "gone"),
        (error("msg_too_long"), "refused"),
        (error("no_text"), "refused"),
        (error("invalid_blocks"), "refused"),
        (error("metadata_too_large"), "refused"),
        (error("internal_error"), "again"),
        (error("fatal_error"), "again"),
        (error("something_new"), "again"),
        (Behavior::says(200, "<html>"), "again"),
        (Behavior::says(503, ""), "again"),
        (Behavior::Hang, "again"),
        (Behavior::Cut, "again"),
    ] {
        slack.behave([behavior.clone()]);
        let result = send(&sender, &target).await;
        assert_eq!(outcome(&result), expected, "{behavior:?}: {result:?}");
        assert!(!format!("{result:?}").contains("quetzal"), "{result:?}");
    }
    let request = slack.last();
    assert_eq!(
        (request.line.as_str(), request.header("authorization")),
        ("POST /api/chat.postMessage", "Bearer xoxb-quetzal")
    );
    let body = request.json();
    assert_eq!(body["channel"], "C1");
    assert_eq!(
        body["metadata"],
        json!({"event_type": "churnd_alert", "event_payload": {"key": sample::notice(Sample::Raised).key}})
    );
    // What was posted is updated; where that is not possible any more, it is posted anew.
    slack.behave([posted()]);
    let receipt = send(&sender, &target).await.unwrap();
    assert_eq!(receipt.reference.as_deref(), Some("C1:1503435956.000247"));
    let update = async || {
        let (templates, notice) = (Templates::default(), sample::notice(Sample::Lowered));
        sender.send(&target, &templates, &notice, receipt.reference.as_deref()).await
    };
    assert_eq!(outcome(&update().await), "ok");
    let request = slack.last();
    assert_eq!(request.line, "POST /api/chat.update");
    assert_eq!((&request.json()["ts"], &request.json()["channel"]), (&json!("1503435956.000247"), &json!("C1")));
    for code in ["message_not_found", "edit_window_closed", "cant_update_message"] {
        slack.behave([error(code), posted()]);
        assert_eq!(outcome(&update().await), "ok", "{code}");
        assert_eq!(slack.last().line, "POST /api/chat.postMessage");
    }
    slack.behave([error("token_revoked")]);
    assert_eq!(outcome(&update().await), "gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_answer_of_sendgrid_has_its_meaning() {
    let sendgrid = Receiver::start([Behavior::says(202, "")]).await;
    let sender = sender(&[("SENDGRID_API_KEY", "SG.quetzal"), ("CHURND__SENDGRID__URL", &sendgrid.url())]);
    let target = Target::Email { to: vec!["team@example.com".to_owned(), "ops@example.com".to_owned()] };
    let error = r#"{"errors":[{"message":"The from address does not match","field":"from"}]}"#;
    for (behavior, expected) in [
        (Behavior::says(202, ""), "ok"),
        (Behavior::says(200, "{}"), "ok"),
        (Behavior::says(400, error), "refused"),
        (Behavior::says(401, error), "gone"),
        (Behavior::says(403, error), "gone"),
        (Behavior::says(413, ""), "refused"),
        (Behavior::Answer(429, "retry-after: 7\r\n", String::new()), "again 7"),
        (Behavior::Answer(429, "x-ratelimit-reset: 1795000042\r\n", String::new()), "again 42"),
        (Behavior::says(429, ""), "again"),
        (Behavior::says(500, ""), "again"),
        (Behavior::says(503, ""), "again"),
        (Behavior::Hang, "again"),
        (Behavior::Cut, "again"),
    ] {
        sendgrid.behave([behavior.clone()]);
        let result = send(&sender, &target).await;
        assert_eq!(outcome(&result), expected, "{behavior:?}: {result:?}");
        assert!(!format!("{result:?}").contains("quetzal"), "{result:?}");
    }
    let request = sendgrid.last();
    assert_eq!((request.line.as_str(), request.header("authorization")), ("POST /v3/mail/send", "Bearer SG.quetzal"));
    let body = request.json();
    let key = sample::notice(Sample::Raised).key;
    assert_eq!(body["personalizations"][0]["to"], json!([{"email": "team@example.com"}, {"email": "ops@example.com"}]));
    assert_eq!(body["from"], json!({"email": "alerts@example.com", "name": "Alerts"}));
    assert_eq!(body["custom_args"], json!({"churnd_key": key}));
    assert_eq!((&body["content"][0]["type"], &body["content"][1]["type"]), (&json!("text/plain"), &json!("text/html")));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_answer_of_a_mail_server_has_its_meaning() {
    let scratch = Scratch::new();
    let target = Target::Email { to: vec!["team@example.com".to_owned()] };
    for (odd_at, oddity, expected) in [
        ("", Oddity::Hangs, "ok"),
        ("EHLO", Oddity::Says("421 4.3.2 not now"), "again"),
        ("MAIL", Oddity::Says("451 4.7.1 later"), "again"),
        ("RCPT", Oddity::Says("450 4.2.1 greylisted"), "again"),
        ("RCPT", Oddity::Says("550 5.1.1 nobody here"), "refused"),
        ("MAIL", Oddity::Says("530 5.7.0 log in"), "gone"),
        ("MAIL", Oddity::Says("553 5.7.1 not your address"), "refused"),
        ("DATA", Oddity::Says("554 5.5.1 no"), "refused"),
        (".", Oddity::Says("452 4.3.1 full"), "again"),
        (".", Oddity::Says("552 5.3.4 too large"), "refused"),
        ("EHLO", Oddity::Hangs, "again"),
        (".", Oddity::Hangs, "again"),
        ("MAIL", Oddity::Cuts, "again"),
        (".", Oddity::Cuts, "again"),
    ] {
        let mailbox = Mailbox::start(Manners { odd_at, oddity, ..Manners::default() }, scratch.path()).await;
        let port = mailbox.port().to_string();
        let sender = sender(&[
            ("CHURND__SMTP__HOST", "127.0.0.1"),
            ("CHURND__SMTP__PORT", &port),
            ("CHURND__SMTP__TLS", "none"),
        ]);
        let result = send(&sender, &target).await;
        assert_eq!(outcome(&result), expected, "{odd_at} {oddity:?}: {result:?}");
        assert_eq!(mailbox.mails().len(), usize::from(expected == "ok"));
    }
    let nobody =
        sender(&[("CHURND__SMTP__HOST", "127.0.0.1"), ("CHURND__SMTP__PORT", "1"), ("CHURND__SMTP__TLS", "none")]);
    assert_eq!(outcome(&send(&nobody, &target).await), "again");
    let nothing = send(&sender(&[]), &target).await.unwrap_err();
    assert_eq!(nothing.to_string(), "no mail can be sent: set smtp.host or sendgrid.api_key");
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_goes_encrypted_with_all_its_headers() {
    let scratch = Scratch::new();
    let manners = Manners { starttls: true, auth: true, ..Manners::default() };
    let mailbox = Mailbox::start(manners, scratch.path()).await;
    let (port, ca) = (mailbox.port().to_string(), mailbox.certificate().unwrap().display().to_string());
    let with = |password: &str, ca: &str| {
        sender(&[
            ("CHURND__SMTP__HOST", "localhost"),
            ("CHURND__SMTP__PORT", &port),
            ("CHURND__SMTP__USER", USER),
            ("CHURND__SMTP__PASSWORD", password),
            ("CHURND__SMTP__CA_FILE", ca),
        ])
    };
    let target = Target::Email { to: vec!["team@example.com".to_owned(), "ops@example.com".to_owned()] };
    let mut notice: Notice = sample::notice(Sample::Raised);
    notice.alerts[0].company = Some("Ünïcode & Co\r\nBcc: all@example.com\r\n\r\n.".to_owned());
    let good = with(PASSWORD, &ca);
    for _ in 0..2 {
        let sent = good.send(&target, &Templates::default(), &notice, None).await;
        assert_eq!(outcome(&sent), "ok", "{sent:?}");
    }
    let mails = mailbox.mails();
    let mail = &mails[0];
    assert!(mail.encrypted && mail.user == USER);
    assert_eq!(
        (mail.from.as_str(), mail.to.join(" ")),
        ("alerts@example.com", "team@example.com ops@example.com".to_owned())
    );
    assert_eq!(mail.header("Message-ID"), format!("<{}@example.com>", notice.key));
    assert_eq!(mail.header("Message-ID"), mails[1].header("Message-ID"), "the same at each try");
    assert_eq!(mail.header("X-Churnd-Key"), notice.key);
    assert_eq!(mail.header("Auto-Submitted"), "auto-generated");
    assert_eq!(mail.header("List-Id"), "churnd alerts of demo <demo.churnd.example.com>");
    assert!(mail.header("Content-Type").starts_with("multipart/alternative"), "{}", mail.data);
    let subject = mail.header("Subject");
    assert!(subject.contains("=?utf-8?"), "{subject}");
    let head = mail.data.split("\r\n\r\n").next().unwrap();
    assert!(!head.lines().any(|line| line.starts_with("Bcc")), "{head}");
    let wrong = send(&with("wrong", &ca), &target).await;
    assert_eq!(outcome(&wrong), "gone", "{wrong:?}");
    assert!(wrong.unwrap_err().to_string().contains("check smtp.user and smtp.password"));
    // Nothing is sent to a server that cannot prove who it is, or that cannot encrypt.
    assert_eq!(outcome(&send(&with(PASSWORD, ""), &target).await), "again");
    let plain = Mailbox::start(Manners::default(), scratch.path()).await;
    let port = plain.port().to_string();
    let unencrypted = sender(&[("CHURND__SMTP__HOST", "localhost"), ("CHURND__SMTP__PORT", &port)]);
    assert_ne!(outcome(&send(&unencrypted, &target).await), "ok");
    assert!(plain.mails().is_empty() && mailbox.mails().len() == 2);
    let injected = Target::Email { to: vec!["a@example.com>\r\nRCPT TO:<b@example.com".to_owned()] };
    assert_eq!(outcome(&send(&good, &injected).await), "gone");
}
