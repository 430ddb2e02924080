//! Pages about the account and the system: what they show, to whom, and dead letters with a second chance.

use std::{net::SocketAddr, time::Duration};

use churnd::stream::publisher::Outgoing;
use serde_json::json;

use crate::support::{
    Cluster, Feed, Observer,
    cluster::ACCOUNT,
    daemon::Daemon,
    eventually,
    http::{self, Response},
    webhooks::quiet,
};

const SOON: Duration = Duration::from_secs(60);

/// Somebody who signed in.
struct Visitor {
    at: SocketAddr,
    cookie: String,
}

impl Visitor {
    async fn of(cluster: &Cluster, daemon: &Daemon, account: &str) -> Self {
        let key = cluster.command(&["key", "add", "--account", account, "--kind", "secret"]).await.trim().to_owned();
        let at = daemon.address();
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        let body = format!("key={key}&name=Anna");
        let answer = http::request(at, "POST", "/dashboard/sign-in", &headers, body.as_bytes()).await.unwrap();
        assert_eq!(answer.status, 303, "{}", answer.text());
        let cookie = answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
        Self { at, cookie }
    }

    async fn page(&self, path: &str) -> String {
        let answer = http::request(self.at, "GET", path, &[("cookie", &self.cookie)], b"").await.unwrap();
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
        answer.text()
    }

    async fn csrf(&self) -> String {
        let page = self.page("/dashboard/overview").await;
        let (_, rest) = page.split_once("name=\"csrf\" value=\"").unwrap();
        rest.split('"').next().unwrap().to_owned()
    }

    async fn post(&self, body: &str) -> Response {
        self.post_to("/dashboard/system/replay", body).await
    }

    async fn post_to(&self, path: &str, body: &str) -> Response {
        let headers = [("cookie", self.cookie.as_str()), ("content-type", "application/x-www-form-urlencoded")];
        http::request(self.at, "POST", path, &headers, body.as_bytes()).await.unwrap()
    }

    /// Sends the form as the page does, and gives where it leads.
    async fn replay(&self, fields: &str) -> String {
        let answer = self.post(&format!("csrf={}&{fields}", self.csrf().await)).await;
        assert_eq!(answer.status, 303, "{}", answer.text());
        answer.header("location").unwrap().to_owned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_tell_what_there_is_and_what_there_is_not_yet() {
    let cluster = Cluster::start().await;
    let (feed, observer) = (Feed::open(&cluster).await, Observer::of(&cluster).await);
    let daemon = Daemon::start(&cluster, "one").await;
    let visitor = Visitor::of(&cluster, &daemon, ACCOUNT).await;
    for (path, empty) in [
        ("/dashboard/overview", "No customer has been seen yet"),
        ("/dashboard/overview", "not known yet what customers bring"),
        ("/dashboard/overview", "no alert in the last 30 days"),
        ("/dashboard/overview?days=7", "no alert in the last 7 days"),
        ("/dashboard/overview?days=x", "no alert in the last 30 days"),
        ("/dashboard/what-worked", "Nothing was noted in this time"),
        ("/dashboard/system", "Every message that came for your account could be used"),
    ] {
        let page = visitor.page(path).await;
        assert!(page.contains(empty), "{path}: {page}");
        assert!(page.contains("aria-current=\"page\""), "{path}");
    }
    for path in ["/dashboard/overview", "/dashboard/what-worked", "/dashboard/system"] {
        let answer = http::get(daemon.address(), path).await.unwrap();
        assert_eq!(answer.status, 303, "{path} is for those who are signed in");
    }
    feed.event("c", &json!({"event": "payment_failed"})).await;
    quiet(&observer, SOON).await;
    let page = visitor.page("/dashboard/overview").await;
    assert!(page.contains("aria-label=\"0 high, 1 medium, 0 low risk\""), "{page}");
    eventually(SOON, async || {
        let page = visitor.page("/dashboard/overview").await;
        if page.contains("1 in all") && page.contains("risk rose") { Ok(()) } else { Err(page) }
    })
    .await;
    let page = visitor.page("/dashboard/system").await;
    assert!(page.contains("All 16 owned") && page.contains("one: 16, archive"), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_replayed_from_the_page_by_its_account_alone() {
    let cluster = Cluster::start().await;
    let (feed, observer) = (Feed::open(&cluster).await, Observer::of(&cluster).await);
    let daemon = Daemon::builder(&cluster, "one").setting("CHURND__DASHBOARD__SYSTEM", "false").start().await;
    let own = Visitor::of(&cluster, &daemon, ACCOUNT).await;
    feed.send(Outgoing::new("churn.events.acme.c1", "no json <script>")).await;
    for customer in ["a", "b"] {
        feed.send(Outgoing::new(format!("churn.events.late.{customer}"), r#"{"event":"login"}"#)).await;
    }
    observer.caught_up(SOON).await;
    let page = own.page("/dashboard/system").await;
    assert!(page.contains("not_json") && page.contains("no json &#60;script&#62;"), "{page}");
    assert!(page.contains("would be refused again") && !page.contains("<script>no"), "{page}");
    assert!(!page.contains("churn.events.late"), "letters of others are not shown: {page}");
    assert!(!page.contains("Partitions"), "dashboard.system = false hides the system");

    // The account comes after its events: they would be accepted now.
    cluster.command(&["account", "add", "late"]).await;
    let late = Visitor::of(&cluster, &daemon, "late").await;
    let page = late.page("/dashboard/system").await;
    assert_eq!(page.matches("unknown_account").count(), 2, "{page}");
    assert_eq!(page.matches("would be accepted now</span>").count(), 2, "{page}");
    let letters = observer.messages("CHURN_DEAD").await.unwrap();
    assert_eq!(letters.len(), 3);
    let csrf = own.csrf().await;
    for (body, status) in [
        (format!("csrf={csrf}&sequence=2"), 404),
        (format!("csrf={csrf}&sequence=99"), 404),
        (format!("csrf={csrf}&sequence=x"), 404),
        (format!("csrf={csrf}"), 404),
        ("sequence=1".to_owned(), 403),
        ("csrf=x&all=yes".to_owned(), 403),
    ] {
        assert_eq!(own.post(&body).await.status, status, "{body}");
    }
    assert_eq!(observer.count("CHURN_DEAD").await, Ok(3), "nothing was replayed");

    assert_eq!(late.replay("sequence=2").await, "/dashboard/system?replayed=1&stayed=0#letters");
    assert_eq!(observer.count("CHURN_DEAD").await, Ok(2));
    assert_eq!(late.replay("all=yes").await, "/dashboard/system?replayed=1&stayed=0#letters");
    assert_eq!(own.replay("all=yes").await, "/dashboard/system?replayed=0&stayed=1#letters");
    let page = own.page("/dashboard/system?replayed=0&stayed=1").await;
    assert!(page.contains("1 letter would be refused again and stayed"), "{page}");
    assert_eq!(observer.count("CHURN_DEAD").await, Ok(1));
    observer.caught_up(SOON).await;
    let known = "SELECT count(*) FROM customer_states WHERE account = 'late'";
    assert_eq!(observer.number(known).await, Ok(2), "what was replayed counts");
    // A bad one may be sent again by itself, and comes back.
    assert_eq!(own.replay("sequence=1").await, "/dashboard/system?replayed=1&stayed=0#letters");
    eventually(SOON, async || match observer.messages("CHURN_DEAD").await {
        Ok(letters) if letters.len() == 1 => Ok(()),
        letters => Err(format!("{letters:?}")),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn channels_are_added_paused_and_removed_and_their_secrets_stay_inside() {
    let cluster = Cluster::start().await;
    let daemon = Daemon::start(&cluster, "one").await;
    cluster.command(&["account", "add", "other"]).await;
    let own = Visitor::of(&cluster, &daemon, ACCOUNT).await;
    let other = Visitor::of(&cluster, &daemon, "other").await;
    assert!(own.page("/dashboard/channels").await.contains("Alerts reach nobody yet"));
    assert!(own.page("/dashboard/overview").await.contains("Alerts reach nobody yet"));
    let csrf = own.csrf().await;
    let add = async |fields: &str| own.post_to("/dashboard/channels", &format!("csrf={csrf}&{fields}")).await;
    let slack = "kind=slack&url=https%3A%2F%2Fhooks.slack.com%2Fservices%2FT0%2FB0%2Fhidden";
    for (fields, problem) in [
        ("name=a&kind=pigeon", "Choose Slack"),
        ("name=a&kind=slack&url=nonsense", "The URL must be https://"),
        ("name=&kind=email&to=a%40b.example", "The name must be"),
        ("name=a&kind=email&to=a%40b.example&zone=Mars&quiet_from=20:00&quiet_to=08:00", "time zone such as"),
    ] {
        let answer = add(fields).await;
        assert_eq!(answer.status, 422, "{fields}");
        assert!(answer.text().contains(problem), "{fields}: {}", answer.text());
    }
    let forged = own.post_to("/dashboard/channels", &format!("name=a&{slack}")).await;
    assert_eq!(forged.status, 403);
    let added = add(&format!("name=Team&{slack}")).await;
    assert_eq!((added.status, added.header("location")), (303, Some("/dashboard/channels?done=added")));
    let again = add(&format!("name=Team&{slack}")).await;
    assert!(again.status == 422 && again.text().contains("of this name already"), "{}", again.text());
    let webhook = add("name=CRM&kind=webhook&url=https%3A%2F%2Fcrm.example%2Fhidden").await;
    assert_eq!(webhook.status, 201, "{}", webhook.text());
    assert_eq!(webhook.text().matches("whsec_").count(), 1, "the new secret is shown once");

    let page = own.page("/dashboard/channels").await;
    assert!(page.contains("Team") && page.contains("https://hooks.slack.com/…"), "{page}");
    assert!(
        !page.contains("services/T0") && !page.contains("crm.example/hidden") && !page.contains("whsec_"),
        "{page}"
    );
    assert!(!other.page("/dashboard/channels").await.contains("Team"));

    let sql = cluster.sql().await;
    let id: uuid::Uuid = sql.query_one("SELECT id FROM channels WHERE name = 'Team'", &[]).await.unwrap().get(0);
    let foreign = other.csrf().await;
    let change = "/dashboard/channels/change";
    for wish in ["pause", "resume", "remove"] {
        let answer = other.post_to(change, &format!("csrf={foreign}&id={id}&do={wish}")).await;
        assert_eq!(answer.status, 404, "{wish} of another account's channel");
    }
    for (wish, shown) in [("pause", "paused</span>"), ("resume", "active</span>"), ("remove", "CRM")] {
        let answer = own.post_to(change, &format!("csrf={csrf}&id={id}&do={wish}")).await;
        assert_eq!(answer.status, 303, "{wish}: {}", answer.text());
        assert!(own.page("/dashboard/channels").await.contains(shown), "{wish}");
    }
    assert!(!own.page("/dashboard/channels").await.contains("Team"));
    assert_eq!(own.post_to(change, &format!("csrf={csrf}&id={id}&do=resume")).await.status, 404);
}
