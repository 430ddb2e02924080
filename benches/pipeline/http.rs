//! Tracking over HTTP: single events against a bare handler that does nothing, batches against publishing straight to NATS.
//!
//! All turns alternate, so that noise falls on both sides. The daemon has the bridge's role alone; the bare handler is a
//! process of its own with the same server and a route that answers at once.

use std::{
    env,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use axum::{Router, http::StatusCode, routing::post};
use churnd::{
    bridge::server::Server,
    event::ids::AccountId,
    store::{Store, keys::KeyKind},
    telemetry::metrics::Metrics,
};
use futures_util::future::try_join_all;
use hdrhistogram::Histogram;
use secrecy::ExposeSecret as _;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    process::{Child, Command},
};
use tokio_util::sync::CancellationToken;

use super::{
    Amounts,
    daemon::{self, Daemon},
    load::{ACCOUNT, event_now},
    report::{Report, Target, median, number},
    say,
    site::Site,
};

/// The argument that makes this executable a bare handler.
pub(crate) const FLAG: &str = "--as-bare-handler";
const CONNECTIONS: usize = 64;
const EVENTS_IN_BATCH: usize = 100;
const CONNECTIONS_FOR_BATCHES: usize = 8;

/// What `main` does in the child.
pub(crate) fn run() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let server = Server::bind(daemon::settings()?.http, None, Metrics::new(super::site::now())).await?;
        println!("{} {}", daemon::READY, server.address());
        let routes = Router::new().route("/api/track", post(|| async { (StatusCode::ACCEPTED, "{\"id\":\"0\"}") }));
        server.serve(routes, CancellationToken::new(), CancellationToken::new()).await;
        Ok(())
    })
}

/// Requests a second, and how long they took.
struct Turn {
    rate: f64,
    micros: Histogram<u64>,
}

/// Measures all pairs in turns.
pub(crate) async fn measure(site: &mut Site, amounts: Amounts, report: &mut Report) -> anyhow::Result<()> {
    let database = site.fresh_database().await?;
    let key = make_key(&database.url).await?;
    let mut daemon = Daemon::start_as(site, &database, "bridge")?;
    let address = daemon.ready().await?;
    let (_bare, bare_address) = bare_handler().await?;
    let time = Duration::from_secs(amounts.latency_seconds.div_ceil(3));
    let single = request("/api/track", &key, &event_body(0));
    let events: Vec<String> = (0..EVENTS_IN_BATCH).map(event_body).collect();
    let batch = request("/api/track/batch", &key, &format!("{{\"events\":[{}]}}", events.join(",")));
    let (mut single_ratios, mut batch_ratios) = (Vec::new(), Vec::new());
    let mut last = None;
    for turn in 1..=amounts.turns {
        let bare = drive(&bare_address, &single, CONNECTIONS, time).await?;
        let tracked = drive(&address, &single, CONNECTIONS, time).await?;
        let batches = drive(&address, &batch, CONNECTIONS_FOR_BATCHES, time).await?;
        let straight = publish_straight(site, batches.rate * EVENTS_IN_BATCH as f64, time).await?;
        say(&format!(
            "turn {turn}: bare {}/s, track {}/s, batches {} events/s, straight {} events/s",
            number(bare.rate),
            number(tracked.rate),
            number(batches.rate * EVENTS_IN_BATCH as f64),
            number(straight)
        ));
        single_ratios.push(tracked.rate / bare.rate);
        batch_ratios.push(batches.rate * EVENTS_IN_BATCH as f64 / straight);
        last = Some((tracked, batches));
    }
    daemon.stop().await?;
    let (tracked, batches) = last.context("there was no turn")?;
    let quantile = |turn: &Turn, quantile| number(turn.micros.value_at_quantile(quantile) as f64 / 1_000.0);
    report.judge("track : bare handler, requests/s", median(single_ratios), "", Target::AtLeast(0.4));
    report.judge("batches of 100 : straight publishing, events/s", median(batch_ratios), "", Target::AtLeast(0.5));
    report.tell("track, requests/s", number(tracked.rate));
    report.tell("track p50 · p99", format!("{} · {} ms", quantile(&tracked, 0.5), quantile(&tracked, 0.99)));
    report.tell("batches, events/s", number(batches.rate * EVENTS_IN_BATCH as f64));
    report.tell("batch p50 · p99", format!("{} · {} ms", quantile(&batches, 0.5), quantile(&batches, 0.99)));
    Ok(())
}

async fn make_key(url: &str) -> anyhow::Result<String> {
    let store = Store::connect(&super::site::settings_of(url)?.postgres)?;
    let key = store.add_key(&AccountId::parse(ACCOUNT)?, KeyKind::Secret).await?;
    store.close();
    Ok(key.key.expose_secret().to_owned())
}

async fn bare_handler() -> anyhow::Result<(Child, String)> {
    let mut command = Command::new(env::current_exe()?);
    command.arg(FLAG).kill_on_drop(true).stdin(Stdio::null()).stdout(Stdio::piped());
    command.env("CHURND__HTTP__LISTEN", "127.0.0.1:0");
    let mut child = command.spawn().context("cannot start the bare handler")?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("its output is piped")?).read_line(&mut line).await?;
    let address = line.trim().strip_prefix(daemon::READY).context("the bare handler did not start")?;
    Ok((child, address.trim().to_owned()))
}

fn event_body(index: usize) -> String {
    format!(
        "{{\"customerId\":\"c-{index}\",\"event\":\"feature_used\",\"timestamp\":\"{}\",\
         \"properties\":{{\"feature\":\"export\",\"plan\":\"team\",\"seats\":12,\"source\":\"web\"}}}}",
        super::site::now()
    )
}

fn request(path: &str, key: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nhost: churnd\r\nx-api-key: {key}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Sends the same request over many connections, each as soon as the one before it is answered.
async fn drive(address: &str, request: &[u8], connections: usize, time: Duration) -> anyhow::Result<Turn> {
    let started = Instant::now();
    let lanes = (0..connections).map(|_| drive_one(address, request, started + time));
    let mut micros = Histogram::<u64>::new(3)?;
    for lane in try_join_all(lanes).await? {
        micros.add(lane)?;
    }
    let rate = micros.len() as f64 / started.elapsed().as_secs_f64();
    Ok(Turn { rate, micros })
}

async fn drive_one(address: &str, request: &[u8], end: Instant) -> anyhow::Result<Histogram<u64>> {
    let mut micros = Histogram::<u64>::new(3)?;
    let mut connection = TcpStream::connect(address).await?;
    connection.set_nodelay(true)?;
    let mut buffer = vec![0; 64 * 1024];
    while Instant::now() < end {
        let sent = Instant::now();
        connection.write_all(request).await?;
        read_answer(&mut connection, &mut buffer).await?;
        micros.record(u64::try_from(sent.elapsed().as_micros())?)?;
    }
    Ok(micros)
}

async fn read_answer(connection: &mut TcpStream, buffer: &mut [u8]) -> anyhow::Result<()> {
    let mut filled = 0;
    loop {
        let read = connection.read(&mut buffer[filled..]).await?;
        ensure!(read > 0, "the connection was closed");
        filled += read;
        let Some(head) = buffer[..filled].windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let text = std::str::from_utf8(&buffer[..head])?;
        if !text.starts_with("HTTP/1.1 202 ") {
            bail!("answered with {text}");
        }
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")).context("no length")?;
        if filled == head + 4 + length.parse::<usize>()? {
            return Ok(());
        }
    }
}

/// Events a second when published from here, pipelined.
async fn publish_straight(site: &Site, guess: f64, time: Duration) -> anyhow::Result<f64> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rough number of events")]
    let events = (guess * time.as_secs_f64()) as usize;
    let run = uuid::Uuid::new_v4();
    let started = Instant::now();
    let messages = (0..events).map(|at| event_now("feature_used", at % 1_000, &format!("{run}-{at}")));
    site.publish(futures_util::stream::iter(messages)).await?;
    Ok(events as f64 / started.elapsed().as_secs_f64())
}
