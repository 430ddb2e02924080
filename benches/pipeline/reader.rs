//! The yardstick: a process that reads the whole stream with async-nats and does nothing with it.

use std::{env, process::Stdio, time::Instant};

use anyhow::{Context as _, ensure};
use async_nats::jetstream::{
    self,
    consumer::{AckPolicy, pull},
};
use futures_util::StreamExt as _;
use tokio::process::Command;

use super::{process, site::Site};

/// The argument that makes this executable a bare reader.
pub(crate) const FLAG: &str = "--as-bare-reader";
const BATCH: usize = 1_000;

/// What a drain of the stream took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drained {
    pub(crate) seconds: f64,
    pub(crate) cpu: f64,
    pub(crate) nats_cpu: f64,
}

/// What `main` does in the child: prints wall-clock and CPU seconds.
pub(crate) fn run(url: &str, events: &str) -> anyhow::Result<()> {
    let events: u64 = events.parse()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let context = jetstream::new(async_nats::connect(url).await?);
        let stream = context.get_stream("CHURN_EVENTS").await?;
        let started = Instant::now();
        let config = pull::Config { ack_policy: AckPolicy::None, memory_storage: true, ..pull::Config::default() };
        let consumer = stream.create_consumer(config).await?;
        let mut messages = consumer.stream().max_messages_per_batch(BATCH).messages().await?;
        for _ in 0..events {
            messages.next().await.context("the stream ended")??;
        }
        let own = i32::try_from(std::process::id())?;
        println!("{} {}", started.elapsed().as_secs_f64(), process::cpu_seconds(own)?);
        Ok(())
    })
}

/// Drains the site's stream once.
pub(crate) async fn drain(site: &Site, events: u64) -> anyhow::Result<Drained> {
    let before = process::cpu_seconds(site.nats_pid()?)?;
    let mut command = Command::new(env::current_exe()?);
    command.args([FLAG, &site.nats.url(), &events.to_string()]).kill_on_drop(true);
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().await?;
    ensure!(output.status.success(), "the bare reader ended with {}", output.status);
    let text = String::from_utf8(output.stdout)?;
    let (seconds, cpu) = text.trim().split_once(' ').context("the bare reader said nothing")?;
    let nats_cpu = process::cpu_seconds(site.nats_pid()?)? - before;
    Ok(Drained { seconds: seconds.parse()?, cpu: cpu.parse()?, nats_cpu })
}
