//! Installing the Slack app: from a secret key through a browser and Slack to a channel, and every way in which it must not go.

use std::net::SocketAddr;

use serde_json::{Value, json};
use url::Url;

use crate::support::{
    Cluster, Observer,
    cluster::ACCOUNT,
    daemon::Daemon,
    http::{self, Response},
    receivers::{Behavior, Receiver},
};

const PUBLIC: &str = "https://churn.example";
const CHANNELS: &str = "SELECT count(*) FROM channels WHERE kind = 'slack' AND target->>'token' = 'xoxb-2'";

/// A path of a link to our public address, or the value of its parameter.
fn path_of(link: &str) -> String {
    link.strip_prefix(PUBLIC).unwrap_or_else(|| panic!("{link}")).to_owned()
}

fn parameter(link: &str, name: &str) -> String {
    let url = Url::parse(link).unwrap();
    url.query_pairs().find(|(known, _)| known == name).unwrap_or_else(|| panic!("{link} has no {name}")).1.into_owned()
}

async fn begin(at: SocketAddr, key: &str) -> Response {
    http::request(at, "POST", "/api/slack/install", &[("x-api-key", key)], b"").await.unwrap()
}

/// Opens a fresh link: the state that goes to Slack, and the browser's cookie.
async fn opened(at: SocketAddr, key: &str) -> (String, String) {
    let link = begin(at, key).await.json()["url"].as_str().unwrap().to_owned();
    let sent = http::get(at, &path_of(&link)).await.unwrap();
    assert_eq!(sent.status, 303, "{}", sent.text());
    let cookie = sent.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    (parameter(sent.header("location").unwrap(), "state"), cookie)
}

async fn come_back(at: SocketAddr, query: &str, cookie: &str) -> Response {
    let path = format!("/slack/oauth/callback?{query}");
    http::request(at, "GET", &path, &[("cookie", cookie)], b"").await.unwrap()
}

fn installed(token: &str, channel: &str) -> Behavior {
    let said = json!({
        "ok": true, "access_token": token, "token_type": "bot", "scope": "chat:write,chat:write.public,incoming-webhook",
        "team": {"id": "T1", "name": "<b>Example</b>"},
        "incoming_webhook": {"channel": "#alerts", "channel_id": channel, "url": "https://hooks.slack.com/services/x"},
    });
    Behavior::says(200, said.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workspace_is_connected_once_by_the_browser_that_began() {
    let cluster = Cluster::start().await;
    let slack = Receiver::start([installed("xoxb-1", "C1")]).await;
    let mut daemon = Daemon::builder(&cluster, "one")
        .setting("CHURND__ROLES", "bridge")
        .setting("CHURND__HTTP__PUBLIC_URL", PUBLIC)
        .setting("CHURND__SLACK__API_URL", format!("{}/api", slack.url()))
        .setting("SLACK_CLIENT_ID", "123.456")
        .setting("SLACK_CLIENT_SECRET", "quetzal")
        .start()
        .await;
    let (at, observer) = (daemon.address(), Observer::of(&cluster).await);
    let key = async |kind: &str| {
        cluster.command(&["key", "add", "--account", ACCOUNT, "--kind", kind]).await.trim().to_owned()
    };
    let (secret, publishable) = (key("secret").await, key("publishable").await);
    assert_eq!(begin(at, &publishable).await.status, 403);
    assert_eq!(begin(at, "sk_never").await.status, 401);

    // The link leads to Slack, once, with what Slack needs and a cookie that goes nowhere else.
    let link = begin(at, &secret).await.json()["url"].as_str().unwrap().to_owned();
    let sent = http::get(at, &path_of(&link)).await.unwrap();
    let place = sent.header("location").unwrap().to_owned();
    assert!(place.starts_with("https://slack.com/oauth/v2/authorize?"), "{place}");
    assert_eq!(parameter(&place, "client_id"), "123.456");
    assert_eq!(parameter(&place, "scope"), "chat:write,chat:write.public,incoming-webhook");
    assert_eq!(parameter(&place, "redirect_uri"), format!("{PUBLIC}/slack/oauth/callback"));
    let cookie = sent.header("set-cookie").unwrap();
    assert!(cookie.ends_with("; Path=/slack; HttpOnly; SameSite=Lax; Max-Age=600; Secure"), "{cookie}");
    assert_eq!(sent.header("cache-control"), Some("no-store"));
    assert_eq!(http::get(at, &path_of(&link)).await.unwrap().status, 400, "a link is opened once");

    // Who did not begin, brings another state, or none, is sent away, and Slack is not asked.
    let (state, cookie) = (parameter(&place, "state"), cookie.split(';').next().unwrap().to_owned());
    let (other_state, other_cookie) = opened(at, &secret).await;
    for (query, cookie) in [
        (format!("code=c&state={state}"), ""),
        (format!("code=c&state={state}"), other_cookie.as_str()),
        (format!("code=c&state={}", parameter(&link, "ticket")), cookie.as_str()),
        (format!("code=c&state={state}x"), cookie.as_str()),
        ("code=c".to_owned(), cookie.as_str()),
        (String::new(), ""),
    ] {
        let page = come_back(at, &query, cookie).await;
        assert_eq!(page.status, 400, "{query}: {}", page.text());
        assert!(page.text().contains("<h1>This link is not valid</h1>"), "{}", page.text());
    }
    assert!(slack.requests().is_empty());

    // The one that began is connected, once.
    let page = come_back(at, &format!("code=c%26ode&state={state}"), &cookie).await;
    assert_eq!(page.status, 200, "{}", page.text());
    assert!(page.text().contains("go to #alerts in &lt;b&gt;Example&lt;/b&gt;"), "{}", page.text());
    assert!(page.header("content-security-policy").unwrap().starts_with("default-src 'none'"));
    assert!(page.header("set-cookie").unwrap().contains("Max-Age=0"));
    let asked = slack.last();
    assert_eq!(asked.line, "POST /api/oauth.v2.access");
    let told = Url::parse(&format!("http://x/?{}", asked.body)).unwrap();
    let told: Vec<(String, String)> = told.query_pairs().into_owned().collect();
    let expected = [
        ("client_id", "123.456"),
        ("client_secret", "quetzal"),
        ("code", "c&ode"),
        ("redirect_uri", "https://churn.example/slack/oauth/callback"),
    ];
    assert_eq!(told, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert_eq!(observer.number("SELECT count(*) FROM channels").await, Ok(1));
    assert_eq!(come_back(at, &format!("code=c&state={state}"), &cookie).await.status, 400, "a state is used once");

    // Again for the same Slack channel: the token is replaced. For another one there is another channel.
    slack.behave([installed("xoxb-2", "C1"), installed("xoxb-2", "C2")]);
    assert_eq!(come_back(at, &format!("code=c&state={other_state}"), &other_cookie).await.status, 200);
    assert_eq!(observer.number(CHANNELS).await, Ok(1));
    let (state, cookie) = opened(at, &secret).await;
    assert_eq!(come_back(at, &format!("code=c&state={state}"), &cookie).await.status, 200);
    assert_eq!(observer.number(CHANNELS).await, Ok(2));

    // What goes wrong at Slack is a page.
    let (state, cookie) = opened(at, &secret).await;
    let denied = come_back(at, &format!("error=access_denied&state={state}"), &cookie).await;
    assert!(denied.status == 200 && denied.text().contains("was not allowed at Slack"), "{}", denied.text());
    for (behavior, expected) in [
        (Behavior::says(200, r#"{"ok":false,"error":"invalid_code"}"#), "Slack answers `invalid_code`"),
        (Behavior::says(500, ""), "Slack answers 500"),
        (Behavior::Close, "cannot be asked"),
    ] {
        slack.behave([behavior]);
        let (state, cookie) = opened(at, &secret).await;
        let failed = come_back(at, &format!("code=c&state={state}"), &cookie).await;
        assert!(failed.status == 502 && failed.text().contains(expected), "{}: {}", failed.status, failed.text());
    }
    assert_eq!(observer.number("SELECT count(*) FROM channels").await, Ok(2));
    daemon.stop().await;
    let log = daemon.log().text();
    assert!(!log.contains("quetzal") && !log.contains("xoxb"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_app_nothing_can_be_installed() {
    let cluster = Cluster::start().await;
    let daemon = Daemon::builder(&cluster, "one").setting("CHURND__ROLES", "bridge").start().await;
    let secret = cluster.command(&["key", "add", "--account", ACCOUNT, "--kind", "secret"]).await.trim().to_owned();
    let answer = begin(daemon.address(), &secret).await;
    let told: Value = answer.json();
    assert_eq!((answer.status, &told["code"]), (409, &json!("slack_not_set_up")));
    let page = http::get(daemon.address(), "/slack/install?ticket=x").await.unwrap();
    assert!(page.status == 404 && page.text().contains("is not set up here"), "{}", page.text());
}
