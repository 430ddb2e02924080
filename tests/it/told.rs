//! The whole way: an event becomes an alert, and the alert a message in Slack, in a mailbox and at a webhook.

use std::{collections::BTreeSet, time::Duration};

use churnd::{
    config::{Config, Sources},
    event::ids::AccountId,
    store::{
        Store,
        channels::{NewChannel, Settings, Target, Templates},
    },
};
use data_encoding::BASE64;
use serde_json::json;

use crate::support::{
    Cluster, Feed,
    cluster::ACCOUNT,
    daemon::Daemon,
    eventually,
    mailbox::{Mailbox, Manners},
    receivers::{Behavior, Receiver},
};

const SOON: Duration = Duration::from_secs(90);

async fn add_channels(cluster: &Cluster, targets: Vec<(&str, Target)>) {
    let sources = Sources { environment: cluster.settings(), ..Sources::default() };
    let store = Store::connect(&Config::load(&sources).unwrap().postgres).unwrap();
    let account = AccountId::parse(ACCOUNT).unwrap();
    for (name, target) in targets {
        let channel = NewChannel {
            name: name.to_owned(),
            target,
            settings: Settings::default(),
            templates: Templates::default(),
        };
        store.add_channel(&account, &channel).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_reaches_slack_a_mailbox_and_a_webhook() {
    let cluster = Cluster::start().await;
    let hook = Receiver::start([Behavior::says(200, "ok")]).await;
    let app = Receiver::start([Behavior::says(200, r#"{"ok":true,"channel":"C1","ts":"1.2"}"#)]).await;
    // The first try fails: the second one must be the same message.
    let webhook = Receiver::start([Behavior::says(503, ""), Behavior::says(204, "")]).await;
    let mailbox = Mailbox::start(Manners::default(), cluster.dir()).await;
    let secret = format!("whsec_{}", BASE64.encode(&[42; 32]));
    let targets = vec![
        ("hook", Target::SlackWebhook { url: format!("{}/services/T0/B0/x", hook.url()).into() }),
        ("app", Target::SlackApp { token: "xoxb-1".into(), channel: "C1".to_owned() }),
        ("mail", Target::Email { to: vec!["team@example.com".to_owned()] }),
        ("webhook", Target::Webhook { url: format!("{}/alerts", webhook.url()).into(), secrets: vec![secret.into()] }),
    ];
    add_channels(&cluster, targets).await;
    let mut daemon = Daemon::builder(&cluster, "one")
        .setting("CHURND__HTTP__PUBLIC_URL", "https://churn.example")
        .setting("CHURND__SENDING__MAIL_FROM", "alerts@example.com")
        .setting("CHURND__SENDING__INTERNAL_RECEIVERS", webhook.host())
        .setting("CHURND__SMTP__HOST", "127.0.0.1")
        .setting("CHURND__SMTP__PORT", mailbox.port().to_string())
        .setting("CHURND__SMTP__TLS", "none")
        .setting("CHURND__SLACK__HOOKS_URL", hook.url())
        .setting("CHURND__SLACK__API_URL", app.url())
        .start()
        .await;
    Feed::open(&cluster).await.event("c-17", &json!({"event": "payment_failed"})).await;
    eventually(SOON, async || {
        let seen = (hook.requests().len(), app.requests().len(), mailbox.mails().len(), webhook.requests().len());
        if seen == (1, 1, 1, 2) { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;
    let first = webhook.requests().remove(0);
    let mail = mailbox.mails().remove(0);
    let keys = BTreeSet::from([
        first.json()["id"].as_str().unwrap().to_owned(),
        first.header("webhook-id").to_owned(),
        webhook.last().header("webhook-id").to_owned(),
        mail.header("X-Churnd-Key"),
        hook.last().json()["blocks"][0]["block_id"].as_str().unwrap().to_owned(),
        app.last().json()["metadata"]["event_payload"]["key"].as_str().unwrap().to_owned(),
    ]);
    assert_eq!(keys.len(), 1, "one alert, one key: {keys:?}");
    assert_eq!(mail.header("Subject"), "Medium churn risk: c-17, score 40 (was 0)");
    assert_eq!((&first.json()["kind"], &first.json()["customerId"]), (&json!("risk.raised"), &json!("c-17")));
    assert!(app.last().body.contains("https://churn.example/dashboard/customers/c-17"), "{}", app.last().body);
    daemon.stop().await;
    let log = daemon.log().text();
    assert!(!log.contains("xoxb-1") && !log.contains("whsec_") && !log.contains("/services/T0"), "{log}");
}
