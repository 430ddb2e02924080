//! Other rules while events flow: everybody is scored anew, also those not in memory, and nothing is lost. Bad rules
//! change nothing and say where they are bad.

use std::{path::Path, time::Duration};

use nix::sys::signal::Signal;
use serde_json::json;

use crate::{
    model::{
        scoring::{self, Parameters},
        traffic::Traffic,
    },
    support::{
        Cluster, Feed, Observer,
        daemon::Daemon,
        eventually,
        invariants::{Expected, violations},
        now,
        storm::outgoing,
    },
};

const SOON: Duration = Duration::from_secs(90);
const RULES: &str = include_str!("../../config/rules.toml");

/// The default rules with other points for a failed payment.
fn rules(points: i64) -> String {
    let (head, tail) = RULES.split_once("cleared_by = \"payment_succeeded\"").unwrap();
    format!(
        "{head}cleared_by = \"payment_succeeded\"{}",
        tail.replacen("points = 40", &format!("points = {points}"), 1)
    )
}

fn parameters(points: i64) -> Parameters {
    let payment = (Parameters::default().payment.0, points);
    Parameters { payment, ..Parameters::default() }
}

async fn reload(daemon: &Daemon, file: &Path, text: &str, said: &str) {
    let before = daemon.log().all(said).len();
    std::fs::write(file, text).unwrap();
    daemon.signal(Signal::SIGHUP);
    eventually(SOON, async || if daemon.log().all(said).len() > before { Ok(()) } else { Err("no word yet") }).await;
}

/// Waits until what is stored of every customer was scored with so many points.
async fn scored_with(observer: &Observer<'_>, traffic: &Traffic, points: i64) {
    eventually(SOON, async || {
        let rows = observer.rows("SELECT customer, score FROM customer_states", &[]).await?;
        let wrong = rows.iter().filter(|row| {
            let (customer, score): (&str, i16) = (row.get(0), row.get(1));
            let history = &traffic.histories[customer];
            i16::from(scoring::score(customer, history, now(), &parameters(points)).score) != score
        });
        let wrong: Vec<String> =
            wrong.map(|row| format!("{} {}", row.get::<_, &str>(0), row.get::<_, i16>(1))).collect();
        match (rows.len(), wrong.as_slice()) {
            (all, []) if all == traffic.histories.len() => Ok(()),
            (all, wrong) => {
                let mut text = format!("{} of {all} customers have another score", wrong.len());
                for one in wrong.iter().take(5) {
                    let customer = one.split(' ').next().unwrap();
                    let model = scoring::score(customer, &traffic.histories[customer], now(), &parameters(points));
                    let answer = observer.risk(customer, None).await;
                    text += &format!(
                        "; {one} instead of {model:?}, {:?}",
                        answer.map(|answer| answer["details"].to_string())
                    );
                }
                Err(text)
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_rules_score_everybody_anew_and_bad_ones_nobody() {
    let cluster = Cluster::start().await;
    let (feed, observer) = (Feed::open(&cluster).await, Observer::of(&cluster).await);
    let file = cluster.dir().join("rules.toml");
    std::fs::write(&file, rules(40)).unwrap();
    let daemon = Daemon::builder(&cluster, "one")
        .setting("CHURND__RULES__FILE", file.to_str().unwrap())
        .setting("CHURND__PIPELINE__HOT_CUSTOMERS", "32")
        .setting("CHURND__PIPELINE__CACHE_BYTES", "20000")
        .setting("CHURND__PIPELINE__CHECKPOINT_INTERVAL_MS", "50")
        .setting("CHURND__PIPELINE__SETTLE_SECONDS", "1")
        .start()
        .await;
    let until = now();
    let traffic = Traffic::draw(5, 20_000, 1_500, until);
    let mut parts = traffic.sent.chunks(traffic.sent.len().div_ceil(4)).map(outgoing);
    feed.send_all(parts.next().unwrap()).await;
    // Twice in quick succession: the second sweep begins while the first is on its way.
    let changing = async {
        reload(&daemon, &file, &rules(55), "reloaded").await;
        reload(&daemon, &file, &rules(35), "reloaded").await;
    };
    tokio::join!(feed.send_all(parts.next().unwrap()), changing);
    let other = rules(50);
    tokio::join!(feed.send_all(parts.next().unwrap()), reload(&daemon, &file, &other, "reloaded"));
    feed.send_all(parts.next().unwrap()).await;
    observer.caught_up(SOON).await;
    scored_with(&observer, &traffic, 50).await;

    let bad = rules(50).replacen("points = 50", "points = \"many\"", 1);
    let line = 1 + bad.lines().position(|line| line.contains("many")).unwrap();
    let errors = |daemon: &Daemon| {
        daemon.log().text().lines().filter(|line| line.contains("not reloaded")).map(str::to_owned).collect::<Vec<_>>()
    };
    std::fs::write(&file, bad).unwrap();
    daemon.signal(Signal::SIGHUP);
    let said = eventually(SOON, async || errors(&daemon).pop().ok_or("no word yet")).await;
    assert!(said.contains(&format!("rules.toml:{line}")) && said.contains("points"), "{said}");
    feed.event("newcomer", &json!({"event": "payment_failed"})).await;
    observer.caught_up(SOON).await;
    assert_eq!(observer.risk("newcomer", None).await.unwrap()["score"], 50, "the rules in force stay");

    reload(&daemon, &file, &rules(40), "reloaded").await;
    eventually(SOON, async || {
        let score = observer.number("SELECT score::bigint FROM customer_states WHERE token = 'newcomer'").await?;
        if score == 40 { Ok(()) } else { Err(format!("{score}")) }
    })
    .await;
    let expected = Expected { histories: &traffic.histories, messages: traffic.messages() + 1, as_of: until };
    eventually(SOON, async || {
        let swept = "SELECT count(*) FROM partitions WHERE role = 'engine' AND coalesce(rules_hash, 'mixed') = 'mixed'";
        let left = observer.number(swept).await?;
        if left == 0 { Ok(()) } else { Err(format!("{left} partitions are still swept")) }
    })
    .await;
    let found = violations(&observer, &expected).await.unwrap();
    assert!(found.is_empty(), "{found:#?}");
}

#[tokio::test]
async fn an_account_may_have_rules_of_its_own() {
    let cluster = Cluster::start().await;
    cluster.command(&["account", "add", "beta"]).await;
    let (feed, observer) = (Feed::open(&cluster).await, Observer::of(&cluster).await);
    let dir = cluster.dir().join("accounts");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("beta.toml"), rules(55)).unwrap();
    let daemon =
        Daemon::builder(&cluster, "one").setting("CHURND__RULES__ACCOUNTS_DIR", dir.to_str().unwrap()).start().await;
    let failed = || churnd::stream::publisher::Outgoing::new("churn.events.beta.c1", r#"{"event":"payment_failed"}"#);
    feed.send(failed()).await;
    feed.event("c1", &json!({"event": "payment_failed"})).await;
    observer.caught_up(SOON).await;
    let scores = async || {
        let rows = observer.rows("SELECT account, score FROM customer_states ORDER BY account", &[]).await.unwrap();
        rows.iter().map(|row| format!("{} {}", row.get::<_, String>(0), row.get::<_, i16>(1))).collect::<Vec<_>>()
    };
    assert_eq!(scores().await, ["acme 40", "beta 55"]);
    reload(&daemon, &dir.join("beta.toml"), &rules(25), "reloaded").await;
    eventually(SOON, async || {
        let scores = scores().await;
        if scores == ["acme 40", "beta 25"] { Ok(()) } else { Err(format!("{scores:?}")) }
    })
    .await;
}
