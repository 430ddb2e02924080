//! The way to the servers for commands that end: little patience, and what to do next in the error.

use anyhow::Context as _;
use async_nats::jetstream::{self, Context};

use crate::{
    config::Config,
    store::Store,
    stream::{self, StreamError},
};

/// How long a command goes on trying to reach NATS, in seconds.
const PATIENCE_SECONDS: u64 = 3;

/// A connection to NATS under the command's name.
pub(super) async fn nats(config: &Config, command: &str) -> anyhow::Result<async_nats::Client> {
    try_nats(config, command).await.with_context(|| {
        format!(
            "cannot use NATS at {}: is it running, is nats.url right? `churnd doctor` looks closer",
            config.nats.redacted_url()
        )
    })
}

/// A connection to NATS, or the bare reason why there is none.
pub(super) async fn try_nats(config: &Config, command: &str) -> Result<async_nats::Client, StreamError> {
    let mut nats = config.nats.clone();
    nats.connect_patience_seconds = nats.connect_patience_seconds.min(PATIENCE_SECONDS);
    stream::connect(&nats, &format!("churnd {command}")).await
}

/// A JetStream context for reading and administration.
pub(super) async fn jetstream(config: &Config, command: &str) -> anyhow::Result<Context> {
    Ok(jetstream::new(nats(config, command).await?))
}

/// The way to Postgres with tables as this binary knows them.
pub(super) async fn store(config: &Config) -> anyhow::Result<Store> {
    let store = Store::connect(&config.postgres)?;
    store.check_schema().await.context(POSTGRES)?;
    Ok(store)
}

/// What stands before every failure of Postgres.
pub(super) const POSTGRES: &str = "cannot use Postgres (setting postgres.url; `churnd doctor` looks closer)";

/// The last sequence of a stream.
pub(super) async fn last_sequence(context: &Context, stream: &str) -> anyhow::Result<u64> {
    let info = context
        .get_stream(stream)
        .await
        .with_context(|| format!("cannot look at the stream {stream}: if it does not exist, run `churnd provision`"))?;
    Ok(info.cached_info().state.last_sequence)
}
