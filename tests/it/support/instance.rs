//! An instance under torture: its process, by whatever launch, and its own ways to the servers.

use std::{collections::VecDeque, fs, path::Path, process::ExitStatus};

use super::{
    Cluster,
    daemon::{Daemon, Log},
    http,
    nodes::links_to,
    proxy::Link,
    torture::LEASE_SECONDS,
};

/// A way from somebody to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// From an instance to Postgres.
    Postgres(usize),
    /// From an instance to a NATS node.
    Nats(usize, usize),
    /// From the publisher to a NATS node.
    Publisher(usize),
    /// From and to a NATS node.
    Routes(usize),
}

/// One of several instances.
pub(crate) struct Instance {
    name: &'static str,
    launches: u32,
    daemon: Option<Daemon>,
    frozen: bool,
    postgres: Link,
    nats: Vec<Link>,
    nats_url: String,
    /// What former launches logged.
    logs: VecDeque<(u32, Log)>,
}

impl Instance {
    pub(crate) async fn start(cluster: &Cluster, name: &'static str) -> Self {
        let postgres = Link::to(cluster.postgres().port()).await;
        let (nats, nats_url) = links_to(cluster.nodes()).await;
        let logs = VecDeque::new();
        let mut instance = Self { name, launches: 0, daemon: None, frozen: false, postgres, nats, nats_url, logs };
        instance.launch(cluster);
        instance.daemon.as_mut().expect("it was launched").wait_ready().await;
        instance
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn postgres(&self) -> &Link {
        &self.postgres
    }

    pub(crate) fn nats(&self, node: usize) -> &Link {
        &self.nats[node]
    }

    /// Starts its process. Each launch has a name of its own, so that who wrote what can be told apart.
    pub(crate) fn launch(&mut self, cluster: &Cluster) {
        const LOGS: usize = 40;
        self.retire();
        self.launches += 1;
        let name = format!("{}-{}", self.name, self.launches);
        let direct = format!(":{}/", cluster.postgres().port());
        let url = cluster.postgres_url().replace(&direct, &format!(":{}/", self.postgres.port()));
        let builder = Daemon::builder(cluster, &name)
            .setting("CHURND__NATS__URL", &self.nats_url)
            .setting("CHURND__POSTGRES__URL", url)
            .setting("CHURND__POSTGRES__APPLICATION_NAME", &name)
            .setting("CHURND__POSTGRES__LEASE_SECONDS", LEASE_SECONDS.to_string())
            .setting("CHURND__PIPELINE__CHECKPOINT_INTERVAL_MS", "100")
            .setting("CHURND__PIPELINE__SETTLE_SECONDS", "1");
        self.daemon = Some(builder.spawn());
        self.frozen = false;
        self.logs.truncate(LOGS);
    }

    /// Keeps what the last launch logged.
    fn retire(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            self.logs.push_front((self.launches, daemon.log().clone()));
        }
    }

    /// Kills it, if it runs.
    pub(crate) fn kill(&mut self) -> bool {
        let Some(daemon) = self.daemon.as_mut().filter(|_| !self.frozen) else { return false };
        daemon.kill();
        self.retire();
        true
    }

    /// Halts it, if it runs.
    pub(crate) fn freeze(&mut self) -> bool {
        let Some(daemon) = self.daemon.as_mut().filter(|_| !self.frozen) else { return false };
        if daemon.has_ended().is_some() {
            return false;
        }
        daemon.freeze();
        self.frozen = true;
        true
    }

    pub(crate) fn thaw(&mut self) {
        if let Some(daemon) = self.daemon.as_ref().filter(|_| self.frozen) {
            daemon.thaw();
        }
        self.frozen = false;
    }

    /// It is down, or asleep.
    pub(crate) fn is_impaired(&self) -> bool {
        self.daemon.is_none() || self.frozen
    }

    /// How it ended, if it did by itself.
    pub(crate) fn has_ended(&mut self) -> Option<ExitStatus> {
        self.daemon.as_mut().and_then(Daemon::has_ended)
    }

    pub(crate) async fn is_ready(&mut self) -> Result<(), String> {
        let daemon = self.daemon.as_mut().ok_or("it does not run")?;
        let line = daemon.log().find("listening").ok_or_else(|| format!("{} does not listen yet", self.name))?;
        let address = line["http"].as_str().and_then(|text| text.parse().ok()).ok_or("its line holds no address")?;
        let answer = http::get(address, "/readyz").await.map_err(|error| error.to_string())?;
        if answer.status == 200 { Ok(()) } else { Err(format!("{} is not ready: {}", self.name, answer.text())) }
    }

    /// How many of its writes were refused, by the last lines of all launches.
    pub(crate) fn fenced_writes(&self) -> u64 {
        let logs = self.logs.iter().map(|(_, log)| log).chain(self.daemon.as_ref().map(Daemon::log));
        logs.map(|log| log.text().matches("was refused").count() as u64).sum()
    }

    pub(crate) fn keep_logs(&self, dir: &Path) {
        let last = self.daemon.iter().map(|daemon| (self.launches, daemon.log()));
        for (launch, log) in self.logs.iter().map(|(launch, log)| (*launch, log)).chain(last) {
            fs::write(dir.join(format!("{}-{launch}.log", self.name)), log.text()).unwrap();
        }
    }
}

/// A counter of a daemon, summed over its labels.
pub(crate) async fn counter(daemon: &Daemon, name: &str) -> u64 {
    let text = http::get(daemon.address(), "/metrics").await.unwrap().text();
    let of_name = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
    let values = text.lines().filter(of_name).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counters are whole and small")]
    let sum = values.sum::<f64>() as u64;
    sum
}
