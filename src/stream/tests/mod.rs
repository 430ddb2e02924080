//! Against a real nats-server: each test has its own, on a free port and a store that goes away with it.

mod cluster;
mod dead;
mod encryption;
mod erase;
mod guard;
mod permissions;
mod publisher;
mod reader;
mod topology;

use std::{future::Future, time::Duration};

use async_nats::{
    Client,
    jetstream::{self, Context},
};
use tempfile::TempDir;

use super::{Config, EVENTS, connect, publisher::Outgoing, publisher::Publisher, topology::declared};
use crate::embedded::{
    nats::{NatsOptions, NatsServer},
    tools::Tools,
};

/// No single step of a test may take longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server of a test's own.
struct Server {
    nats: NatsServer,
    _dir: TempDir,
}

impl Server {
    fn start() -> Self {
        Self::with("")
    }

    fn with(extra: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let mut options = NatsOptions::new(dir.path().join("nats"));
        extra.clone_into(&mut options.extra);
        let tools = Tools::from_env("CHURND_NATS_SERVER", "CHURND_PG_BIN");
        Self { nats: NatsServer::start(&tools, options).unwrap(), _dir: dir }
    }

    /// A server with all declared streams, and a connection to it.
    async fn provisioned() -> (Self, Client, Context) {
        let server = Self::start();
        let (client, context) = server.connect().await;
        declared(16).apply(&context).await.unwrap();
        (server, client, context)
    }

    async fn connect(&self) -> (Client, Context) {
        let client = connect(&Config::at(self.nats.url()), "test").await.unwrap();
        (client.clone(), jetstream::new(client))
    }

    /// As a power cut would, but that the disk keeps what was written; comes back at once.
    fn crash(&self) {
        self.nats.kill();
        self.nats.restart().unwrap();
    }
}

/// Event `number` of an account with so many customers.
fn event(number: usize, customers: usize) -> Outgoing {
    let subject = format!("churn.events.acme.c{}", number % customers);
    Outgoing::new(subject, format!("{{\"event\":\"login\",\"id\":\"{number}\"}}"))
}

async fn publish_events(client: &Client, count: usize, customers: usize) {
    let publisher = Publisher::new(client.clone(), 512);
    for result in publisher.publish_all((0..count).map(|number| event(number, customers))).await {
        result.unwrap();
    }
}

/// Asks until the stream has a leader that answers: an election may be under way.
async fn last_sequence(context: &Context) -> u64 {
    let asked = async {
        loop {
            match super::api::stream_info(context, EVENTS).await {
                Ok(info) => return info.state.last_seq,
                Err(error) if error.is_transient() => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
    };
    within(asked).await
}

/// A test that waits for what never comes must fail, not hang.
async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it took too long")
}
