//! One Postgres per test process, one empty database per test.

use std::sync::{
    Arc, Mutex, PoisonError, Weak,
    atomic::{AtomicU32, Ordering},
};

use secrecy::SecretString;

use super::{Config, Store};
use crate::embedded::{
    postgres::{PgOptions, Postgres},
    tools::Tools,
};

static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());

/// A server with its directory; both go with the last test that uses it.
pub(super) struct Server {
    pub(super) postgres: Postgres,
    _dir: tempfile::TempDir,
}

impl Server {
    /// A server of the test's own, to be frozen or killed.
    pub(super) fn own() -> Arc<Self> {
        let dir = tempfile::tempdir().unwrap();
        let options = PgOptions { durable: false, ..PgOptions::new(dir.path().join("postgres")) };
        let tools = Tools::from_env("CHURND_NATS_SERVER", "CHURND_PG_BIN");
        Arc::new(Self { postgres: Postgres::start(&tools, options).unwrap(), _dir: dir })
    }

    fn shared() -> Arc<Self> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let server = Self::own();
            *shared = Arc::downgrade(&server);
            server
        })
    }
}

/// A database of the test's own.
pub(super) struct Database {
    pub(super) server: Arc<Server>,
    name: String,
}

impl Database {
    /// An empty one.
    pub(super) async fn empty() -> Self {
        Self::on(Server::shared()).await
    }

    /// An empty one on a given server.
    pub(super) async fn on(server: Arc<Server>) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let admin = store(&server.postgres.url());
        let connection = admin.connection("create a database").await.unwrap();
        connection.batch_execute(&format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'")).await.unwrap();
        Self { server, name }
    }

    /// One with all tables, and the way to it.
    pub(super) async fn migrated() -> (Self, Store) {
        let database = Self::empty().await;
        let store = database.store();
        store.migrate().await.unwrap();
        (database, store)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn url(&self) -> String {
        self.server.postgres.url_of(&self.name)
    }

    /// Another way to the database.
    pub(super) fn store(&self) -> Store {
        store(&self.url())
    }
}

/// A way to the database behind a URL, with short patience.
pub(super) fn store(url: &str) -> Store {
    Store::connect(&config(url)).unwrap()
}

pub(super) fn config(url: &str) -> Config {
    Config { url: SecretString::from(url), pool_size: 4, statement_timeout_seconds: 20, ..Config::default() }
}

impl Store {
    /// Runs statements for a test.
    pub(super) async fn run(&self, sql: &str) {
        self.connection("test").await.unwrap().batch_execute(sql).await.unwrap();
    }

    /// The whole answer to a query, `|` between columns and a line per row.
    pub(super) async fn ask(&self, sql: &str) -> String {
        use deadpool_postgres::tokio_postgres::SimpleQueryMessage;
        let answer = self.connection("test").await.unwrap().simple_query(sql).await.unwrap();
        let rows = answer.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|column| row.get(column).unwrap_or("∅")).collect::<Vec<_>>().join("|"))
            }
            _ => None,
        });
        rows.collect::<Vec<_>>().join("\n")
    }
}
