//! The servers: a `nats-server` with the declared streams, and a Postgres that syncs, with a migrated database to copy.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use async_nats::jetstream;
use churnd::{
    config::{Config, Sources},
    embedded::{
        nats::{NatsOptions, NatsServer},
        postgres::{PgOptions, Postgres},
        tools::Tools,
    },
    event::{ids::AccountId, time::Timestamp},
    service::clock::Clock,
    store::Store,
    stream::{
        self,
        publisher::{DEFAULT_WINDOW, Outgoing, Publisher},
        topology,
    },
};
use futures_util::{StreamExt as _, stream as futures};
use tokio::task::JoinSet;
use tokio_postgres::{Client, NoTls};

use super::{
    load::{ACCOUNT, Shape, plan},
    process, say,
};

const TEMPLATE: &str = "migrated";
const PARTITIONS: u16 = 16;
/// What the streams may take of the disk.
const ROOM: u64 = 6 << 30;

/// The servers of all measurements.
pub(crate) struct Site {
    pub(crate) nats: NatsServer,
    pub(crate) postgres: Postgres,
    pub(crate) client: async_nats::Client,
    databases: u32,
    /// Where daemons run from now on, if not anywhere.
    pub(crate) daemons_on: Option<Vec<usize>>,
    _scratch: tempfile::TempDir,
}

/// A database of one daemon's own.
pub(crate) struct Database {
    pub(crate) url: String,
    client: Client,
    _connection: JoinSet<()>,
}

impl Site {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let scratch = tempfile::Builder::new().prefix("churnd-bench-").tempdir()?;
        let tools = Tools::from_env("CHURND_NATS_SERVER", "CHURND_PG_BIN");
        let nats = NatsServer::start(&tools, NatsOptions::new(scratch.path().join("nats")))?;
        let postgres = Postgres::start(&tools, PgOptions::new(scratch.path().join("postgres")))?;
        let client = stream::connect(&stream::Config::at(nats.url()), "bench").await?;
        let context = jetstream::new(client.clone());
        declare_streams(&context).await?;
        postgres.create_database(TEMPLATE, None).await?;
        migrate(&postgres.url_of(TEMPLATE)).await?;
        Ok(Self { nats, postgres, client, databases: 0, daemons_on: None, _scratch: scratch })
    }

    /// A database in which nothing ever happened.
    pub(crate) async fn fresh_database(&mut self) -> anyhow::Result<Database> {
        self.databases += 1;
        let name = format!("bench_{}", self.databases);
        self.postgres.create_database(&name, Some(TEMPLATE)).await?;
        self.postgres.execute("CHECKPOINT").await?;
        let url = self.postgres.url_of(&name);
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
        let mut connections = JoinSet::new();
        connections.spawn(async move {
            if let Err(error) = connection.await {
                say(&format!("a connection to {name} broke: {error}"));
            }
        });
        Ok(Database { url, client, _connection: connections })
    }

    /// Makes the event stream hold exactly these events, from its first sequence on, and the streams behind it nothing.
    pub(crate) async fn fill(&self, shape: Shape) -> anyhow::Result<()> {
        let context = jetstream::new(self.client.clone());
        context.delete_stream("CHURN_EVENTS").await.context("cannot delete the event stream")?;
        declare_streams(&context).await?;
        let started = Instant::now();
        let events = plan(shape, now()).map(|event| event.outgoing());
        self.publish(futures::iter(events)).await?;
        let rate = shape.events as f64 / started.elapsed().as_secs_f64();
        say(&format!("published {} events of {} customers at {rate:.0}/s", shape.events, shape.customers));
        self.empty_outlets().await
    }

    /// Makes all streams hold nothing.
    pub(crate) async fn empty_events(&self) -> anyhow::Result<()> {
        self.fill(Shape { events: 0, customers: 1 }).await
    }

    /// What publishes on a connection of the site's.
    pub(crate) fn publishing(&self) -> Publisher {
        Publisher::new(self.client.clone(), DEFAULT_WINDOW)
    }

    /// Publishes with confirmation.
    pub(crate) async fn publish(
        &self,
        events: impl futures_util::Stream<Item = Outgoing> + Send,
    ) -> anyhow::Result<()> {
        let publisher = self.publishing();
        let mut answers = std::pin::pin!(publisher.pipeline(events));
        while let Some(answer) = answers.next().await {
            ensure!(
                !answer?.duplicate,
                "the stream took an event for a repeat: the ids of two measurements are the same"
            );
        }
        Ok(())
    }

    /// Removes alerts and scores: a daemon on a fresh database must not find its messages there already.
    pub(crate) async fn empty_outlets(&self) -> anyhow::Result<()> {
        let context = jetstream::new(self.client.clone());
        for name in ["CHURN_ALERTS", "KV_churn_risk"] {
            let stream = context.get_stream(name).await.with_context(|| format!("there is no stream {name}"))?;
            stream.purge().await.with_context(|| format!("cannot empty {name}"))?;
        }
        Ok(())
    }

    /// What an event takes in its stream.
    pub(crate) async fn bytes_per_event(&self) -> anyhow::Result<f64> {
        let stream = jetstream::new(self.client.clone()).get_stream("CHURN_EVENTS").await?;
        let state = &stream.cached_info().state;
        Ok(state.bytes as f64 / state.messages as f64)
    }

    /// Gives nats-server half of the CPUs, and the other half to daemons that start from now on; or all CPUs to all.
    pub(crate) fn keep_nats_apart(&mut self, apart: bool) -> anyhow::Result<()> {
        let cpus = process::cpus()?;
        let (daemons, nats) = cpus.split_at(cpus.len() / 2);
        process::keep_to(self.nats_pid()?, if apart { nats } else { &cpus })?;
        self.daemons_on = apart.then(|| daemons.to_vec());
        Ok(())
    }

    pub(crate) fn nats_pid(&self) -> anyhow::Result<i32> {
        self.nats.pid().context("nats-server does not run")
    }

    pub(crate) fn postgres_pid(&self) -> anyhow::Result<i32> {
        self.postgres.pid().context("postgres does not run")
    }
}

impl Database {
    /// Waits until that many messages are accounted for in a committed checkpoint.
    pub(crate) async fn wait_received(&self, messages: u64) -> anyhow::Result<()> {
        self.wait("SELECT sum(received)::float8 FROM partitions WHERE role = 'engine'", |sum| sum >= messages as f64)
            .await
    }

    /// Waits until everything that was committed is published and marked so.
    pub(crate) async fn wait_published(&self) -> anyhow::Result<()> {
        let pending = "SELECT count(*)::float8 FROM outbox WHERE published_at IS NULL AND kind <> 'held_alert'";
        self.wait(pending, |count| count == 0.0).await
    }

    /// Waits until so many instances own all partitions, each as many as the others.
    pub(crate) async fn wait_shared(&self, instances: usize) -> anyhow::Result<()> {
        let share = usize::from(PARTITIONS) / instances;
        let query = format!(
            "SELECT count(*)::float8 FROM (SELECT FROM partitions WHERE role = 'engine' AND lease_until > clock_timestamp()
             GROUP BY session HAVING count(*) = {share}) AS fair"
        );
        self.wait(&query, |count| count == instances as f64).await
    }

    /// How often states of customers were stored, once the server's statistics know all of these customers.
    pub(crate) async fn stored_states(&self, customers: usize) -> anyhow::Result<f64> {
        const OF_TABLE: &str = "FROM pg_stat_user_tables WHERE relname = 'customer_states'";
        self.wait(&format!("SELECT n_tup_ins::float8 {OF_TABLE}"), |rows| rows >= customers as f64).await?;
        self.number(&format!("SELECT (n_tup_ins + n_tup_upd)::float8 {OF_TABLE}")).await
    }

    /// How large it is, in bytes.
    pub(crate) async fn size(&self) -> anyhow::Result<f64> {
        self.number("SELECT pg_database_size(current_database())::float8").await
    }

    /// How much the server has written into its log ahead, in bytes.
    pub(crate) async fn logged(&self) -> anyhow::Result<f64> {
        self.number("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8").await
    }

    async fn wait(&self, query: &str, holds: impl Fn(f64) -> bool) -> anyhow::Result<()> {
        const PATIENCE: Duration = Duration::from_secs(600);
        let started = Instant::now();
        let mut look = tokio::time::interval(Duration::from_millis(20));
        loop {
            look.tick().await;
            let found = self.number(query).await?;
            if holds(found) {
                return Ok(());
            }
            ensure!(started.elapsed() < PATIENCE, "gave up waiting: `{query}` is {found}");
        }
    }

    /// The one number that a query answers.
    pub(crate) async fn number(&self, query: &str) -> anyhow::Result<f64> {
        let row = self.client.query_one(query, &[]).await.with_context(|| query.to_owned())?;
        Ok(row.get::<_, Option<f64>>(0).unwrap_or_default())
    }
}

async fn declare_streams(context: &jetstream::Context) -> anyhow::Result<()> {
    topology::declared(PARTITIONS).with_room(ROOM).apply(context).await?;
    Ok(())
}

/// The settings for a database.
pub(crate) fn settings_of(url: &str) -> anyhow::Result<Config> {
    let environment = vec![("CHURND__POSTGRES__URL".to_owned(), url.to_owned())];
    Ok(Config::load(&Sources { environment, ..Sources::default() })?)
}

async fn migrate(url: &str) -> anyhow::Result<()> {
    let store = Store::connect(&settings_of(url)?.postgres)?;
    store.migrate().await?;
    store.add_account(&AccountId::parse(ACCOUNT)?, "Acme").await?;
    store.close();
    Ok(())
}

/// The time of day.
pub(crate) fn now() -> Timestamp {
    Clock::system().now()
}
