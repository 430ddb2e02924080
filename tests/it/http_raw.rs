//! HTTP against the rules: requests that can be read in two ways, clients that dawdle, bodies that swell, floods. Nothing of it
//! takes effect, the daemon does not grow, and everybody else is served meanwhile.

use std::{
    io::Write as _,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use flate2::{Compression, write::GzEncoder};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use crate::support::{
    Cluster, Observer,
    cluster::ACCOUNT,
    daemon::Daemon,
    http,
    raw::{connect_from, exchange, statuses, until_closed},
};

/// A daemon that serves HTTP alone, with a secret key.
async fn bridge(cluster: &Cluster, settings: &[(&str, &str)]) -> (Daemon, String) {
    let mut builder = Daemon::builder(cluster, "one").setting("CHURND__ROLES", "bridge");
    for (name, value) in settings {
        builder = builder.setting(name, value);
    }
    let daemon = builder.start().await;
    let key = cluster.command(&["key", "add", "--account", ACCOUNT, "--kind", "secret"]).await;
    (daemon, key.trim().to_owned())
}

/// A whole request that tracks an event of `customer`.
fn tracking(customer: &str, key: &str) -> String {
    let body = json!({"customerId": customer, "event": "login"}).to_string();
    let length = body.len();
    format!("POST /api/track HTTP/1.1\r\nHost: churnd\r\nX-Api-Key: {key}\r\nContent-Length: {length}\r\n\r\n{body}")
}

/// Ways to hide one request in another: a name, and the bytes around `SMUGGLED`; `HEAD` is a request line, a host and a key.
const CORPUS: &[(&str, &str)] = &[
    ("length then chunked", "HEADContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nSMUGGLED"),
    ("chunked then length", "HEADTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\nSMUGGLED"),
    ("chunked then length of all", "HEADTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\nSMUGGLED"),
    ("two lengths that differ", "HEADContent-Length: 0\r\nContent-Length: 5\r\n\r\nSMUGGLED"),
    ("two lengths that agree", "HEADContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}SMUGGLED"),
    ("a list of lengths", "HEADContent-Length: 2, 2\r\n\r\n{}SMUGGLED"),
    ("a length with a sign", "HEADContent-Length: +2\r\n\r\n{}SMUGGLED"),
    ("a negative length", "HEADContent-Length: -1\r\n\r\nSMUGGLED"),
    ("a hexadecimal length", "HEADContent-Length: 0x2\r\n\r\n{}SMUGGLED"),
    ("an empty length", "HEADContent-Length:\r\n\r\nSMUGGLED"),
    ("a length too long", "HEADContent-Length: 18446744073709551618\r\n\r\n{}SMUGGLED"),
    ("a length with a space inside", "HEADContent-Length: 2 0\r\n\r\n{}SMUGGLED"),
    ("xchunked", "HEADTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\nSMUGGLED"),
    ("chunked twice in one", "HEADTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\nSMUGGLED"),
    ("chunked twice", "HEADTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nSMUGGLED"),
    ("chunked and identity", "HEADTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\nSMUGGLED"),
    ("gzip, chunked", "HEADTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\nSMUGGLED"),
    ("identity", "HEADTransfer-Encoding: identity\r\n\r\nSMUGGLED"),
    ("chunked in quotes", "HEADTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\nSMUGGLED"),
    ("a space before the colon", "HEADTransfer-Encoding : chunked\r\n\r\n0\r\n\r\nSMUGGLED"),
    ("a tab before the colon", "HEADContent-Length\t: 0\r\n\r\nSMUGGLED"),
    ("a folded value", "HEADTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\nSMUGGLED"),
    ("a folded field", "HEADX: y\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nSMUGGLED"),
    ("a vertical tab in the value", "HEADTransfer-Encoding: \u{b}chunked\r\n\r\n0\r\n\r\nSMUGGLED"),
    ("a NUL in the value", "HEADTransfer-Encoding: chunked\0\r\n\r\n0\r\n\r\nSMUGGLED"),
    ("a bare line feed", "HEADX: y\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nSMUGGLED"),
    (
        "a head of bare line feeds",
        "POST /api/track HTTP/1.1\nHost: churnd\nX-Api-Key: KEY\nContent-Length: 0\n\nSMUGGLED",
    ),
    ("a bare carriage return", "HEADX: y\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nSMUGGLED"),
    ("a field without a colon", "HEADTransfer-Encoding chunked\r\n\r\n0\r\n\r\nSMUGGLED"),
    ("a name with a foreign letter", "HEADTransf\u{e9}r-Encoding: chunked\r\n\r\n0\r\n\r\nSMUGGLED"),
    (
        "chunked in HTTP/1.0",
        "POST /api/track HTTP/1.0\r\nConnection: keep-alive\r\nX-Api-Key: KEY\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nSMUGGLED",
    ),
    ("no host", "POST /api/track HTTP/1.1\r\nX-Api-Key: KEY\r\nContent-Length: 0\r\n\r\nSMUGGLED"),
    ("two hosts", "HEADHost: other\r\nContent-Length: 0\r\n\r\nSMUGGLED"),
    ("a host that is a path", "POST /api/track HTTP/1.1\r\nHost: churnd/x\r\nContent-Length: 0\r\n\r\nSMUGGLED"),
    ("HTTP/1.2", "POST /api/track HTTP/1.2\r\nHost: churnd\r\nContent-Length: 0\r\n\r\nSMUGGLED"),
    ("HTTP/0.9", "GET /livez\r\nSMUGGLED"),
    (
        "two spaces in the request line",
        "POST  /api/track HTTP/1.1\r\nHost: churnd\r\nContent-Length: 0\r\n\r\nSMUGGLED",
    ),
    (
        "a space before the request line",
        " POST /api/track HTTP/1.1\r\nHost: churnd\r\nContent-Length: 0\r\n\r\nSMUGGLED",
    ),
    ("CONNECT", "CONNECT churnd:80 HTTP/1.1\r\nHost: churnd\r\n\r\nSMUGGLED"),
    ("a chunk with a sign", "HEADTransfer-Encoding: chunked\r\n\r\n+2\r\n{}\r\n0\r\n\r\nSMUGGLED"),
    ("a chunk of 0x", "HEADTransfer-Encoding: chunked\r\n\r\n0x2\r\n{}\r\n0\r\n\r\nSMUGGLED"),
    ("a chunk too long", "HEADTransfer-Encoding: chunked\r\n\r\n10000000000000002\r\n{}\r\n0\r\n\r\nSMUGGLED"),
    ("a line feed in an extension", "HEADTransfer-Encoding: chunked\r\n\r\n2;x\n{}\r\n0\r\n\r\nSMUGGLED"),
    ("a carriage return in an extension", "HEADTransfer-Encoding: chunked\r\n\r\n2;\rx\r\n{}\r\n0\r\n\r\nSMUGGLED"),
    ("a chunk longer than it says", "HEADTransfer-Encoding: chunked\r\n\r\n1\r\n{}\r\n0\r\n\r\nSMUGGLED"),
    ("a chunk without an end", "HEADTransfer-Encoding: chunked\r\n\r\n2\r\n{}0\r\n\r\nSMUGGLED"),
    ("a space behind a chunk's size", "HEADTransfer-Encoding: chunked\r\n\r\n0 \r\n\r\nSMUGGLED"),
    ("a length as trailer", "HEADTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 500\r\n\r\nSMUGGLED"),
    ("a trailer with a space before the colon", "HEADTransfer-Encoding: chunked\r\n\r\n0\r\nX : y\r\n\r\nSMUGGLED"),
];

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_smuggled_in() {
    assert!(CORPUS.len() >= 45);
    let cluster = Cluster::start().await;
    let (daemon, key) = bridge(&cluster, &[]).await;
    let head = format!("POST /api/track HTTP/1.1\r\nHost: churnd\r\nX-Api-Key: {key}\r\n");
    for (name, bytes) in CORPUS {
        let attack = bytes.replace("HEAD", &head).replace("KEY", &key).replace("SMUGGLED", &tracking("smuggled", &key));
        let answers = exchange(daemon.address(), attack.as_bytes()).await;
        assert!(matches!(statuses(&answers)[..], [] | [400]), "{name}: {answers}");
        // Behind a good request, which is answered first, and in two pieces.
        let mut stream = TcpStream::connect(daemon.address()).await.unwrap();
        let (first, second) = attack.split_at(attack.len() / 2);
        stream.write_all(format!("{}{first}", tracking("good", &key)).as_bytes()).await.unwrap();
        tokio::task::yield_now().await;
        drop(stream.write_all(second.as_bytes()).await);
        let answers = until_closed(&mut stream).await;
        assert!(matches!(statuses(&answers)[..], [202] | [202, 400]), "behind a good one, {name}: {answers}");
    }
    let last = tracking("good", &key).replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    let answers = exchange(daemon.address(), last.as_bytes()).await;
    assert_eq!(statuses(&answers), [202], "the request that is smuggled works by itself");
    let stored = Observer::of(&cluster).await.messages("CHURN_EVENTS").await.unwrap();
    assert_eq!(stored.len(), CORPUS.len() + 1);
    assert!(stored.iter().all(|message| message.subject.ends_with(".good")), "something was smuggled in");
}

/// How long one good request takes.
async fn request_takes(address: SocketAddr, key: &str) -> Duration {
    let begun = Instant::now();
    let answer = http::post_json(address, "/api/track", key, &json!({"customerId": "good", "event": "login"})).await;
    assert_eq!(answer.unwrap().status, 202);
    begun.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn dawdlers_are_cut_off_and_others_served_meanwhile() {
    const DAWDLERS: usize = 200;
    let cluster = Cluster::start().await;
    let (daemon, key) = bridge(
        &cluster,
        &[("CHURND__HTTP__HEADER_READ_TIMEOUT_SECONDS", "2"), ("CHURND__HTTP__BODY_READ_TIMEOUT_SECONDS", "2")],
    )
    .await;
    let address = daemon.address();
    let head = format!("POST /api/track HTTP/1.1\r\nHost: churnd\r\nX-Api-Key: {key}\r\n");
    let slow_head = format!("{head}X-Slow: ");
    let slow_body = format!("{head}Content-Length: 1000\r\n\r\n{{\"customerId\": \"");
    let slow_chunks = format!("{head}Transfer-Encoding: chunked\r\n\r\n1\r\n{{\r\n");
    for (begin, drop_of, expected) in
        [("", "", &[][..]), (&slow_head, "x", &[]), (&slow_body, "x", &[408]), (&slow_chunks, "1\r\nx\r\n", &[408])]
    {
        let dawdle = || async {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(begin.as_bytes()).await.unwrap();
            let (mut reading, mut writing) = stream.into_split();
            let dripping = async move {
                while writing.write_all(drop_of.as_bytes()).await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                std::future::pending::<()>().await;
            };
            let begun = Instant::now();
            let mut answer = Vec::new();
            tokio::select! {
                () = dripping => {}
                _ = tokio::io::AsyncReadExt::read_to_end(&mut reading, &mut answer) => {}
            }
            (begun.elapsed(), statuses(&String::from_utf8_lossy(&answer)))
        };
        let all = join_all((0..DAWDLERS).map(|_| dawdle()));
        let others = async {
            let mut slowest = Duration::ZERO;
            for _ in 0..20 {
                slowest = slowest.max(request_takes(address, &key).await);
            }
            slowest
        };
        let (ends, slowest) = tokio::join!(all, others);
        for (took, answered) in ends {
            assert!(took < Duration::from_secs(15), "{begin:?} was let dawdle for {took:?}");
            assert!(answered.is_empty() || answered == expected, "{begin:?} was answered {answered:?}");
        }
        assert!(slowest < Duration::from_secs(5), "others waited {slowest:?}");
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// So many megabytes of nothing, packed.
fn bomb(megabytes: usize) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let megabyte = vec![b' '; 1 << 20];
    (0..megabytes).for_each(|_| encoder.write_all(&megabyte).unwrap());
    encoder.finish().unwrap()
}

/// A line of `/proc/<pid>/status` in MiB.
fn memory(daemon: &Daemon, line: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let found = status.lines().find_map(|found| found.strip_prefix(line)).unwrap();
    found.split_whitespace().next().unwrap().parse::<u64>().unwrap() / 1_024
}

#[tokio::test(flavor = "multi_thread")]
async fn bombs_are_refused_without_growing() {
    const AT_ONCE: usize = 64;
    const ROUNDS: usize = 8;
    let cluster = Cluster::start().await;
    let (daemon, key) = bridge(&cluster, &[]).await;
    let (address, key) = (daemon.address(), key.as_str());
    let giga = bomb(1_024);
    assert!((900_000..1_200_000).contains(&giga.len()), "{} bytes hold 1 GiB", giga.len());
    // What fits the limit as sent: 400 MiB in 400 KiB, and 24 MiB for a single event.
    let bombs =
        [("/api/track/batch", &giga, 413), ("/api/track/batch", &bomb(400), 413), ("/api/track", &bomb(24), 413)];
    let nested = gzip(&bomb(400));
    let send = async |path: &str, encoding: &str, body: &[u8]| {
        let headers = [("x-api-key", key), ("content-encoding", encoding), ("content-type", "application/json")];
        let begun = Instant::now();
        // A refusal may come before the body is sent, and break its sending.
        let status = http::request(address, "POST", path, &headers, body).await.map_or(0, |answer| answer.status);
        (status, begun.elapsed())
    };
    request_takes(address, key).await;
    let before = memory(&daemon, "VmRSS:");
    for (path, body, expected) in bombs {
        for _ in 0..50 {
            let (status, _) = send(path, "gzip", body).await;
            assert!(status == expected || status == 0, "{path}: {status}");
        }
    }
    let one_by_one = memory(&daemon, "VmRSS:");
    assert!(one_by_one < before + 16, "one by one made it grow from {before} to {one_by_one} MiB");
    let mut rounds = Vec::new();
    for (path, body, expected) in bombs {
        let (status, took) = send(path, "gzip", body).await;
        assert!(status == expected || status == 0, "{path}: {status}");
        println!("{} bytes to {path}: {status} after {took:?}", body.len());
        for _ in 0..ROUNDS {
            let all = join_all((0..AT_ONCE).map(|_| send(path, "gzip", body)));
            let (ends, slowest) = tokio::join!(all, async { request_takes(address, key).await });
            assert!(ends.iter().all(|(status, _)| [expected, 0].contains(status)), "{path}: {ends:?}");
            assert!(slowest < Duration::from_secs(10), "others waited {slowest:?}");
            rounds.push(memory(&daemon, "VmRSS:"));
        }
    }
    assert!(matches!(send("/api/track/batch", "gzip", &nested).await.0, 400 | 413), "nested");
    assert!(matches!(send("/api/track/batch", "gzip, gzip", &nested).await.0, 415), "nested and said so");
    let peak = memory(&daemon, "VmHWM:");
    println!(
        "resident: {before} MiB, {one_by_one} after 150 bombs, {rounds:?} after each {AT_ONCE} at once, peak {peak}"
    );
    // At their peak 64 bodies of half a megabyte, packed and unpacked, are held: what 64 honest batches take as well.
    assert!(peak < before + 128, "it grew from {before} to {peak} MiB at its peak");
    let (last, middle) = (rounds.len() - 1, rounds.len() / 2);
    assert!(rounds[last] <= rounds[middle] + 8, "it goes on growing: {rounds:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_from_one_address_does_not_lock_out_others() {
    let cluster = Cluster::start().await;
    let limits = [("CHURND__HTTP__MAX_CONNECTIONS", "64"), ("CHURND__HTTP__MAX_CONNECTIONS_PER_CLIENT", "16")];
    let (daemon, key) = bridge(&cluster, &limits).await;
    let flooder: IpAddr = "127.0.0.2".parse().unwrap();
    let mut held = Vec::new();
    for _ in 0..400 {
        held.push(connect_from(flooder, daemon.address()).await.unwrap());
    }
    // 127.0.0.1 is another client: its requests are answered at once, its connections held beside the flood.
    for _ in 0..20 {
        assert!(request_takes(daemon.address(), &key).await < Duration::from_secs(5));
    }
    let told = until_closed(held.last_mut().unwrap()).await;
    assert!(told.is_empty() || statuses(&told) == [429], "{told}");
    let metrics = http::get(daemon.address(), "/metrics").await.unwrap().text();
    let name = "churnd_http_connections_refused_total{reason=\"too_many_connections\"} ";
    let refused: Value = metrics.lines().find_map(|line| line.strip_prefix(name)).unwrap().parse().unwrap();
    assert!(refused.as_u64().unwrap() >= 384, "{refused}");
}
