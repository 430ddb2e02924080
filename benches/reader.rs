//! How fast the reader drains a stream, beside a bare async-nats pull loop over the same stream in the same minute.
//!
//! `cargo bench --bench reader -- [EVENTS] [ROUNDS]`; needs nats-server (scripts/tools). Prints a line per run with the
//! process's own CPU time per event, and at the end the ratio of the medians.

use std::time::{Duration, Instant};

use async_nats::jetstream::{
    self, Context,
    consumer::{AckPolicy, pull},
};
use churnd::{
    embedded::{
        nats::{NatsOptions, NatsServer},
        tools::Tools,
    },
    event::ids::StreamSequence,
    stream::{
        Config, EVENTS, connect,
        publisher::{Outgoing, Publisher},
        reader::{Reader, ReaderConfig},
        topology,
    },
};
use futures_util::StreamExt;

const CUSTOMERS: usize = 20_000;

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|argument| argument.parse::<usize>().ok());
    let events = numbers.next().unwrap_or(500_000);
    let rounds = numbers.next().unwrap_or(3);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime starts").block_on(measure(events, rounds));
}

async fn measure(events: usize, rounds: usize) {
    let dir = tempfile::TempDir::new().expect("a temporary directory");
    let tools = Tools::from_env("CHURND_NATS_SERVER", "CHURND_PG_BIN");
    let server = NatsServer::start(&tools, NatsOptions::new(dir.path().join("nats"))).expect("nats-server starts");
    let context = jetstream::new(connect(&Config::at(server.url()), "bench").await.expect("it can be reached"));
    topology::declared(16).apply(&context).await.expect("the streams are created");
    publish(&context, events).await;
    let mut ratios = Vec::new();
    for _ in 0..rounds {
        let bare = Run::of("bare pull loop, 1000", events, bare(&context, events)).await;
        for batch in [1_000, 4_000] {
            let run = Run::of(&format!("reader, {batch}"), events, read(&context, events, batch)).await;
            ratios.push((batch, run.rate / bare.rate, run.cpu / bare.cpu));
        }
    }
    for batch in [1_000, 4_000] {
        let of_batch = || ratios.iter().filter(|(other, ..)| *other == batch);
        let rate = median(of_batch().map(|(_, rate, _)| *rate));
        let cpu = median(of_batch().map(|(_, _, cpu)| *cpu));
        println!("reader, {batch}: {rate:.2} of the bare loop's rate with {cpu:.2} of its CPU (medians)");
    }
}

async fn publish(context: &Context, events: usize) {
    let publisher = Publisher::new(context.client(), 1_000);
    let started = Instant::now();
    let messages = (0..events).map(|number| {
        let body = format!(
            "{{\"event\":\"feature_used\",\"id\":\"{number:012}\",\"timestamp\":\"2026-07-14T03:33:20Z\",\"properties\":\
             {{\"feature\":\"reports\",\"plan\":\"pro\",\"seats\":12,\"note\":\"a few more bytes to come near two hundred\"}}}}"
        );
        Outgoing::new(format!("churn.events.acme.c{}", number * 7_919 % CUSTOMERS), body)
    });
    let mut results = std::pin::pin!(publisher.pipeline(futures_util::stream::iter(messages)));
    while let Some(result) = results.next().await {
        result.expect("it is stored");
    }
    println!("published {events} events at {:.0}/s", rate(events, started.elapsed()));
}

/// The least that a program can do with async-nats: no gaps noticed, nothing parsed.
async fn bare(context: &Context, events: usize) {
    let config = pull::Config {
        ack_policy: AckPolicy::None,
        memory_storage: true,
        num_replicas: 1,
        inactive_threshold: Duration::from_secs(30),
        ..pull::Config::default()
    };
    let consumer = context.create_consumer_on_stream(config, EVENTS).await.expect("a consumer");
    let messages = consumer.stream().max_messages_per_batch(1_000).heartbeat(Duration::from_secs(5));
    let mut messages = messages.expires(Duration::from_secs(30)).messages().await.expect("messages");
    let mut bytes = 0;
    for _ in 0..events {
        bytes += messages.next().await.expect("no end").expect("a message").payload.len();
    }
    assert!(bytes > events);
}

async fn read(context: &Context, events: usize, batch: usize) {
    let mut config = ReaderConfig::new("churnd-bench", StreamSequence(0));
    config.batch = batch;
    let mut reader = Reader::open(context, EVENTS, config);
    let (mut count, mut bytes) = (0, 0);
    while count < events {
        let batch = reader.next_batch().await.expect("no trouble");
        count += batch.messages.len();
        bytes += batch.messages.iter().map(|message| message.payload.len()).sum::<usize>();
        reader.recycle(batch.messages);
    }
    assert!(bytes > events);
    reader.close().await;
}

struct Run {
    rate: f64,
    cpu: f64,
}

impl Run {
    async fn of(name: &str, events: usize, work: impl Future<Output = ()>) -> Self {
        let (started, before) = (Instant::now(), own_cpu());
        work.await;
        let cpu = (own_cpu() - before).as_secs_f64() * 1e6 / count(events);
        let rate = rate(events, started.elapsed());
        println!("{name:<22} {rate:>9.0} events/s, own CPU {cpu:.2} µs/event");
        Self { rate, cpu }
    }
}

fn rate(events: usize, elapsed: Duration) -> f64 {
    count(events) / elapsed.as_secs_f64()
}

fn count(events: usize) -> f64 {
    f64::from(u32::try_from(events).expect("a benchmark's size"))
}

/// This process's CPU time so far, from the kernel: clock ticks of 10 ms.
fn own_cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields = stat.rsplit_once(')').expect("the name stands in parentheses").1.split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).map(|field| field.parse::<u64>().expect("a number")).sum();
    Duration::from_millis(ticks * 10)
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
