//! A storm: a daemon and its servers are killed at random moments while events flow.
//!
//! Who ends by itself because a server is away is started again, as systemd would do it.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::StdRng, seq::SliceRandom};

use super::{
    Cluster, Feed, Observer,
    daemon::Daemon,
    eventually,
    feed::event,
    invariants::{Expected, violations},
    observer::Trouble,
};
use crate::model::traffic::{Sent, Traffic};

/// After the last fault everything must be accounted for within this.
const CALM: Duration = Duration::from_secs(150);
/// How long to wait for a restarted daemon to get ahead before it is killed anyway.
const PROGRESS: Duration = Duration::from_secs(20);

/// How bad it gets.
#[derive(Clone, Debug)]
pub(crate) struct Storm {
    pub(crate) seed: u64,
    pub(crate) events: usize,
    pub(crate) customers: usize,
    pub(crate) daemon_kills: usize,
    pub(crate) postgres_kills: usize,
    pub(crate) nats_kills: usize,
    /// Settings and variables of the daemon.
    pub(crate) settings: Vec<(&'static str, &'static str)>,
}

/// What is struck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Daemon,
    Postgres,
    Nats,
}

/// What a storm came to.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) daemon_kills: usize,
    pub(crate) postgres_kills: usize,
    pub(crate) nats_kills: usize,
    /// How often the daemon ended by itself because a server was away at its start.
    pub(crate) exits: usize,
    pub(crate) messages: u64,
    pub(crate) took: Duration,
    /// From a start to the first checkpoint, at the worst.
    pub(crate) longest_recovery: Duration,
    /// From the last fault to lag 0.
    pub(crate) calm_after: Duration,
    pub(crate) violations: Vec<String>,
}

struct Ship<'a> {
    cluster: &'a Cluster,
    observer: Observer<'a>,
    storm: &'a Storm,
    daemon: Daemon,
    started: Instant,
    rng: StdRng,
    figures: Figures,
}

impl Storm {
    /// Runs it to its end and checks all promises.
    pub(crate) async fn run(&self) -> Figures {
        let cluster = Cluster::start_durable().await;
        let until = super::now();
        let traffic = Traffic::draw(self.seed, self.events, self.customers, until);
        let feed = Feed::open(&cluster).await;
        let began = Instant::now();
        let mut ship = Ship {
            observer: Observer::of(&cluster).await,
            daemon: self.start_daemon(&cluster),
            cluster: &cluster,
            storm: self,
            started: began,
            rng: StdRng::seed_from_u64(self.seed),
            figures: Figures::default(),
        };
        let targets = ship.targets();
        let share = traffic.sent.len().div_ceil(targets.len());
        for (part, target) in traffic.sent.chunks(share).zip(&targets) {
            tokio::join!(feed.send_all(outgoing(part)), ship.strike(*target));
        }
        let calm = Instant::now();
        eventually(CALM, async || {
            ship.tend();
            ship.observer.is_caught_up().await
        })
        .await;
        let mut figures = std::mem::take(&mut ship.figures);
        figures.calm_after = calm.elapsed();
        figures.took = began.elapsed();
        figures.messages = traffic.messages();
        let expected = Expected { histories: &traffic.histories, messages: traffic.messages(), as_of: until };
        figures.violations.extend(violations(&ship.observer, &expected).await.unwrap());
        if !figures.violations.is_empty() && self.settings.is_empty() {
            eprintln!("--- the daemon's last lines:\n{}", ship.daemon.log().text());
        }
        figures
    }

    fn start_daemon(&self, cluster: &Cluster) -> Daemon {
        let builder = Daemon::builder(cluster, "one").setting("CHURND__PIPELINE__SETTLE_SECONDS", "1");
        self.settings.iter().fold(builder, |builder, (name, value)| builder.setting(name, value)).spawn()
    }
}

/// Events on their way; repeats under another message id, so that the stream takes them.
pub(crate) fn outgoing(part: &[Sent]) -> Vec<churnd::stream::publisher::Outgoing> {
    let one = |sent: &Sent| {
        let mut message = event(&sent.customer, &sent.body());
        if sent.repeat {
            message.message_id = message.message_id.map(|id| format!("{id}:again"));
        }
        message
    };
    part.iter().map(one).collect()
}

impl Ship<'_> {
    /// All strikes in random order.
    fn targets(&mut self) -> Vec<Target> {
        let storm = self.storm;
        let mut targets = vec![Target::Daemon; storm.daemon_kills];
        targets.extend(vec![Target::Postgres; storm.postgres_kills]);
        targets.extend(vec![Target::Nats; storm.nats_kills]);
        targets.shuffle(&mut self.rng);
        targets
    }

    async fn strike(&mut self, target: Target) {
        match target {
            Target::Daemon => {
                self.wait_for_work().await;
                self.moment(0..150).await;
                self.daemon.kill();
                self.figures.daemon_kills += 1;
                let before = self.sum().await;
                self.launch();
                if let Ok(before) = before
                    && self.rng.random_bool(0.7)
                {
                    self.wait_for_progress(before).await;
                }
            }
            Target::Postgres => {
                self.moment(0..1_500).await;
                self.cluster.postgres().kill();
                self.figures.postgres_kills += 1;
                self.moment(0..800).await;
                tokio::task::block_in_place(|| self.cluster.postgres().restart()).unwrap();
            }
            Target::Nats => {
                self.moment(0..1_500).await;
                self.cluster.nats.kill();
                self.figures.nats_kills += 1;
                self.moment(0..800).await;
                tokio::task::block_in_place(|| self.cluster.nats.restart()).unwrap();
            }
        }
        self.tend();
    }

    /// A random moment, not a wait for anything.
    async fn moment(&mut self, millis: Range<u64>) {
        tokio::time::sleep(Duration::from_millis(self.rng.random_range(millis))).await;
    }

    fn launch(&mut self) {
        self.daemon = self.storm.start_daemon(self.cluster);
        self.started = Instant::now();
    }

    /// Starts a daemon that ended by itself.
    fn tend(&mut self) {
        if let Some(status) = self.daemon.has_ended() {
            self.figures.exits += 1;
            if status.code() != Some(1) {
                self.figures.violations.push(format!("the daemon ended with {status}"));
            }
            self.launch();
        }
    }

    /// Waits until there is something to do, but not for long.
    async fn wait_for_work(&self) {
        let deadline = Instant::now() + Duration::from_secs(1);
        while Instant::now() < deadline && self.observer.is_caught_up().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn sum(&self) -> Result<u64, Trouble> {
        Ok(self.observer.watermarks().await?.iter().sum())
    }

    /// Waits until the new daemon has stored a checkpoint or has nothing to do.
    async fn wait_for_progress(&mut self, before: u64) {
        let deadline = Instant::now() + PROGRESS;
        while Instant::now() < deadline {
            self.tend();
            if self.sum().await.is_ok_and(|now| now > before) {
                self.figures.longest_recovery = self.figures.longest_recovery.max(self.started.elapsed());
                return;
            }
            if self.observer.is_caught_up().await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.figures.violations.push(format!("no progress within {PROGRESS:?} after a restart"));
    }
}
