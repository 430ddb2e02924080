//! The daemon as a child process: this executable, called again, so that its CPU time and memory are its own.

use std::{
    env,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use churnd::{
    config::{Config, Sources},
    service::boot,
    telemetry,
};
use nix::{
    sys::signal::{self, Signal},
    unistd::Pid,
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use super::{
    process,
    site::{Database, Site},
};

/// The argument that makes this executable a daemon.
pub(crate) const FLAG: &str = "--as-daemon";
/// What a child says when it is up, followed by its address.
pub(crate) const READY: &str = "ready";
const START: Duration = Duration::from_secs(30);

/// What `main` does in the child.
pub(crate) fn run() -> anyhow::Result<()> {
    let config = settings()?;
    telemetry::log::init(&config.log, None)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(boot::run(config, |bound| println!("{READY} {}", bound.http)))
}

/// The settings of a child.
pub(crate) fn settings() -> anyhow::Result<Config> {
    Ok(Config::load(&Sources { environment: env::vars().collect(), ..Sources::default() })?)
}

/// A running daemon; killed when dropped.
pub(crate) struct Daemon {
    child: Child,
    pid: i32,
    /// When it was executed.
    pub(crate) started: Instant,
}

impl Daemon {
    /// Executes a daemon that reads the site's events into the database.
    pub(crate) fn start(site: &Site, database: &Database) -> anyhow::Result<Self> {
        Self::start_as(site, database, "engine,bridge")
    }

    /// Executes a daemon with settings of its own.
    pub(crate) fn start_with(site: &Site, database: &Database, settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        Self::execute(site, database, "engine,bridge", settings)
    }

    /// Executes a daemon of some roles.
    pub(crate) fn start_as(site: &Site, database: &Database, roles: &str) -> anyhow::Result<Self> {
        Self::execute(site, database, roles, &[])
    }

    fn execute(site: &Site, database: &Database, roles: &str, settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        let program = env::current_exe()?;
        let mut command = match &site.daemons_on {
            // It becomes the daemon: the process id stays.
            Some(cpus) => {
                let mut command = Command::new("taskset");
                command.args(["--cpu-list", &process::cpu_list(cpus)]).arg(program);
                command
            }
            None => Command::new(program),
        };
        command.arg(FLAG).kill_on_drop(true).stdin(Stdio::null()).stdout(Stdio::piped());
        command.env("CHURND__NATS__URL", site.nats.url()).env("CHURND__POSTGRES__URL", &database.url);
        command.env("CHURND__ROLES", roles).env("CHURND__HTTP__LISTEN", "127.0.0.1:0");
        command.envs(settings.iter().copied());
        if env::var_os("CHURND__LOG__LEVEL").is_none() {
            command.env("CHURND__LOG__LEVEL", "warn");
        }
        let started = Instant::now();
        let child = command.spawn().context("cannot start the daemon")?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).context("the daemon has no process id")?;
        Ok(Self { child, pid, started })
    }

    /// Waits until it says that it is up, and where.
    pub(crate) async fn ready(&mut self) -> anyhow::Result<String> {
        let output = self.child.stdout.take().context("the daemon was waited for already")?;
        let mut lines = BufReader::new(output).lines();
        let line =
            tokio::time::timeout(START, lines.next_line()).await.context("the daemon did not start in time")??;
        let line = line.context("the daemon ended at its start")?;
        Ok(line.strip_prefix(READY).context("the daemon said something else")?.trim().to_owned())
    }

    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// Lets it drain.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        signal::kill(Pid::from_raw(self.pid), Signal::SIGTERM)?;
        let status =
            tokio::time::timeout(START, self.child.wait()).await.context("the daemon did not drain in time")??;
        ensure!(status.success(), "the daemon ended with {status}");
        Ok(())
    }

    /// Ends it as a crash would.
    pub(crate) async fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill().await.context("cannot kill the daemon")
    }
}
