//! Twice as many partitions while events flow: nothing is lost or doubled, whoever is killed or asleep at whatever step.

use std::{process::Stdio, time::Duration};

use churnd::{
    config::{Config, Sources},
    event::subject::partition_of,
    pipeline::doubling::{Doubling, Refusal, Step},
    store::Store,
};

use crate::{
    model::traffic::Traffic,
    support::{
        Cluster, Feed, Observer,
        daemon::{Builder, Daemon},
        eventually,
        invariants::{Expected, violations},
        now,
        storm::outgoing,
    },
};

const SOON: Duration = Duration::from_secs(60);
const EVENTS: usize = 24_000;
const CUSTOMERS: usize = 400;

fn instance(cluster: &Cluster, name: &str) -> Builder {
    Daemon::builder(cluster, name)
        .setting("CHURND__POSTGRES__LEASE_SECONDS", "2")
        .setting("CHURND__PIPELINE__CHECKPOINT_INTERVAL_MS", "100")
        .setting("CHURND__PIPELINE__SETTLE_SECONDS", "1")
}

fn store(cluster: &Cluster) -> Store {
    let config = Config::load(&Sources { environment: cluster.settings(), ..Sources::default() }).unwrap();
    Store::connect(&config.postgres).unwrap()
}

/// The way to a number as a command that was only just started sees it: nothing is kept between two steps.
async fn step(cluster: &Cluster, to: u16) -> Step {
    let settle = Duration::from_millis(200);
    let mut doubling = Doubling::plan(store(cluster), cluster.jetstream().await, to, settle).await.unwrap();
    doubling.step().await.unwrap()
}

/// Waits until all partitions are owned, by whomever.
async fn owned(observer: &Observer<'_>, number: usize) {
    eventually(SOON, async || {
        let owners = observer.owners().await?;
        let (all, free) = (owners.values().sum::<usize>(), owners.get("").copied().unwrap_or_default());
        if (all, free) == (number, 0) { Ok(()) } else { Err(format!("{owners:?}")) }
    })
    .await;
}

async fn in_the_midst(observer: &Observer<'_>) {
    eventually(SOON, async || if observer.is_caught_up().await.is_ok() { Err("nothing has come yet") } else { Ok(()) })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_are_doubled_twice_under_load_while_everybody_is_killed_or_asleep() {
    let cluster = Cluster::start().await;
    let (feed, observer) = (Feed::open(&cluster).await, Observer::of(&cluster).await);
    let until = now();
    let traffic = Traffic::draw(11, EVENTS, CUSTOMERS, until);
    let mut parts = traffic.sent.chunks(traffic.sent.len().div_ceil(8)).map(outgoing);
    let mut one = instance(&cluster, "one").start().await;
    let mut two = instance(&cluster, "two").start().await;
    owned(&observer, 16).await;

    // Split, with one asleep that reads by the old number and wakes when all is over; the other is killed upon it.
    let splitting = async {
        in_the_midst(&observer).await;
        one.freeze();
        assert_eq!(step(&cluster, 32).await, Step::Split);
        two.kill();
    };
    tokio::join!(feed.send_all(parts.next().unwrap()), splitting);
    let told = doctor(&cluster).await;
    assert!(told.contains("doubling to 32 partitions is not over"), "{told}");
    assert!(told.contains("(at most, while partitions are doubled)"), "{told}");
    let mut two = instance(&cluster, "two").start().await;
    // The stream numbers anew in the midst of the flow, and who places events by the old numbers is killed.
    let numbering = async {
        in_the_midst(&observer).await;
        assert_eq!(step(&cluster, 32).await, Step::Numbered);
        two.kill();
    };
    tokio::join!(feed.send_all(parts.next().unwrap()), numbering);
    one.thaw();
    let mut two = instance(&cluster, "two").start().await;
    let settling = async {
        in_the_midst(&observer).await;
        assert!(matches!(step(&cluster, 32).await, Step::Settled(_)));
        one.kill();
    };
    tokio::join!(feed.send_all(parts.next().unwrap()), settling);
    let one = instance(&cluster, "one").start().await;
    let labelling = async {
        let mut doubling =
            Doubling::plan(store(&cluster), cluster.jetstream().await, 32, Duration::from_millis(200)).await.unwrap();
        while let Step::Labelled { .. } = doubling.step().await.unwrap() {}
        assert_eq!(doubling.step().await.unwrap(), Step::Done);
        two.kill();
    };
    tokio::join!(feed.send_all(parts.next().unwrap()), labelling);
    let two = instance(&cluster, "two").start().await;
    owned(&observer, 32).await;

    // Again, by the command, killed after each line that it says, with an instance asleep past its lease each time.
    let mut killed = 0;
    for part in parts.by_ref().take(3) {
        let sleeper = if killed % 2 == 0 { &one } else { &two };
        let doubling = async {
            in_the_midst(&observer).await;
            sleeper.freeze();
            killed += usize::from(!command_until_a_line(&cluster).await);
            sleeper.thaw();
        };
        tokio::join!(feed.send_all(part), doubling);
    }
    assert!(killed > 0);
    tokio::join!(feed.send_all(parts.next().unwrap()), cluster.command(&["partitions", "64", "--settle", "1"]));
    assert!(parts.next().is_none());

    owned(&observer, 64).await;
    observer.caught_up(SOON).await;
    eventually(SOON, async || match doctor(&cluster).await {
        told if told.contains("all 64 owned, by 2 instances\n") && told.contains("every event has been scored") => {
            Ok(())
        }
        told => Err(told),
    })
    .await;
    let expected = Expected { histories: &traffic.histories, messages: traffic.messages(), as_of: until };
    let found = violations(&observer, &expected).await.unwrap();
    assert!(found.is_empty(), "{found:#?}");
    for row in observer.rows("SELECT partition, account, token FROM customer_states", &[]).await.unwrap() {
        let (label, account, token) = (row.get::<_, i16>(0), row.get::<_, &str>(1), row.get::<_, &str>(2));
        assert_eq!(partition_of(account, token, 64).0, u16::try_from(label).unwrap(), "{token}");
    }
    let numbers = observer.messages("CHURN_EVENTS").await.unwrap();
    let number = |subject: &str| subject.split('.').nth(2).unwrap().parse::<u16>().unwrap();
    for least in [16, 32] {
        assert!(
            numbers.iter().any(|message| number(&message.subject) >= least),
            "nothing was numbered {least} and more"
        );
    }
}

/// What the doctor says, whatever he finds.
async fn doctor(cluster: &Cluster) -> String {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_churnd"));
    let output = command.arg("doctor").envs(cluster.settings()).stdin(Stdio::null()).output().await.unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// Runs the command to 64 and kills it after the first line it says; `true` if it ended by itself.
async fn command_until_a_line(cluster: &Cluster) -> bool {
    use tokio::io::{AsyncBufReadExt as _, BufReader};
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_churnd"));
    command.args(["partitions", "64", "--settle", "1"]).envs(cluster.settings()).kill_on_drop(true);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let line = BufReader::new(child.stdout.take().unwrap()).lines().next_line().await.unwrap().unwrap();
    println!("the command said: {line}");
    child.kill().await.unwrap();
    line.starts_with("done")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_refused_and_what_the_settings_say_is_no_error_afterwards() {
    let cluster = Cluster::start().await;
    let (feed, observer) = (Feed::open(&cluster).await, Observer::of(&cluster).await);
    let plan = async |to| {
        let planned = Doubling::plan(store(&cluster), cluster.jetstream().await, to, Duration::ZERO).await;
        planned.err().and_then(|error| error.downcast::<Refusal>().ok())
    };
    assert_eq!(plan(32).await, Some(Refusal::NothingThere));
    let mut one = instance(&cluster, "one").start().await;
    owned(&observer, 16).await;
    for number in [8, 17, 48, 64] {
        assert_eq!(plan(number).await, Some(Refusal::NotDoubled { number: 16 }), "{number}");
    }
    feed.send_all(outgoing(&Traffic::draw(5, 500, 50, now()).sent)).await;
    assert_eq!(step(&cluster, 32).await, Step::Split);
    assert_eq!(plan(64).await, Some(Refusal::Changing { number: 32 }));
    let said = cluster.command(&["partitions"]).await;
    assert!(said.starts_with("32 partitions are in force; the stream numbers by 16\na doubling is not over"), "{said}");
    let said = cluster.command(&["partitions", "32", "--settle", "0"]).await;
    assert!(said.contains("numbered") && said.contains("settled") && said.ends_with("done: 32 partitions\n"), "{said}");
    assert_eq!(cluster.command(&["partitions", "32"]).await, "done: 32 partitions\n");
    owned(&observer, 32).await;
    observer.caught_up(SOON).await;

    // The settings still say 16: that is what the installation began with.
    let said = cluster.command(&["provision"]).await;
    assert!(said.contains("nothing to do"), "{said}");
    assert_eq!(one.stop().await.code(), Some(0));
    let mut one = instance(&cluster, "one").start().await;
    owned(&observer, 32).await;
    assert_eq!(one.stop().await.code(), Some(0));

    // Somebody changed the stream back: whoever starts says what to do, and that repairs it.
    churnd::stream::numbering::set(&cluster.jetstream().await, 16).await.unwrap();
    let mut refused = instance(&cluster, "one").spawn();
    assert_ne!(refused.ended(SOON).await.code(), Some(0));
    let log = refused.log().text();
    assert!(log.contains("run `churnd partitions 32`"), "{log}");
    feed.send_all(outgoing(&Traffic::draw(6, 500, 50, now()).sent)).await;
    assert_eq!(plan(64).await, Some(Refusal::OtherNumbering { number: 32, found: Some(16) }));
    let said = cluster.command(&["partitions", "32", "--settle", "0"]).await;
    assert!(said.starts_with("the stream numbers otherwise"), "{said}");
    let _one = instance(&cluster, "one").start().await;
    let _two = instance(&cluster, "two").start().await;
    feed.send_all(outgoing(&Traffic::draw(7, 500, 50, now()).sent)).await;
    observer.caught_up(SOON).await;
    let counted = "SELECT sum(received)::bigint FROM partitions WHERE role = 'engine'";
    let held = observer.count("CHURN_EVENTS").await.unwrap();
    assert_eq!(u64::try_from(observer.number(counted).await.unwrap()), Ok(held));
}
