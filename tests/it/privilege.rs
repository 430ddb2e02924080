//! The users that `nats/users.conf` ships: the daemon, a bridge of its own and a service of yours do all their work as those,
//! and the server never has to refuse them anything.

use std::{fs, path::Path, time::Duration};

use churnd::embedded::nats::{NatsOptions, NatsServer};
use serde_json::json;

use crate::support::{
    Cluster,
    cluster::{ACCOUNT, tools},
    daemon::{Builder, Daemon, command},
    eventually,
    feed::subject_of,
    http,
};

const SOON: Duration = Duration::from_secs(60);
const PASSWORD: &str = "secret";

/// The shipped users, all with one password.
fn users() -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("nats/users.conf");
    let text = fs::read_to_string(file).unwrap();
    ["", "BRIDGE_", "PROVISIONER_", "PUBLISHER_", "ALERTS_"].into_iter().fold(text, |text, part| {
        let variable = format!("$CHURND_NATS_{part}PASSWORD");
        assert!(text.contains(&variable), "{variable}");
        text.replace(&variable, &format!("\"{PASSWORD}\""))
    })
}

fn daemon(cluster: &Cluster, roles: &str, nats_url: String) -> Builder {
    Daemon::builder(cluster, "guarded")
        .setting("CHURND__NATS__URL", nats_url)
        .setting("CHURND__ROLES", roles)
        .setting("CHURND__PIPELINE__SETTLE_SECONDS", "1")
        .setting("CHURND__ERASURE__SETTLE_SECONDS", "1")
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_works_as_the_shipped_users_and_is_refused_nothing() {
    let cluster = Cluster::start().await;
    let options = NatsOptions { extra: users(), ..NatsOptions::new(cluster.dir().join("guarded")) };
    let nats = NatsServer::start(&tools(), options).unwrap();
    let url = |user: &str| nats.url().replace("nats://", &format!("nats://{user}:{PASSWORD}@"));
    command(&["provision"], vec![("CHURND__NATS__URL".to_owned(), url("churnd-provisioner"))]).await;
    let _worker = daemon(&cluster, "engine,archive,notify", url("churnd")).start().await;
    let bridge = daemon(&cluster, "bridge", url("churnd-bridge")).start().await;
    let key = cluster.command(&["key", "add", "--account", ACCOUNT, "--kind", "secret"]).await;
    let key = [("x-api-key", key.trim())];
    let ask = async |method: &str, path: &str, body: &[u8]| {
        http::request(bridge.address(), method, path, &key, body).await.unwrap()
    };

    // Over HTTP, and straight from a service.
    let failed = json!({"customerId": "c-1", "event": "payment_failed"}).to_string();
    let answer = ask("POST", "/api/track", failed.as_bytes()).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    let options = async_nats::ConnectOptions::with_user_and_password("publisher".to_owned(), PASSWORD.to_owned());
    let service = options.custom_inbox_prefix("_INBOX_publisher").connect(nats.url()).await.unwrap();
    let service = async_nats::jetstream::new(service);
    for (customer, body) in [("c-2", r#"{"event":"payment_failed"}"#), ("c-3", "no json")] {
        service.publish(subject_of(customer), body.into()).await.unwrap().await.unwrap();
    }
    for customer in ["c-1", "c-2"] {
        eventually(SOON, async || {
            let answer = ask("GET", &format!("/api/customers/{customer}/risk"), b"").await;
            if answer.status == 200 && answer.json()["score"] == 40 { Ok(()) } else { Err(answer.text()) }
        })
        .await;
    }
    let erasure = ask("DELETE", "/api/customers/c-1", b"").await.json();
    let path = format!("/api/erasures/{}", erasure["id"].as_str().unwrap());
    eventually(SOON, async || {
        let report = ask("GET", &path, b"").await.json();
        if report["state"] == "completed" { Ok(()) } else { Err(report.to_string()) }
    })
    .await;
    let replayed = command(&["replay-dead", "--account", ACCOUNT], {
        let mut settings = cluster.settings();
        settings.push(("CHURND__NATS__URL".to_owned(), url("churnd")));
        settings
    });
    println!("{}", replayed.await);

    let log = fs::read_to_string(nats.log_path()).unwrap();
    let refused: Vec<&str> = log.lines().filter(|line| line.to_lowercase().contains("violation")).collect();
    assert!(refused.is_empty(), "{refused:#?}");
}
