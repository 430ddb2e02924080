//! `churnd dev`: the whole system from nothing, in one directory and under one process.
//!
//! Starts a private NATS and a private Postgres, makes streams, tables and a demo account, then runs the daemon in this
//! process. Stopping goes the other way round: the daemon drains, then the servers end. They never outlive this process.

mod directory; // the data directory, and what is remembered in it
mod servers; // the private NATS and Postgres
mod setup; // streams, tables, account, keys
mod welcome; // what is said when all is ready

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::{directory::DataDir, servers::Servers, welcome::Welcome};
use super::output;
use crate::{
    config::{Config, Flag, Sources},
    event::ids::AccountId,
    service::boot,
    telemetry::log,
};

/// The flags of `churnd dev`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Where everything is kept; a second start finds the same data and keys
    #[arg(long, value_name = "DIR", default_value = "data")]
    data: PathBuf,
    /// Where to serve HTTP, as IP:PORT; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    http: SocketAddr,
    /// The port of NATS, on loopback; without it that of the last run, or a free one
    #[arg(long, value_name = "PORT")]
    nats_port: Option<u16>,
    /// The port of Postgres, on loopback; without it that of the last run, or a free one
    #[arg(long, value_name = "PORT")]
    postgres_port: Option<u16>,
    /// The demo account
    #[arg(long, default_value = "demo", value_parser = output::account)]
    account: AccountId,
    /// When ready, print addresses and keys as one line of JSON
    #[arg(long)]
    json: bool,
    /// A configuration file for everything but the servers' addresses
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The least level that is logged; without it `$CHURND__LOG__LEVEL`, else warn
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
}

impl Options {
    /// Runs everything until Ctrl-C or SIGTERM.
    pub(super) fn run(self) -> anyhow::Result<()> {
        // Mistakes are told before anything is started.
        let checked = self.configuration(None)?;
        log::init(&checked.log, None).context("cannot set up logging")?;
        let dir = DataDir::open(&self.data)?;
        super::block_on(self.serve(dir))
    }

    async fn serve(self, mut dir: DataDir) -> anyhow::Result<()> {
        let mut stop = Stop::listen()?;
        eprintln!("churnd dev: starting NATS and Postgres in {}", dir.path().display());
        let ports = dir.ports(self.nats_port, self.postgres_port);
        let path = dir.path().to_owned();
        // A start that is under way is finished: what runs can be stopped in good order.
        let starting = tokio::task::spawn_blocking(move || Servers::start(&path, ports));
        let servers = starting.await.context("the start of the servers broke off")??;
        let outcome = tokio::select! {
            outcome = Box::pin(self.live(&servers, &mut dir, &stop.announced)) => outcome,
            () = stop.signals.came_before(&stop.announced) => Ok(()),
        };
        eprintln!("churnd dev: stopping NATS and Postgres");
        tokio::task::spawn_blocking(move || servers.stop()).await.context("the end of the servers broke off")?;
        outcome
    }

    /// Sets everything up, then runs the daemon until it has drained.
    async fn live(&self, servers: &Servers, dir: &mut DataDir, announced: &AtomicBool) -> anyhow::Result<()> {
        dir.remember_ports(servers.ports())?;
        let config = self.configuration(Some(servers))?;
        setup::provision(&config, dir.path()).await?;
        let store = setup::migrate(&config, servers).await?;
        let keys = setup::account(&store, dir, &self.account).await?;
        store.close();
        let mut printed = Ok(());
        boot::run(config, |bound| {
            announced.store(true, Ordering::Release);
            let welcome = Welcome { servers, http: bound.http, account: &self.account, keys: &keys, dir: dir.path() };
            printed = if self.json { welcome.as_json() } else { welcome.as_text() };
        })
        .await?;
        printed.context("cannot say where everything is")
    }

    /// The daemon's configuration: its own servers, and otherwise what file and environment say. A configuration that is
    /// meant for the machine's service plays no part.
    fn configuration(&self, servers: Option<&Servers>) -> anyhow::Result<Config> {
        let mut flags = vec![Flag { name: "--http", key: "http.listen", value: self.http.to_string() }];
        let mut set = |name, key, value: String| flags.push(Flag { name, key, value });
        if let Some(servers) = servers {
            set("dev", "nats.url", servers.nats_url());
            set("dev", "postgres.url", servers.postgres_url());
        }
        for (key, value) in
            [("instance", "dev"), ("nats.credentials_file", ""), ("nats.user", ""), ("nats.password", "")]
        {
            set("dev", key, value.to_owned());
        }
        let mut sources = Sources::of_this_process(self.config.clone(), Vec::new());
        let named = sources.environment.iter().any(|(name, _)| name == "CHURND__LOG__LEVEL");
        if let Some(level) = self.log_level.clone().or_else(|| (!named).then(|| "warn".to_owned())) {
            set("--log-level", "log.level", level);
        }
        sources.usual_files.clear();
        sources.credentials = None;
        sources.flags = flags;
        Ok(Config::load(&sources)?)
    }
}

/// The wish to stop: before the daemon is ready it is acted on here, afterwards by the daemon, which drains.
struct Stop {
    signals: Signals,
    announced: AtomicBool,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        let signals =
            Signals { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? };
        Ok(Self { signals, announced: AtomicBool::new(false) })
    }
}

impl Signals {
    /// Ends when a signal came before all was ready; else never.
    async fn came_before(&mut self, announced: &AtomicBool) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
        if announced.load(Ordering::Acquire) {
            std::future::pending::<()>().await;
        }
    }
}
