//! Backup and restore as the README tells it: a Postgres of yesterday catches up from the stream, and a stream of yesterday is
//! noticed. States end as the model has them.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::{
    model::traffic::Traffic,
    support::{
        Cluster, Feed, Observer,
        cluster::tools,
        daemon::Daemon,
        eventually,
        invariants::{Expected, violations_after_restore},
        now,
        storm::outgoing,
    },
};

const SOON: Duration = Duration::from_secs(90);

/// One of Postgres' own programs, in the server's version.
fn program(name: &str) -> PathBuf {
    let beside = tools().find_postgres().unwrap().join(name);
    if beside.exists() { beside } else { PathBuf::from(name) }
}

#[track_caller]
fn run(name: &str, arguments: &[&str]) {
    let output = Command::new(program(name)).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{name}: {error}: install the system's postgresql-client"));
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
}

fn busy(cluster: &Cluster) -> crate::support::daemon::Builder {
    Daemon::builder(cluster, "one")
        .setting("CHURND__PIPELINE__CHECKPOINT_INTERVAL_MS", "20")
        .setting("CHURND__PIPELINE__CATCH_UP_CHECKPOINT_MS", "20")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_an_earlier_moment_catches_up_from_the_stream() {
    let mut cluster = Cluster::start().await;
    let feed = Feed::open(&cluster).await;
    let until = now();
    let traffic = Traffic::draw(31, 12_000, 800, until);
    let mut daemon = busy(&cluster).start().await;
    let mut parts = traffic.sent.chunks(traffic.sent.len().div_ceil(3)).map(outgoing);
    feed.send_all(parts.next().unwrap()).await;
    // While it works: the dump is of one moment, states and watermarks of the same.
    let backup = cluster.dir().join("churnd.dump");
    let (url, file) = (cluster.superuser_url(), backup.clone());
    let dumping = tokio::task::spawn_blocking(move || {
        run("pg_dump", &["--format=custom", "--file", file.to_str().unwrap(), &url]);
    });
    let (_, dumped) = tokio::join!(feed.send_all(parts.next().unwrap()), dumping);
    dumped.unwrap();
    feed.send_all(parts.next().unwrap()).await;
    let last = Observer::of(&cluster).await.caught_up(SOON).await;
    daemon.kill();

    cluster.database = format!("restored_{}", uuid::Uuid::new_v4().simple());
    cluster.postgres().create_database(&cluster.database, None).await.unwrap();
    run("pg_restore", &["--exit-on-error", "--dbname", &cluster.superuser_url(), backup.to_str().unwrap()]);
    let observer = Observer::of(&cluster).await;
    let behind = observer.watermarks().await.unwrap();
    let oldest = *behind.iter().min().unwrap();
    assert!(behind.len() == 16 && oldest < last, "the backup is as new as what was lost: {behind:?} of {last}");
    let _daemon = busy(&cluster).start().await;
    observer.caught_up(SOON).await;
    println!("the backup stood at {oldest} of {last}");
    let expected = Expected { histories: &traffic.histories, messages: traffic.messages(), as_of: until };
    let found = violations_after_restore(&observer, &expected).await.unwrap();
    assert!(found.is_empty(), "{found:#?}");
}

fn copy(from: &Path, to: &Path) {
    let output = Command::new("cp").args(["-a", from.to_str().unwrap(), to.to_str().unwrap()]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

async fn archived_up_to(observer: &Observer<'_>, sequence: u64) {
    eventually(SOON, async || {
        let found = observer.number("SELECT watermark FROM partitions WHERE role = 'archive'").await.unwrap();
        if found.unsigned_abs() == sequence { Ok(()) } else { Err(format!("archived up to {found} of {sequence}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_an_earlier_moment_is_noticed_and_what_is_sent_again_counts_once() {
    let cluster = Cluster::start_durable().await;
    let (feed, observer) = (Feed::open(&cluster).await, Observer::of(&cluster).await);
    let until = now();
    let mut traffic = Traffic::draw(37, 3_000, 400, until);
    // Those of whom all ids are known: of who has more, what is read again would count again.
    traffic.histories.retain(|_, history| history.len() <= 16);
    traffic.sent.retain(|sent| traffic.histories.contains_key(&sent.customer));
    let mut daemon = busy(&cluster).start().await;
    let (before, after) = traffic.sent.split_at(traffic.sent.len() / 2);
    feed.send_all(outgoing(before)).await;
    observer.caught_up(SOON).await;
    cluster.nats.stop();
    let (store, backup) = (cluster.nats.store_dir(), cluster.dir().join("nats-backup"));
    copy(&store, &backup);
    cluster.nats.restart().unwrap();
    feed.send_all(outgoing(after)).await;
    let lost = observer.caught_up(SOON).await;
    archived_up_to(&observer, lost).await;
    assert_eq!(daemon.stop().await.code(), Some(0));
    let archived = observer.number("SELECT count(*) FROM events").await.unwrap();

    // The second half is lost to the stream, and its publishers send it again.
    cluster.nats.stop();
    std::fs::remove_dir_all(&store).unwrap();
    copy(&backup, &store);
    cluster.nats.restart().unwrap();
    let kept = observer.last_sequence("CHURN_EVENTS").await.unwrap();
    assert!(kept < lost, "nothing was lost: {kept} of {lost}");
    let daemon = busy(&cluster).start().await;
    eventually(SOON, async || {
        let text = daemon.log().text();
        if text.contains("was rolled back: reading again") { Ok(()) } else { Err("no word of it yet") }
    })
    .await;
    feed.send_all(outgoing(after)).await;
    let last = observer.caught_up(SOON).await;
    let newest = format!("SELECT count(*) FROM events WHERE sequence = {last}");
    let (lost_too, of_both) =
        (u64::from(last <= lost), "the last message is archived, and the one that was lost there");
    eventually(SOON, async || {
        let found = observer.number(&newest).await.unwrap().unsigned_abs();
        if found == 1 + lost_too { Ok(()) } else { Err(format!("{found}: {of_both}")) }
    })
    .await;
    let again = observer.number("SELECT count(*) FROM events").await.unwrap() - archived;
    assert_eq!(
        u64::try_from(again).unwrap(),
        last - kept,
        "what was sent again is in the archive once more, and no more"
    );
    let expected = Expected { histories: &traffic.histories, messages: traffic.messages(), as_of: until };
    // What was counted twice was counted as repeated.
    let found = violations_after_restore(&observer, &expected).await.unwrap();
    let found: Vec<&String> = found.iter().filter(|found| !found.contains("accounted for")).collect();
    assert!(found.is_empty(), "{found:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_was_made_anew_is_read_from_its_beginning() {
    let cluster = Cluster::start().await;
    let (feed, observer) = (Feed::open(&cluster).await, Observer::of(&cluster).await);
    let until = now();
    let traffic = Traffic::draw(41, 3_000, 400, until);
    let (before, after) = traffic.sent.split_at(traffic.sent.len() / 2);
    let mut daemon = busy(&cluster).start().await;
    feed.send_all(outgoing(before)).await;
    let first = observer.caught_up(SOON).await;
    archived_up_to(&observer, first).await;
    assert_eq!(daemon.stop().await.code(), Some(0));

    observer.jetstream().delete_stream("CHURN_EVENTS").await.unwrap();
    cluster.command(&["provision"]).await;
    feed.send_all(outgoing(after)).await;
    let daemon = busy(&cluster).start().await;
    let second = observer.last_sequence("CHURN_EVENTS").await.unwrap();
    eventually(SOON, async || {
        let watermarks = observer.watermarks().await.unwrap();
        if watermarks.iter().all(|watermark| *watermark == second) { Ok(()) } else { Err(format!("{watermarks:?}")) }
    })
    .await;
    archived_up_to(&observer, second).await;
    assert!(daemon.log().text().contains("was created anew"));
    let archived = observer.number("SELECT count(*) FROM events").await.unwrap();
    assert_eq!(u64::try_from(archived).unwrap(), first + second, "each message stands in the archive once");
    let expected = Expected { histories: &traffic.histories, messages: traffic.messages(), as_of: until };
    let found = violations_after_restore(&observer, &expected).await.unwrap();
    // The stream holds the second half alone.
    let found: Vec<&String> = found.iter().filter(|found| !found.contains("the stream holds")).collect();
    assert!(found.is_empty(), "{found:#?}");
}
