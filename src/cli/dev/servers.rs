//! The private NATS and Postgres.

use std::{path::Path, thread};

use super::directory::Ports;
use crate::embedded::{
    ServerError,
    nats::{NatsOptions, NatsServer},
    postgres::{PgOptions, Postgres},
    tools::Tools,
};

/// The database that churnd keeps its tables in.
const DATABASE: &str = "churnd";

/// Both servers, running.
pub(super) struct Servers {
    nats: NatsServer,
    postgres: Postgres,
}

impl Servers {
    /// Starts both at the same time.
    pub(super) fn start(dir: &Path, ports: Ports) -> Result<Self, ServerError> {
        let tools = Tools::from_env("CHURND_NATS_SERVER", "CHURND_PG_BIN");
        let nats = NatsOptions { port: ports.nats, ..NatsOptions::new(dir.join("nats")) };
        let postgres = PgOptions { port: ports.postgres, ..PgOptions::new(dir.join("postgres")) };
        thread::scope(|scope| {
            let starting = scope.spawn(|| Postgres::start(&tools, postgres));
            let nats = NatsServer::start(&tools, nats);
            let postgres = starting.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            Ok(Self { nats: nats?, postgres: postgres? })
        })
    }

    /// Lets both end by themselves.
    pub(super) fn stop(&self) {
        thread::scope(|scope| {
            scope.spawn(|| self.postgres.stop());
            self.nats.stop();
        });
    }

    /// Where NATS is.
    pub(super) fn nats_url(&self) -> String {
        self.nats.url()
    }

    /// Where the database is, with its password.
    pub(super) fn postgres_url(&self) -> String {
        self.postgres.url_of(DATABASE)
    }

    /// The ports that they have.
    pub(super) fn ports(&self) -> Ports {
        Ports { nats: Some(self.nats.port()), postgres: Some(self.postgres.port()) }
    }

    /// Makes the database if it is not there.
    pub(super) async fn make_database(&self) -> Result<(), ServerError> {
        if self.postgres.databases().await?.iter().any(|name| name == DATABASE) {
            return Ok(());
        }
        self.postgres.create_database(DATABASE, None).await
    }
}
