use async_nats::{Event, ServerError};
use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    engine::checkpoint::{Level, Status},
    event::{
        ids::{AccountId, StreamSequence},
        time::Timestamp,
    },
    stream::{
        ALERTS, DEAD, RISK_STREAM, WEBHOOKS,
        dead::{self, DeadLetter, Selection},
        erase,
        reader::{Accounted, ReadBatch, Reader, ReaderConfig, check_rollback},
        risk_kv::{self, RiskValue},
        risk_watch::{self, Change},
    },
};

const USERS: &str = include_str!("../../../nats/users.conf");
const PART: &str = "secret";

/// A server with the shipped users, all with the same password.
fn server() -> Server {
    let mut users = String::new();
    for line in USERS.lines() {
        match line.split_once("$CHURND_NATS_") {
            Some((before, after)) => {
                users += &format!(
                    "{before}\"{PART}\"{}\n",
                    after.trim_start_matches(|c: char| c.is_ascii_uppercase() || c == '_')
                )
            }
            None => users += &format!("{line}\n"),
        }
    }
    Server::with(&users)
}

async fn connect_as(server: &Server, user: &str) -> Client {
    let url = server.nats.url().replace("nats://", &format!("nats://{user}:{PART}@"));
    connect(&Config::at(url), user).await.unwrap()
}

/// Watches the bucket as the dashboard's open pages do, until a change was told.
async fn follow_the_bucket(watcher: &jetstream::Context, publisher: &Publisher) {
    let (stop, (tell, mut told)) = (CancellationToken::new(), mpsc::channel(8));
    let watching = risk_watch::watch(watcher, &stop, |change| {
        let said = match change {
            Change::Anything => "anything".to_owned(),
            Change::Customer { account, token } => format!("{account} {token}"),
        };
        tell.try_send(said).unwrap();
    });
    let heard = async {
        assert_eq!(told.recv().await.unwrap(), "anything");
        let value =
            RiskValue { score: 40, level: Level::Medium, status: Status::Active, at: Timestamp::from_seconds(0) };
        risk_kv::put(publisher, "acme", "a=40b", &value).await.unwrap();
        assert_eq!(told.recv().await.unwrap(), "acme a=40b");
        stop.cancel();
    };
    tokio::join!(watching, heard);
}

#[tokio::test]
async fn each_part_can_do_its_work_with_the_shipped_permissions() {
    let server = server();
    let provisioner = jetstream::new(connect_as(&server, "churnd-provisioner").await);
    declared(16).apply(&provisioner).await.unwrap();
    assert_eq!(declared(16).plan(&provisioner).await.unwrap(), []);

    let bridge = Publisher::new(connect_as(&server, "churnd-bridge").await, 8).with_patience(Duration::from_secs(5));
    assert_eq!(bridge.publish(event(1, 1)).await.unwrap().stream, EVENTS);
    assert_eq!(bridge.publish(Outgoing::new("churn.webhooks.stripe.acme", "{}")).await.unwrap().stream, WEBHOOKS);

    let client = connect_as(&server, "churnd").await;
    let (daemon, publisher) = (jetstream::new(client.clone()), Publisher::new(client.clone(), 8));
    assert!(declared(16).verify(&daemon).await.unwrap().iter().all(|problem| !problem.fatal));
    check_rollback(&daemon, EVENTS, Accounted { watermark: StreamSequence(1), ..Accounted::default() }).await.unwrap();
    let mut reader = Reader::open(&daemon, EVENTS, ReaderConfig::new("churnd-p000-e1", StreamSequence(0)));
    let mut batch = ReadBatch::default();
    while batch.messages.is_empty() {
        batch = within(reader.next_batch()).await.unwrap();
    }
    assert_eq!(batch.messages.len(), 1);
    reader.close().await;
    for watcher in [bridge.context(), &daemon] {
        within(follow_the_bucket(watcher, &publisher)).await;
    }
    let filter = Some("churn.p.3.>".to_owned());
    let filtered = ReaderConfig { filter, ..ReaderConfig::new("churnd-p003-e1", StreamSequence(0)) };
    let mut reader = Reader::open(&daemon, EVENTS, filtered);
    within(reader.next_batch()).await.unwrap();
    reader.close().await;
    assert_eq!(publisher.publish(Outgoing::new("churn.alerts.acme.high.c0.1", "{}")).await.unwrap().stream, ALERTS);
    assert_eq!(publisher.publish(Outgoing::new("$KV.churn_risk.acme.c0", "{}")).await.unwrap().stream, RISK_STREAM);
    let letter = DeadLetter {
        dead_subject: "churn.dead.acme.c0".to_owned(),
        reason: "not_json".to_owned(),
        detail: String::new(),
        stage: "decode".to_owned(),
        subject: "churn.events.acme.c0".to_owned(),
        stream: EVENTS.to_owned(),
        sequence: StreamSequence(1),
        payload: "x".into(),
        headers: None,
    };
    let ack = dead::publish(&publisher, &letter).await.unwrap();
    assert_eq!((ack.stream.as_str(), dead::list(&daemon, &Default::default()).await.unwrap().len()), (DEAD, 1));
    dead::replay(&publisher, ack.sequence).await.unwrap();
    // The dashboard shows letters and replays them.
    let letter = DeadLetter { stage: "again".to_owned(), sequence: StreamSequence(2), ..letter };
    let ack = dead::publish(&publisher, &letter).await.unwrap();
    let own = Selection { account: Some("acme".to_owned()), limit: Some(2), ..Selection::default() };
    assert_eq!(within(dead::list(bridge.context(), &own)).await.unwrap().len(), 1);
    within(dead::replay(&bridge, ack.sequence)).await.unwrap();
    assert_eq!(within(dead::list(bridge.context(), &own)).await.unwrap().len(), 0);
    assert!(dead::get(bridge.context(), ack.sequence).await.unwrap().is_none());
    erasing(&daemon).await;
}

/// What erasing a customer takes: looking messages up, overwriting them, searching, emptying the bucket.
async fn erasing(daemon: &jetstream::Context) {
    for stream in [EVENTS, WEBHOOKS, ALERTS, RISK_STREAM, DEAD] {
        let found = erase::next_of(daemon, stream, ">", StreamSequence(1)).await.unwrap();
        let erased = erase::erase(daemon, stream, found.unwrap_or(StreamSequence(1))).await.unwrap();
        assert_eq!(erased, found.is_some(), "{stream}");
    }
    let acme = AccountId::parse("acme").unwrap();
    for place in [erase::Place::Webhooks(&acme), erase::Place::Letters(&acme)] {
        within(erase::search(daemon, place, |_| {})).await.unwrap();
    }
    assert_eq!(erase::acknowledged(daemon, WEBHOOKS, "nobody").await.unwrap(), None);
    erase::empty_bucket(daemon).await.unwrap();
}

/// Publishing to a forbidden subject brings no answer, only a remark of the server.
async fn is_forbidden(server: &Server, user: &str, inbox: &str, subject: &str) -> bool {
    let (sender, mut remarks) = mpsc::channel(8);
    let client = async_nats::ConnectOptions::new()
        .user_and_password(user.to_owned(), PART.to_owned())
        .custom_inbox_prefix(inbox)
        .event_callback(move |event| {
            let sender = sender.clone();
            async move {
                if let Event::ServerError(ServerError::Other(remark)) = event {
                    sender.send(remark).await.ok();
                }
            }
        })
        .connect(server.nats.url())
        .await
        .unwrap();
    let mut answers = client.subscribe(client.new_inbox()).await.unwrap();
    let inbox = client.new_inbox();
    let mut own = client.subscribe(inbox.clone()).await.unwrap();
    client.publish_with_reply(subject.to_owned(), inbox, "{}".into()).await.unwrap();
    client.flush().await.unwrap();
    within(async {
        tokio::select! {
            remark = remarks.recv() => remark.is_some_and(|remark| remark.to_lowercase().contains("permissions violation")),
            answer = own.next() => answer.is_none(),
            _ = answers.next() => false,
        }
    })
    .await
}

#[tokio::test]
async fn nobody_can_do_more_than_their_work() {
    let server = server();
    let provisioner = jetstream::new(connect_as(&server, "churnd-provisioner").await);
    declared(16).apply(&provisioner).await.unwrap();
    let forbidden = [
        ("churnd", "_INBOX", "$JS.API.STREAM.DELETE.CHURN_EVENTS"),
        ("churnd", "_INBOX", "$JS.API.STREAM.UPDATE.CHURN_EVENTS"),
        ("churnd", "_INBOX", "$JS.API.STREAM.PURGE.CHURN_EVENTS"),
        ("churnd", "_INBOX", "$JS.API.STREAM.MSG.DELETE.OTHER"),
        ("churnd-bridge", "_INBOX", "$JS.API.STREAM.MSG.DELETE.CHURN_EVENTS"),
        ("churnd-bridge", "_INBOX", "churn.alerts.acme.high.c.1"),
        ("churnd-bridge", "_INBOX", "$JS.API.CONSUMER.CREATE.CHURN_EVENTS.x"),
        ("churnd-provisioner", "_INBOX", "$JS.API.STREAM.DELETE.CHURN_EVENTS"),
        ("churnd-provisioner", "_INBOX", "$JS.API.STREAM.PURGE.CHURN_EVENTS"),
        ("publisher", "_INBOX_publisher", "churn.events.other.c1"),
        ("publisher", "_INBOX_publisher", "$JS.API.CONSUMER.CREATE.CHURN_EVENTS.x"),
        ("alert-consumer", "_INBOX_alerts", "churn.events.acme.c1"),
        ("alert-consumer", "_INBOX_alerts", "$JS.API.CONSUMER.CREATE.CHURN_EVENTS.x"),
    ];
    for (user, inbox, subject) in forbidden {
        assert!(is_forbidden(&server, user, inbox, subject).await, "{user} may publish to {subject}");
    }
    for (user, inbox, subject) in [
        ("publisher", "_INBOX_publisher", "churn.events.acme.c1"),
        ("alert-consumer", "_INBOX_alerts", "$JS.API.STREAM.INFO.CHURN_ALERTS"),
    ] {
        assert!(!is_forbidden(&server, user, inbox, subject).await, "{user} may not publish to {subject}");
    }
}

/// What each user may publish to, of all that the next test tries; `{}` stands for each of our streams.
const GRANTED: [(&str, &[&str]); 5] = [
    (
        "churnd",
        &[
            "$JS.API.STREAM.MSG.GET.",
            "$JS.API.DIRECT.GET.",
            "$JS.API.STREAM.MSG.DELETE.{}",
            "$JS.API.STREAM.PURGE.KV_churn_risk",
            "$JS.API.CONSUMER.CREATE.{}.c",
            "$JS.API.CONSUMER.DELETE.",
            "$JS.API.CONSUMER.NAMES.CHURN_EVENTS",
            "churn.events.",
            "churn.webhooks.stripe.",
            "churn.alerts.",
            "churn.dead.",
            "churn.risk.",
            "$KV.churn_risk.",
        ],
    ),
    (
        "churnd-bridge",
        &[
            "$JS.API.STREAM.MSG.GET.CHURN_DEAD",
            "$JS.API.DIRECT.GET.CHURN_DEAD",
            "$JS.API.DIRECT.GET.CHURN_EVENTS",
            "$JS.API.DIRECT.GET.CHURN_WEBHOOKS",
            "$JS.API.STREAM.MSG.DELETE.CHURN_DEAD",
            "$JS.API.CONSUMER.CREATE.CHURN_DEAD.c",
            "$JS.API.CONSUMER.CREATE.KV_churn_risk.c",
            "$JS.API.CONSUMER.DELETE.CHURN_DEAD.c",
            "churn.events.",
            "churn.webhooks.stripe.",
            "churn.risk.",
        ],
    ),
    ("churnd-provisioner", &["$JS.API.STREAM.CREATE.{}", "$JS.API.STREAM.UPDATE.{}"]),
    ("publisher", &["churn.events.acme."]),
    ("alert-consumer", &["$JS.API.CONSUMER.CREATE.CHURN_ALERTS.c"]),
];

#[tokio::test]
async fn whatever_is_not_granted_is_refused() {
    const OURS: [&str; 5] = [EVENTS, WEBHOOKS, ALERTS, DEAD, RISK_STREAM];
    let server = server();
    let provisioner = jetstream::new(connect_as(&server, "churnd-provisioner").await);
    declared(16).apply(&provisioner).await.unwrap();
    let verbs = "STREAM.DELETE STREAM.PURGE STREAM.UPDATE STREAM.CREATE STREAM.MSG.DELETE STREAM.MSG.GET STREAM.SNAPSHOT STREAM.RESTORE
        STREAM.LEADER.STEPDOWN STREAM.PEER.REMOVE CONSUMER.LIST CONSUMER.NAMES DIRECT.GET";
    let of_consumers = "CREATE DELETE DURABLE.CREATE LEADER.STEPDOWN PAUSE UNPIN";
    let streams = || OURS.into_iter().chain(["ANOTHER"]);
    let mut subjects: Vec<String> = verbs
        .split_whitespace()
        .flat_map(|verb| streams().map(move |stream| format!("$JS.API.{verb}.{stream}")))
        .chain(
            of_consumers
                .split_whitespace()
                .flat_map(|verb| streams().map(move |stream| format!("$JS.API.CONSUMER.{verb}.{stream}.c"))),
        )
        .collect();
    let others = "$JS.API.ACCOUNT.PURGE.A $JS.API.META.LEADER.STEPDOWN $JS.API.SERVER.REMOVE $JS.API.STREAM.LIST $SYS.REQ.SERVER.PING
        churn.p.0.acme.c churn.events.acme.c churn.events.other.c churn.events.acme.c.more churn.webhooks.stripe.other
        churn.alerts.acme.high.c.9 churn.dead.acme.c churn.risk.acme.c churn.interventions.acme.open $KV.churn_risk.acme.c
        $KV.another.c _INBOX.of.somebody elsewhere";
    subjects.extend(others.split_whitespace().map(str::to_owned));
    let mut refused = 0;
    for (user, granted) in GRANTED {
        let is_granted = |subject: &str| {
            granted.iter().any(|pattern| match pattern.split_once("{}") {
                Some(_) => OURS.iter().any(|stream| pattern.replace("{}", stream) == subject),
                None if pattern.ends_with('.') => subject.starts_with(pattern) && !subject.ends_with(".more"),
                None => *pattern == subject,
            })
        };
        let (client, mut remarks) = listening(&server, user).await;
        for subject in subjects.iter().filter(|subject| !is_granted(subject)) {
            client.publish(subject.clone(), "{}".into()).await.unwrap();
            client.flush().await.unwrap();
            let remark = within(remarks.recv()).await.unwrap();
            assert!(remark.contains(subject), "{user} published to {subject}: {remark}");
            refused += 1;
        }
        for subject in [
            ">",
            "$JS.>",
            "churn.>",
            "churn.events.>",
            "churn.p.>",
            "churn.alerts.>",
            "$KV.>",
            "$SYS.>",
            "_INBOX_other.>",
        ] {
            let subscription = client.subscribe(subject).await.unwrap();
            client.flush().await.unwrap();
            let remark = within(remarks.recv()).await.unwrap();
            assert!(remark.to_lowercase().contains("subscription"), "{user} listens to {subject}: {remark}");
            drop(subscription);
            refused += 1;
        }
    }
    assert!(refused > 500, "only {refused} were tried");
}

/// A user's connection, and what the server remarks about it.
async fn listening(server: &Server, user: &str) -> (Client, mpsc::Receiver<String>) {
    let (sender, remarks) = mpsc::channel(64);
    let client = async_nats::ConnectOptions::new()
        .user_and_password(user.to_owned(), PART.to_owned())
        .event_callback(move |event| {
            let sender = sender.clone();
            async move {
                if let Event::ServerError(ServerError::Other(remark)) = event {
                    sender.send(remark).await.ok();
                }
            }
        })
        .connect(server.nats.url())
        .await
        .unwrap();
    (client, remarks)
}

#[test]
fn the_shipped_configurations_are_understood_by_the_server() {
    let tools = Tools::from_env("CHURND_NATS_SERVER", "CHURND_PG_BIN");
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/nats");
    for file in ["single-node.conf", "cluster-1.conf", "cluster-2.conf", "cluster-3.conf"] {
        let mut command = std::process::Command::new(tools.find_nats_server().unwrap());
        command.args(["-t", "-c", file]).current_dir(directory);
        for part in ["", "_BRIDGE", "_PROVISIONER", "_PUBLISHER", "_ALERTS", "_ROUTE"] {
            command.env(format!("CHURND_NATS{part}_PASSWORD"), "secret");
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{file}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
