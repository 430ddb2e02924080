//! One bad message never stops the others: it goes to the dead letters with its reason, and can be replayed.

use std::{collections::BTreeMap, time::Duration};

use churnd::stream::publisher::Outgoing;
use serde_json::json;

use crate::{
    model::traffic::Traffic,
    support::{
        Cluster, Feed, Observer,
        daemon::Daemon,
        eventually,
        feed::{header, subject_of},
        now,
        storm::outgoing,
    },
};

const SOON: Duration = Duration::from_secs(90);
const EVENTS: usize = 12_000;

/// One of each kind of poison, with the reason it must be given.
fn poison(number: usize) -> (&'static str, Outgoing) {
    let to = |customer: &str, body: Vec<u8>| Outgoing::new(subject_of(customer), body);
    let text = |customer: &str, body: &str| to(customer, body.as_bytes().to_vec());
    let packed =
        |body: &[u8]| to("poisoned", body.to_vec()).with_headers(header("Content-Type", "application/msgpack"));
    let long = "x".repeat(101);
    match number % 14 {
        0 => ("not_json", text("poisoned", r#"{"event":"login""#)),
        // A map of one pair whose value is missing.
        1 => ("not_message_pack", packed(&[0x81, 0xa5, b'e', b'v', b'e', b'n', b't'])),
        2 => ("missing_event", text("poisoned", r#"{"id":"x"}"#)),
        3 => ("event_name_length", text("poisoned", &format!(r#"{{"event":"{long}"}}"#))),
        4 => ("oversize", text("poisoned", &format!(r#"{{"event":"login","blob":"{}"}}"#, "y".repeat(40_000)))),
        5 => ("customer_mismatch", text("poisoned", r#"{"event":"login","customerId":"other"}"#)),
        6 => ("invalid_token", Outgoing::new("churn.events.acme.=41", r#"{"event":"login"}"#)),
        7 => (
            "unknown_account",
            Outgoing::new("churn.events.nobody.c1", format!(r#"{{"event":"login","id":"u{number}"}}"#)),
        ),
        8 => ("invalid_timestamp", text("poisoned", r#"{"event":"login","timestamp":"yesterday"}"#)),
        9 => ("too_deep", text("poisoned", &bomb())),
        10 => ("properties_not_an_object", text("poisoned", r#"{"event":"login","properties":[1]}"#)),
        11 => ("not_an_object", text("poisoned", r#"["login"]"#)),
        12 => ("id_length", text("poisoned", &format!(r#"{{"event":"login","id":"{long}"}}"#))),
        _ => ("hashed_without_id", Outgoing::new(subject_of(&"z".repeat(200)), r#"{"event":"login"}"#)),
    }
}

/// Thousands of objects within each other.
fn bomb() -> String {
    const DEEP: usize = 4_000;
    format!(r#"{{"event":"login","properties":{}1{}}}"#, r#"{"a":"#.repeat(DEEP), "}".repeat(DEEP))
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_lies_in_the_dead_letters_and_everything_else_counts() {
    let cluster = Cluster::start().await;
    let (feed, observer) = (Feed::open(&cluster).await, Observer::of(&cluster).await);
    let _daemon = Daemon::start(&cluster, "one").await;
    let until = now();
    let traffic = Traffic::draw(4, EVENTS, 200, until);
    let mut messages = outgoing(&traffic.sent);
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let poisoned = EVENTS / 100;
    for number in 0..poisoned {
        let (reason, message) = poison(number);
        *reasons.entry(reason.to_owned()).or_default() += 1;
        messages.insert(number * 97 % messages.len(), message);
    }
    feed.send_all(messages).await;
    let last = observer.caught_up(SOON).await;
    assert_eq!(last, traffic.messages() + poisoned as u64);

    let letters = observer.messages("CHURN_DEAD").await.unwrap();
    let mut found: BTreeMap<String, usize> = BTreeMap::new();
    for letter in &letters {
        *found.entry(letter.header("Churnd-Reason").to_owned()).or_default() += 1;
        assert_eq!((letter.header("Churnd-Stage"), letter.header("Churnd-Stream")), ("decode", "CHURN_EVENTS"));
        assert!(letter.header("Churnd-Subject").starts_with("churn.events."), "{letter:?}");
        assert!(!letter.header("Churnd-Detail").is_empty());
    }
    assert_eq!(found, reasons);
    let sums_sql = "SELECT sum(received)::bigint, sum(applied + duplicate + late)::bigint, sum(dead)::bigint
        FROM partitions WHERE role = 'engine'";
    let row = observer.rows(sums_sql, &[]).await.unwrap().remove(0);
    let sums: Vec<u64> = (0..3).map(|column| u64::try_from(row.get::<_, i64>(column)).unwrap()).collect();
    assert_eq!(sums, [last, traffic.messages(), poisoned as u64]);
    for (customer, history) in &traffic.histories {
        let model = crate::model::scoring::score(customer, history, until, &Default::default());
        let risk = observer.risk(customer, Some(until)).await.unwrap();
        assert_eq!((&risk["score"], &risk["factors"]), (&json!(model.score), &json!(model.factors)), "{customer}");
    }
    assert!(observer.risk("poisoned", None).await.unwrap_err().starts_with("404"), "poison made no customer");
    replayed_once(&cluster, &observer, &reasons).await;
}

/// Once the account exists its letters come back to life, the others stay where they are.
async fn replayed_once(cluster: &Cluster, observer: &Observer<'_>, reasons: &BTreeMap<String, usize>) {
    let strangers = reasons["unknown_account"];
    let others: usize = reasons.values().sum::<usize>() - strangers;
    cluster.command(&["replay-dead", "--account", "nobody"]).await;
    assert_eq!(observer.count("CHURN_DEAD").await.unwrap(), (others + strangers) as u64, "nothing has changed yet");
    cluster.command(&["account", "add", "nobody"]).await;
    let before = observer.last_sequence("CHURN_EVENTS").await.unwrap();
    cluster.command(&["replay-dead"]).await;
    cluster.command(&["replay-dead"]).await;
    assert_eq!(observer.last_sequence("CHURN_EVENTS").await.unwrap(), before + strangers as u64, "each once");
    observer.caught_up(SOON).await;
    assert_eq!(observer.count("CHURN_DEAD").await.unwrap(), others as u64);
    let risen = eventually(SOON, async || {
        let rows = observer.rows("SELECT token FROM customer_states WHERE account = 'nobody'", &[]).await?;
        if rows.is_empty() { Err("no customer yet".to_owned()) } else { Ok(rows.len()) }
    })
    .await;
    assert_eq!(risen, 1);
    let applied = observer.number("SELECT sum(dead)::bigint FROM partitions WHERE role = 'engine'").await.unwrap();
    assert_eq!(usize::try_from(applied).unwrap(), others + strangers, "none of them died again");
}
