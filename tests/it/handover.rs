//! One daemon after the other on the socket that systemd keeps, while clients go on at 500 requests a second: nobody is
//! refused, and no connection breaks.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use nix::sys::signal::Signal;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::support::{
    Cluster, Observer,
    daemon::{Builder, Daemon},
    eventually, http,
    manager::Manager,
};

const SOON: Duration = Duration::from_secs(90);
/// How long a client waits for an answer: as long as a daemon may take to come back.
const PATIENCE: Duration = Duration::from_secs(60);
/// Clients that keep their connection, each with so many requests a second.
const KEEPING: usize = 20;
const KEEPING_RATE: u64 = 15;
/// Requests a second on connections of their own.
const FRESH_RATE: u64 = 200;
const HANDOVERS: usize = 5;

/// What systemd does for a unit with a socket: the daemon finds it as its third descriptor, and its own id in the environment.
const AS_SYSTEMD_DOES: &str =
    "exec 3<&0 </dev/null; export LISTEN_FDS=1 LISTEN_FDNAMES=http LISTEN_PID=$$; exec \"$@\"";

/// How the clients fared.
#[derive(Default)]
struct Fates {
    sent: AtomicUsize,
    seen: Mutex<BTreeMap<String, usize>>,
}

impl Fates {
    fn note(&self, fate: String) {
        *self.seen.lock().unwrap().entry(fate).or_default() += 1;
    }

    fn of(&self, fate: &str) -> usize {
        self.seen.lock().unwrap().get(fate).copied().unwrap_or(0)
    }
}

/// Clients under way.
#[derive(Clone)]
struct Load {
    address: SocketAddr,
    key: Arc<str>,
    fates: Arc<Fates>,
    stop: CancellationToken,
}

impl Load {
    /// The next request's bytes; each tracks one event of its own.
    fn request(&self, close: bool) -> Vec<u8> {
        let number = self.fates.sent.fetch_add(1, Ordering::SeqCst);
        let body = json!({"customerId": format!("c{}", number % 500), "event": "login", "id": format!("h{number}")})
            .to_string();
        let connection = if close { "connection: close\r\n" } else { "" };
        let (key, length) = (&self.key, body.len());
        format!(
            "POST /api/track HTTP/1.1\r\nhost: churnd\r\n{connection}x-api-key: {key}\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n\r\n{body}"
        )
        .into_bytes()
    }

    /// Sends a request on a connection of its own, at each tick.
    async fn fresh(self, clients: TaskTracker) {
        let mut ticks = ticks(FRESH_RATE);
        while self.goes_on(&mut ticks).await {
            let load = self.clone();
            clients.spawn(async move {
                let fate = match connect(load.address).await {
                    Ok(mut stream) => exchange(&mut stream, &load.request(true)).await.map(|answer| answer.status),
                    Err(fate) => Err(fate),
                };
                load.fates.note(fate.unwrap_or_else(|fate| fate));
            });
        }
    }

    /// Sends its requests on one connection, and opens another one where an answer says that it was the last.
    async fn keeping(self) {
        let mut ticks = ticks(KEEPING_RATE);
        let mut kept: Option<TcpStream> = None;
        while self.goes_on(&mut ticks).await {
            let mut stream = match kept.take() {
                Some(stream) => stream,
                None => match connect(self.address).await {
                    Ok(stream) => stream,
                    Err(fate) => {
                        self.fates.note(fate);
                        continue;
                    }
                },
            };
            match exchange(&mut stream, &self.request(false)).await {
                Ok(answer) => {
                    self.fates.note(answer.status);
                    if answer.last {
                        self.fates.note("last answer of a connection".to_owned());
                    } else {
                        kept = Some(stream);
                    }
                }
                Err(fate) => self.fates.note(fate),
            }
        }
    }

    async fn goes_on(&self, ticks: &mut tokio::time::Interval) -> bool {
        tokio::select! {
            () = self.stop.cancelled() => false,
            _ = ticks.tick() => true,
        }
    }
}

/// An answer, as far as it matters here.
struct Answer {
    status: String,
    /// Whether the connection ends with it.
    last: bool,
}

fn ticks(rate: u64) -> tokio::time::Interval {
    let mut ticks = interval(Duration::from_micros(1_000_000 / rate));
    // What could not be sent in time is sent later: as many requests come about, whatever the machine is busy with.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    ticks
}

async fn connect(address: SocketAddr) -> Result<TcpStream, String> {
    match timeout(PATIENCE, TcpStream::connect(address)).await {
        Ok(connected) => connected.map_err(|error| format!("not connected: {:?}", error.kind())),
        Err(_) => Err("not connected in time".to_owned()),
    }
}

/// Sends a request and reads its whole answer.
async fn exchange(stream: &mut TcpStream, request: &[u8]) -> Result<Answer, String> {
    let talking = async {
        stream.write_all(request).await.map_err(|error| format!("not sent: {:?}", error.kind()))?;
        let (mut read, mut part) = (Vec::new(), [0; 4_096]);
        loop {
            let length = stream.read(&mut part).await.map_err(|error| format!("not answered: {:?}", error.kind()))?;
            if length == 0 {
                return Err("closed without an answer".to_owned());
            }
            read.extend(&part[..length]);
            if let Some(answer) = whole(&read) {
                return Ok(answer);
            }
        }
    };
    timeout(PATIENCE, talking).await.unwrap_or_else(|_| Err("not answered in time".to_owned()))
}

fn whole(read: &[u8]) -> Option<Answer> {
    let end = read.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&read[..end]).ok()?.to_ascii_lowercase();
    let length = head.split("content-length: ").nth(1)?.lines().next()?.parse::<usize>().ok()?;
    let answer = Answer { status: head.split(' ').nth(1)?.to_owned(), last: head.contains("\r\nconnection: close") };
    (read.len() >= end + 4 + length).then_some(answer)
}

/// A daemon on a socket that outlives it.
fn on_socket(cluster: &Cluster, socket: &std::net::TcpListener) -> Builder {
    let churnd = env!("CARGO_BIN_EXE_churnd");
    let passed = OwnedFd::from(socket.try_clone().unwrap());
    Daemon::builder_of("sh", &["-c", AS_SYSTEMD_DOES, "sh", churnd, "run"], cluster, "one")
        // Here all clients have one address.
        .setting("CHURND__HTTP__MAX_CONNECTIONS_PER_CLIENT", "50000")
        .setting("CHURND__HTTP__MAX_CONNECTIONS", "50000")
        .with_input(passed)
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_refused_while_one_daemon_follows_the_other() {
    let cluster = Cluster::start().await;
    let observer = Observer::of(&cluster).await;
    let key = cluster.command(&["key", "add", "--account", "acme", "--kind", "secret"]).await;
    // As churnd.socket has it.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let socket = socket.listen(4_096).unwrap().into_std().unwrap();
    let address = socket.local_addr().unwrap();
    let manager = Manager::listen();
    let start = || manager.starts(on_socket(&cluster, &socket), Duration::from_secs(30));

    let mut daemon = start().start().await;
    assert_eq!(daemon.address(), address, "it listens on the socket that was passed");
    let load = Load { address, key: key.trim().into(), fates: Arc::default(), stop: CancellationToken::new() };
    let clients = TaskTracker::new();
    clients.spawn(load.clone().fresh(clients.clone()));
    (0..KEEPING).for_each(|_| drop(clients.spawn(load.clone().keeping())));
    let answered = async |more: usize| {
        let before = load.fates.of("202");
        eventually(SOON, async || match load.fates.of("202") - before {
            came if came >= more => Ok(()),
            came => Err(format!("{came} more were answered")),
        })
        .await;
    };
    answered(1_000).await;
    let (mut heard, mut queued) = (0, Vec::new());
    for _ in 0..HANDOVERS {
        assert_eq!(daemon.stop().await.code(), Some(0), "{}", daemon.log().text());
        heard = manager.hears("STOPPING=1", heard, SOON).await;
        // Nobody listens now; the kernel keeps those who come.
        let (sent, done) = (load.fates.sent.load(Ordering::SeqCst), load.fates.of("202"));
        eventually(SOON, async || match load.fates.sent.load(Ordering::SeqCst) - sent {
            came if came >= 50 => Ok(()),
            came => Err(format!("{came} were sent")),
        })
        .await;
        queued.push(load.fates.sent.load(Ordering::SeqCst) - done);
        daemon = start().start().await;
        answered(500).await;
    }
    load.stop.cancel();
    clients.close();
    timeout(SOON, clients.wait()).await.expect("all clients hear something");
    let seen = load.fates.seen.lock().unwrap().clone();
    println!("{HANDOVERS} hand-overs, {} requests: {seen:?}; waiting at the starts: {queued:?}", load.fates.of("202"));
    let good = ["202", "last answer of a connection"];
    let bad: BTreeMap<_, _> = seen.iter().filter(|(fate, _)| !good.contains(&fate.as_str())).collect();
    assert!(bad.is_empty(), "{bad:?}");
    assert_eq!(load.fates.of("202"), load.fates.sent.load(Ordering::SeqCst));
    assert!(load.fates.of("last answer of a connection") >= KEEPING, "kept connections are told when they end");
    observer.caught_up(SOON).await;
    assert_eq!(
        observer.count("CHURN_EVENTS").await.unwrap(),
        u64::try_from(load.fates.of("202")).unwrap(),
        "what was answered is in the stream, once"
    );
}

#[tokio::test]
async fn the_service_manager_hears_of_each_step_in_order() {
    let cluster = Cluster::start().await;
    let manager = Manager::listen();
    // With the time for a connection to end that keeps quiet.
    let builder = Daemon::builder(&cluster, "one").setting("CHURND__SHUTDOWN__DEADLINE_SECONDS", "90");
    let mut daemon = manager.starts(builder, Duration::from_millis(300)).start().await;
    let started = manager.hears("EXTEND_TIMEOUT_USEC=", 0, SOON).await;
    let ready = manager.hears("READY=1", started, SOON).await;
    // Idle is healthy: the signs of life go on without an event.
    let alive = manager.signs_of_life();
    eventually(SOON, async || if manager.signs_of_life() > alive + 5 { Ok(()) } else { Err("no signs of life") }).await;
    daemon.signal(Signal::SIGHUP);
    let reloading = manager.hears("RELOADING=1", ready, SOON).await;
    let since = manager.hears("MONOTONIC_USEC=", reloading, SOON).await;
    assert_eq!(since, reloading + 1, "in the same message: {:?}", manager.heard());
    let ready = manager.hears("READY=1", since, SOON).await;
    assert_eq!(http::get(daemon.address(), "/readyz").await.unwrap().status, 200);
    assert_eq!(daemon.stop().await.code(), Some(0));
    let stopping = manager.hears("STOPPING=1", ready, SOON).await;
    let extended = manager.heard()[stopping].strip_prefix("EXTEND_TIMEOUT_USEC=").unwrap().parse::<u64>().unwrap();
    assert!(extended > 90_000_000, "the unit waits for the deadline that was set: {extended}");
    let steps = |line: &&String| ["READY=1", "RELOADING=1", "STOPPING=1"].contains(&line.as_str());
    let heard = manager.heard();
    let steps: Vec<&String> = heard.iter().filter(steps).collect();
    assert_eq!(steps, ["READY=1", "RELOADING=1", "READY=1", "STOPPING=1"]);
}

#[tokio::test]
async fn a_pipeline_that_is_stuck_while_its_servers_answer_gives_no_sign_of_life() {
    let cluster = Cluster::start().await;
    let observer = Observer::of(&cluster).await;
    let manager = Manager::listen();
    let builder = Daemon::builder(&cluster, "one").setting("CHURND__WATCHDOG__STUCK_AFTER_SECONDS", "1");
    let daemon = manager.starts(builder, Duration::from_millis(600)).start().await;
    let working = manager.hears("STATUS=working", 0, SOON).await;
    // Somebody holds a table, as a careless ALTER TABLE would; both servers go on answering.
    let mut other = cluster.sql().await;
    let holding = other.transaction().await.unwrap();
    holding.batch_execute("LOCK TABLE customer_states IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let feed = crate::support::Feed::open(&cluster).await;
    feed.event("held", &json!({"event": "payment_failed", "id": "held"})).await;
    let stuck = manager.hears("STATUS=no progress for", working, SOON).await;
    assert!(!manager.heard()[stuck - 1].contains("answer"), "no server is to blame: {:?}", manager.heard());
    let alive = manager.signs_of_life();
    // The words change with each beat, and no sign of life comes with them.
    let still = manager.hears("STATUS=no progress for", stuck, SOON).await;
    assert_eq!(manager.signs_of_life(), alive, "{:?}", manager.heard());
    assert_eq!(http::get(daemon.address(), "/readyz").await.unwrap().status, 503);
    assert_eq!(http::get(daemon.address(), "/livez").await.unwrap().status, 200);
    holding.rollback().await.unwrap();
    let working = manager.hears("STATUS=working", still, SOON).await;
    manager.hears("WATCHDOG=1", working, SOON).await;
    observer.caught_up(SOON).await;
    assert_eq!(observer.risk("held", None).await.unwrap()["score"], 40);
}
