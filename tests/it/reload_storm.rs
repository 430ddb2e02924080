//! SIGHUP again and again under load, with good and with bad rules and certificates: nothing is lost, what is bad is refused with
//! its reason, and what is in force stays whole.

use std::{fs, path::Path, time::Duration};

use nix::sys::signal::Signal;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use crate::{
    model::traffic::Traffic,
    support::{
        Cluster, Feed, Observer,
        daemon::Daemon,
        eventually,
        invariants::{Expected, violations},
        now,
        storm::outgoing,
    },
    tls,
};

const SOON: Duration = Duration::from_secs(90);
const RELOADS: usize = 120;
const RULES: &str = include_str!("../../config/rules.toml");

/// What is wrong with a file, and what must be told of it.
const BAD_RULES: [(&str, &str); 4] = [
    ("version = 1\n[[factor", "rules.toml:2"),
    ("", "version"),
    ("version = 1\nlevels = true", "rules.toml:2"),
    ("version = 1\nfactors = 3", "factors"),
];

fn lines(daemon: &Daemon) -> Vec<String> {
    let told = daemon.log().text();
    let of_reload = |line: &&str| line.contains("\"reloaded\"") || line.contains("not reloaded");
    told.lines().filter(of_reload).map(str::to_owned).collect()
}

/// Reloads once and gives what was said of it.
async fn reload(daemon: &Daemon, before: usize) -> String {
    daemon.signal(Signal::SIGHUP);
    eventually(SOON, async || lines(daemon).into_iter().nth(before).ok_or("no word yet")).await
}

/// Writes drawn rules and certificates, good ones and bad ones; gives what must be told, if anything is wrong.
fn draw(random: &mut StdRng, dir: &Path) -> Vec<&'static str> {
    let mut wrong = Vec::new();
    if random.random_bool(0.5) {
        let (text, told) = BAD_RULES[random.random_range(0..BAD_RULES.len())];
        fs::write(dir.join("rules.toml"), text).unwrap();
        wrong.push(told);
    } else {
        // The same rules in other words: scores stay as the model has them.
        fs::write(dir.join("rules.toml"), format!("# {}\n{RULES}", random.random::<u32>())).unwrap();
    }
    if random.random_bool(0.3) {
        fs::write(dir.join("cert.pem"), "-----BEGIN CERTIFICATE-----\nnothing").unwrap();
        wrong.push("http.tls_certificate_file");
    } else {
        tls::write_pair(dir);
    }
    wrong
}

#[tokio::test(flavor = "multi_thread")]
async fn many_reloads_under_load_lose_nothing_and_bad_ones_change_nothing() {
    let cluster = Cluster::start().await;
    let (feed, observer) = (Feed::open(&cluster).await, Observer::of(&cluster).await);
    let dir = cluster.dir();
    fs::write(dir.join("rules.toml"), RULES).unwrap();
    tls::write_pair(dir);
    let mut daemon = Daemon::builder(&cluster, "one")
        .setting("CHURND__RULES__FILE", dir.join("rules.toml").to_str().unwrap())
        .setting("CHURND__HTTP__TLS_CERTIFICATE_FILE", dir.join("cert.pem").to_str().unwrap())
        .setting("CHURND__HTTP__TLS_KEY_FILE", dir.join("key.pem").to_str().unwrap())
        .setting("CHURND__PIPELINE__SETTLE_SECONDS", "1")
        .spawn();
    daemon.wait_listening().await;
    eventually(SOON, async || daemon.log().find("churnd is running").ok_or("not running yet")).await;

    let until = now();
    let traffic = Traffic::draw(41, 40_000, 1_500, until);
    let mut random = StdRng::seed_from_u64(41);
    let (mut good, mut bad) = (0, 0);
    let mut parts = traffic.sent.chunks(traffic.sent.len().div_ceil(RELOADS));
    for round in 0..RELOADS {
        let wrong = draw(&mut random, dir);
        let part = parts.next().map(outgoing).unwrap_or_default();
        let (_, said) = tokio::join!(feed.send_all(part), reload(&daemon, round));
        match wrong.as_slice() {
            [] => {
                assert!(said.contains("\"reloaded\""), "round {round}: {said}");
                good += 1;
            }
            wrong => {
                assert!(said.contains("carrying on as before"), "round {round}: {said}");
                wrong
                    .iter()
                    .for_each(|told| assert!(said.contains(told), "round {round}: `{told}` is missing in {said}"));
                bad += 1;
            }
        }
    }
    println!("{good} good reloads, {bad} bad ones");
    assert!(good > 20 && bad > 20 && parts.next().is_none());

    // Good ones at the end, so that everything is scored by them; and answers come under the newest certificate.
    fs::write(dir.join("rules.toml"), RULES).unwrap();
    let root = tls::write_pair(dir);
    let said = reload(&daemon, RELOADS).await;
    assert!(said.contains("\"reloaded\""), "{said}");
    let metrics = tls::get(&daemon, &root, "/metrics").await.unwrap();
    for (result, expected) in [("applied", good + 1), ("refused", bad)] {
        let line = format!("churnd_config_reloads_total{{result=\"{result}\"}} {expected}\n");
        assert!(metrics.contains(&line), "{line} is missing in {metrics}");
    }
    observer.caught_up(SOON).await;
    eventually(SOON, async || {
        let swept = "SELECT count(*) FROM partitions WHERE role = 'engine' AND coalesce(rules_hash, 'mixed') = 'mixed'";
        match observer.number(swept).await? {
            0 => Ok(()),
            left => Err(format!("{left} partitions are still swept")),
        }
    })
    .await;
    let expected = Expected { histories: &traffic.histories, messages: traffic.messages(), as_of: until };
    let found = violations(&observer, &expected).await.unwrap();
    assert!(found.is_empty(), "{found:#?}");
    assert_eq!(daemon.stop().await.code(), Some(0));
}
