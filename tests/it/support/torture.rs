//! Torture: three NATS nodes, Postgres, three instances, a fault proxy between all of them, and whatever can go wrong,
//! drawn by a seed, several things at a time. Then the faults end, and everything must come right within 30 seconds.
//!
//! Which faults come, in which order, against whom and for how long follows from the seed; what they hit does not.

use std::{
    ops::Range,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::task::JoinSet;

use super::{
    Cluster, Feed, Observer,
    disk::BrokenSync,
    eventually,
    faults::{Deck, Fault},
    instance::{Instance, Way},
    invariants::{self, Expected},
    nodes::{NODES, links_to},
    outcome::Outcome,
    proxy::{Cut, Direction, Link},
    storm::outgoing,
    watch::{Signs, watch},
};
use crate::model::traffic::{Sent, Traffic};

/// After the last fault everything must be accounted for, published and answered within this: it is the promise.
const CALM: Duration = Duration::from_secs(30);
/// How long a publisher tries: all nodes may be away for a while.
const PATIENCE: Duration = Duration::from_secs(240);
const INSTANCES: [&str; 3] = ["one", "two", "three"];
pub(crate) const LEASE_SECONDS: u64 = 2;

/// How bad it gets.
#[derive(Clone, Debug)]
pub(crate) struct Torture {
    pub(crate) seed: u64,
    pub(crate) lasts: Duration,
    pub(crate) events_per_second: usize,
    pub(crate) customers: usize,
    /// From one fault to the next, in milliseconds.
    pub(crate) pause: Range<u64>,
}

/// How a fault ends.
enum Ending {
    Start(usize),
    Thaw(usize),
    Heal(Vec<Way>),
    StartNats(Vec<usize>),
    StartPostgres,
    FreeNats(usize),
    FreePostgres,
    SyncNats(usize, BrokenSync),
    SyncPostgres(BrokenSync),
}

struct Ship<'a> {
    cluster: &'a Cluster,
    observer: Observer<'a>,
    torture: &'a Torture,
    instances: Vec<Instance>,
    publisher_links: Vec<Link>,
    endings: Vec<(Instant, Ending)>,
    /// The one node that is down, cut off or cannot write; or all of them.
    nats_trouble: bool,
    all_nats_down: bool,
    postgres_trouble: bool,
    rng: StdRng,
    signs: Arc<Signs>,
    outcome: Outcome,
}

impl Torture {
    /// Runs it to its end and checks all promises.
    pub(crate) async fn run(&self) -> Outcome {
        let cluster = Cluster::start_of_three().await;
        audit_writes(&cluster).await;
        let until = super::now();
        let events = self.events_per_second * usize::try_from(self.lasts.as_secs()).unwrap();
        let traffic = Arc::new(Traffic::draw(self.seed, events, self.customers, until));
        let (publisher_links, url) = links_to(cluster.nodes()).await;
        let mut instances = Vec::new();
        for name in INSTANCES {
            instances.push(Instance::start(&cluster, name).await);
        }
        let mut ship = Ship {
            observer: Observer::of(&cluster).await,
            cluster: &cluster,
            torture: self,
            instances,
            publisher_links,
            endings: Vec::new(),
            nats_trouble: false,
            all_nats_down: false,
            postgres_trouble: false,
            rng: StdRng::seed_from_u64(self.seed),
            signs: Arc::default(),
            outcome: Outcome { seed: self.seed, ..Outcome::default() },
        };
        let began = Instant::now();
        let mut tasks = JoinSet::new();
        tasks.spawn(watch(cluster.superuser_url(), Arc::clone(&ship.signs)));
        let (feed, rate) = (Feed::over(&url, PATIENCE).await, self.events_per_second);
        let mut sending = JoinSet::new();
        let publisher = sending.spawn(send(feed, Arc::clone(&traffic), rate, Arc::clone(&ship.signs)));

        ship.rage(began + self.lasts, || publisher.is_finished()).await;
        ship.end_all().await;
        let sent = sending.join_next().await.expect("the publisher was started").expect("it does not panic");
        let calm = Instant::now();
        let settled = ship.calm().await;
        ship.signs.over.store(true, Ordering::SeqCst);
        ship.outcome.calm_after = calm.elapsed();
        ship.outcome.took = began.elapsed();
        ship.outcome.stalls = tasks.join_next().await.expect("the watch was started").expect("it does not panic");
        ship.outcome.violations.extend(settled.err());
        ship.judge(&traffic.sent[..sent], &traffic, until).await;
        if !ship.outcome.violations.is_empty() {
            ship.keep_logs();
        }
        ship.outcome
    }
}

/// Publishes at a steady rate until it is told to stop; says how many events were confirmed, all that were sent.
async fn send(feed: Feed, traffic: Arc<Traffic>, rate: usize, signs: Arc<Signs>) -> usize {
    const TICK: Duration = Duration::from_millis(250);
    let mut ticks = tokio::time::interval(TICK);
    let mut sent = 0;
    let part = (rate / 4).max(1);
    for events in traffic.sent.chunks(part) {
        ticks.tick().await;
        if signs.sending_ends.load(Ordering::SeqCst) {
            break;
        }
        let acks = feed.send_all(outgoing(events)).await;
        sent += events.len();
        let newest = acks.iter().map(|ack| ack.sequence.0).max().unwrap_or_default();
        signs.confirmed.fetch_max(newest, Ordering::SeqCst);
    }
    sent
}

/// Has Postgres itself note each checkpoint that another process stored than the partition's owner.
async fn audit_writes(cluster: &Cluster) {
    let sql = "
        CREATE TABLE zombie_writes (role text, id smallint, owner text, writer text, at timestamptz DEFAULT now());
        CREATE FUNCTION note_zombie() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
            IF split_part(coalesce(OLD.owner, ''), '/', 1) <> current_setting('application_name') THEN
                INSERT INTO zombie_writes (role, id, owner, writer)
                VALUES (NEW.role, NEW.id, OLD.owner, current_setting('application_name'));
            END IF;
            RETURN NULL;
        END $$;
        CREATE TRIGGER zombies AFTER UPDATE ON partitions FOR EACH ROW
            WHEN (NEW.last_checkpoint IS DISTINCT FROM OLD.last_checkpoint) EXECUTE FUNCTION note_zombie();";
    cluster.sql().await.batch_execute(sql).await.unwrap();
}

impl Ship<'_> {
    /// Fault after fault until the end, or until everything is sent.
    async fn rage(&mut self, end: Instant, all_sent: impl Fn() -> bool) {
        let mut deck = Deck::new();
        let began = Instant::now();
        let mut next = began + Duration::from_secs(2);
        while Instant::now() < end && !all_sent() {
            self.end_what_is_due(Instant::now()).await;
            self.tend();
            if Instant::now() >= next {
                let fault = deck.draw(&mut self.rng);
                match self.begin(fault).await {
                    0 => deck.postpone(fault, &mut self.rng),
                    times => {
                        println!("{:7.1} s: {fault}", began.elapsed().as_secs_f64());
                        self.outcome.injected.count(fault, times);
                    }
                }
                let pause = self.rng.random_range(self.torture.pause.clone());
                next = Instant::now() + Duration::from_millis(pause);
            }
            self.tell_whether_blocked();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.signs.sending_ends.store(true, Ordering::SeqCst);
    }

    /// Something stops everything: no progress is expected.
    fn tell_whether_blocked(&self) {
        let idle = self.instances.iter().all(Instance::is_impaired);
        let blocked = self.all_nats_down || self.postgres_trouble || idle;
        self.signs.blocked.store(blocked, Ordering::SeqCst);
    }

    /// Starts those that ended by themselves, as systemd would.
    fn tend(&mut self) {
        for instance in &mut self.instances {
            if let Some(status) = instance.has_ended() {
                self.outcome.exits += 1;
                if status.code() != Some(1) {
                    self.outcome.violations.push(format!("{} ended with {status}", instance.name()));
                }
                instance.launch(self.cluster);
            }
        }
    }

    fn at(&mut self, millis: Range<u64>, ending: Ending) {
        let after = Duration::from_millis(self.rng.random_range(millis));
        self.endings.push((Instant::now() + after, ending));
    }

    /// Begins a fault; says how many that makes, 0 if it cannot be now.
    async fn begin(&mut self, fault: Fault) -> u64 {
        let instance = self.rng.random_range(0..self.instances.len());
        let node = self.rng.random_range(0..NODES);
        let way = self.some_way(instance);
        match fault {
            Fault::KillDaemon if self.instances[instance].kill() => self.at(0..900, Ending::Start(instance)),
            Fault::Pause if self.instances[instance].freeze() => {
                self.at(LEASE_SECONDS * 1_000 + 600..6_000, Ending::Thaw(instance));
            }
            Fault::KillNats if self.takes_node() => {
                self.node(node).kill();
                self.at(0..1_500, Ending::StartNats(vec![node]));
            }
            Fault::KillAllNats if self.takes_node() => {
                self.all_nats_down = true;
                self.cluster.nodes().for_each(churnd::embedded::nats::NatsServer::kill);
                self.at(500..2_000, Ending::StartNats((0..NODES).collect()));
            }
            Fault::KillPostgres if self.takes_postgres() => {
                self.cluster.postgres().kill();
                self.at(0..1_500, Ending::StartPostgres);
            }
            Fault::CutLink => return self.link(way).cut(),
            Fault::CutRoute => {
                let links = self.cluster.routes().between(node, (node + 1) % NODES);
                return links.map(Link::cut).sum::<u64>().min(1);
            }
            Fault::IsolateNode if self.takes_node() => {
                self.cluster.routes().of(node).for_each(Link::close);
                self.at(1_000..5_000, Ending::Heal(vec![Way::Routes(node)]));
            }
            Fault::HalfOpen if self.is_fair(way) => {
                let direction = if self.rng.random_bool(0.5) { Direction::Forth } else { Direction::Back };
                self.link(way).swallow(direction);
                self.at(1_000..8_000, Ending::Heal(vec![way]));
            }
            Fault::Slow if self.is_fair(way) => {
                let delay = self.rng.random_range(5..60);
                self.link(way).slow(Duration::from_millis(delay), 16 * 1024);
                self.at(1_000..6_000, Ending::Heal(vec![way]));
            }
            Fault::Closed if self.is_fair(way) => {
                self.link(way).close();
                self.at(500..5_000, Ending::Heal(vec![way]));
            }
            Fault::CutCommits => return self.cut_commits(instance).await,
            Fault::StepDown => return self.step_down().await,
            Fault::NatsDiskFull | Fault::PostgresDiskFull | Fault::NatsSyncError | Fault::PostgresSyncError => {
                return self.spoil_disk(fault, node);
            }
            _ => return 0,
        }
        1
    }

    /// Disks that are full or cannot sync.
    fn spoil_disk(&mut self, fault: Fault, node: usize) -> u64 {
        const NO_MOUNT: &str = "this user may not mount a disk";
        const NO_STRACE: &str = "strace is missing, or may not";
        let cluster = self.cluster;
        let impossible = match fault {
            Fault::NatsDiskFull => match cluster.routes().disk(node) {
                None => Some(NO_MOUNT),
                Some(disk) if self.takes_node() => {
                    disk.fill();
                    self.at(1_000..4_000, Ending::FreeNats(node));
                    return 1;
                }
                Some(_) => None,
            },
            Fault::PostgresDiskFull => match cluster.postgres_disk() {
                None => Some(NO_MOUNT),
                Some(disk) if self.takes_postgres() => {
                    disk.fill();
                    self.at(1_000..4_000, Ending::FreePostgres);
                    return 1;
                }
                Some(_) => None,
            },
            Fault::NatsSyncError if self.takes_node() => match self.node(node).pid().and_then(BrokenSync::of) {
                Some(broken) => {
                    self.at(1_000..3_000, Ending::SyncNats(node, broken));
                    return 1;
                }
                None => {
                    self.nats_trouble = false;
                    Some(NO_STRACE)
                }
            },
            Fault::PostgresSyncError if self.takes_postgres() => {
                match cluster.postgres().pid().and_then(BrokenSync::of) {
                    Some(broken) => {
                        self.at(1_000..3_000, Ending::SyncPostgres(broken));
                        return 1;
                    }
                    None => {
                        self.postgres_trouble = false;
                        Some(NO_STRACE)
                    }
                }
            }
            _ => None,
        };
        if let Some(why) = impossible {
            self.outcome.injected.impossible.insert(fault, why);
        }
        0
    }

    /// No more than one node may be in trouble.
    fn takes_node(&mut self) -> bool {
        !std::mem::replace(&mut self.nats_trouble, true)
    }

    fn takes_postgres(&mut self) -> bool {
        !std::mem::replace(&mut self.postgres_trouble, true)
    }

    fn node(&self, node: usize) -> &churnd::embedded::nats::NatsServer {
        self.cluster.nodes().nth(node).expect("there are three")
    }

    /// A way of an instance's to one of its servers, or of the publisher's, that is in use if one is.
    fn some_way(&mut self, instance: usize) -> Way {
        let first = self.rng.random_range(0..NODES);
        let kind = self.rng.random_range(0..10);
        let way = |node| match kind {
            0..4 => Way::Postgres(instance),
            4..8 => Way::Nats(instance, node),
            _ => Way::Publisher(node),
        };
        let mut ways = (0..NODES).map(|step| way((first + step) % NODES));
        ways.find(|way| self.link(*way).is_open()).unwrap_or(way(first))
    }

    /// Nobody else spoils it at this moment.
    fn is_fair(&self, way: Way) -> bool {
        !self.endings.iter().any(|(_, ending)| matches!(ending, Ending::Heal(ways) if ways.contains(&way)))
    }

    fn link(&self, way: Way) -> &Link {
        match way {
            Way::Postgres(instance) => self.instances[instance].postgres(),
            Way::Nats(instance, node) => self.instances[instance].nats(node),
            Way::Publisher(node) => &self.publisher_links[node],
            Way::Routes(_) => unreachable!("routes are several links"),
        }
    }

    /// Cuts some of an instance's next COMMITs, of whatever kind they are.
    async fn cut_commits(&mut self, instance: usize) -> u64 {
        if self.instances[instance].is_impaired() || self.postgres_trouble {
            return 0;
        }
        let kinds = [Cut::BeforeIt, Cut::BehindIt, Cut::BeforeItsAnswer];
        let plan: Vec<Option<Cut>> =
            (0..5).flat_map(|_| [Some(kinds[self.rng.random_range(0..kinds.len())]), None]).collect();
        let link = self.instances[instance].postgres();
        let before = link.commits_cut();
        link.cut_commits(plan);
        let deadline = Instant::now() + Duration::from_secs(2);
        while link.commits_cut() < before + 5 && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        link.forget_commits();
        link.commits_cut() - before
    }

    async fn step_down(&mut self) -> u64 {
        let streams = ["CHURN_EVENTS", "CHURN_EVENTS", "CHURN_EVENTS", "CHURN_ALERTS", "KV_churn_risk"];
        let stream = streams[self.rng.random_range(0..streams.len())];
        u64::from(self.observer.step_down(stream).await.is_ok())
    }

    async fn end_what_is_due(&mut self, now: Instant) {
        let (due, later) = std::mem::take(&mut self.endings).into_iter().partition(|(at, _)| *at <= now);
        self.endings = later;
        let due: Vec<(Instant, Ending)> = due;
        for (_, ending) in due {
            tokio::task::block_in_place(|| self.end(ending));
        }
    }

    fn end(&mut self, ending: Ending) {
        let cluster = self.cluster;
        match ending {
            Ending::Start(instance) => self.instances[instance].launch(cluster),
            Ending::Thaw(instance) => self.instances[instance].thaw(),
            Ending::Heal(ways) => {
                for way in ways {
                    match way {
                        Way::Routes(node) => {
                            cluster.routes().of(node).for_each(Link::heal);
                            self.nats_trouble = false;
                        }
                        way => self.link(way).heal(),
                    }
                }
            }
            Ending::StartNats(nodes) => {
                nodes.iter().for_each(|node| self.start_nats(*node));
                (self.nats_trouble, self.all_nats_down) = (false, false);
            }
            Ending::FreeNats(node) => {
                cluster.routes().disk(node).expect("it was filled").free();
                // What ran out of disk does not come back by itself.
                self.start_nats(node);
                self.nats_trouble = false;
            }
            Ending::SyncNats(node, mut broken) => {
                self.note_failed(&mut broken, Fault::NatsSyncError);
                drop(broken);
                self.start_nats(node);
                self.nats_trouble = false;
            }
            Ending::StartPostgres => self.start_postgres(),
            Ending::FreePostgres => {
                cluster.postgres_disk().expect("it was filled").free();
                self.start_postgres();
            }
            Ending::SyncPostgres(mut broken) => {
                self.note_failed(&mut broken, Fault::PostgresSyncError);
                drop(broken);
                self.start_postgres();
            }
        }
    }

    fn note_failed(&mut self, broken: &mut BrokenSync, fault: Fault) {
        if broken.has_failed() {
            *self.outcome.injected.counts.entry(fault).or_insert(1) -= 1;
            self.outcome.injected.impossible.insert(fault, "strace could not attach");
        }
    }

    /// Restarts a node as after a crash.
    fn start_nats(&mut self, node: usize) {
        self.node(node).kill();
        if let Err(error) = self.node(node).restart() {
            self.outcome.violations.push(format!("a NATS node does not come back: {error}"));
        }
    }

    fn start_postgres(&mut self) {
        self.cluster.postgres().kill();
        if let Err(error) = self.cluster.postgres().restart() {
            self.outcome.violations.push(format!("Postgres does not come back: {error}"));
        }
        self.postgres_trouble = false;
    }

    /// The time is up: whatever is wrong is put right.
    async fn end_all(&mut self) {
        let far = Instant::now() + Duration::from_secs(3_600);
        self.end_what_is_due(far).await;
        self.tend();
        self.tell_whether_blocked();
    }

    /// Waits until everything is accounted for, published and answered; says what is not when the time is up.
    async fn calm(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + CALM;
        loop {
            self.tend();
            match self.is_calm().await {
                Ok(()) => return Ok(()),
                Err(objection) if Instant::now() >= deadline => {
                    return Err(format!("not within {CALM:?} after the last fault: {objection}"));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    async fn is_calm(&mut self) -> Result<(), String> {
        self.observer.is_caught_up().await?;
        for instance in &mut self.instances {
            instance.is_ready().await?;
        }
        let found = invariants::settled(&self.observer, Duration::ZERO).await?;
        if found.is_empty() { Ok(()) } else { Err(found.join("; ")) }
    }

    /// Compares everything with the naive model.
    async fn judge(&mut self, sent: &[Sent], traffic: &Traffic, until: i64) {
        let histories = traffic.histories_of_first(sent.len());
        let unique: u64 = histories.values().map(|history| history.len() as u64).sum();
        let outcome = &mut self.outcome;
        outcome.acked = sent.len() as u64;
        let sum = async |sql: &str| {
            let number = eventually(CALM, async || self.observer.number(sql).await).await;
            u64::try_from(number).unwrap()
        };
        outcome.applied = sum("SELECT sum(applied + late)::bigint FROM partitions WHERE role = 'engine'").await;
        outcome.lost = unique.saturating_sub(outcome.applied);
        outcome.doubled = outcome.applied.saturating_sub(unique);
        outcome.zombie_writes = sum("SELECT count(*) FROM zombie_writes").await;
        let alerts = eventually(CALM, async || self.observer.messages("CHURN_ALERTS").await).await;
        let mut ids: Vec<String> = alerts.iter().map(|alert| alert.json()["id"].to_string()).collect();
        outcome.alerts = ids.len() as u64;
        ids.sort();
        ids.dedup();
        outcome.alerts_doubled = outcome.alerts - ids.len() as u64;
        let expected = Expected { histories: &histories, messages: sent.len() as u64, as_of: until };
        let found = invariants::violations(&self.observer, &expected).await;
        outcome.violations.extend(found.unwrap_or_else(|trouble| vec![trouble]));
        outcome.violations.extend(untold(&self.observer).await.unwrap_or_else(|trouble| vec![trouble]));
        for instance in &mut self.instances {
            self.outcome.fenced += instance.fenced_writes();
        }
    }

    /// Puts what all instances logged into a directory that stays.
    fn keep_logs(&self) {
        let dir = std::env::temp_dir().join(format!("churnd-torture-{}", self.torture.seed));
        std::fs::create_dir_all(&dir).unwrap();
        for instance in &self.instances {
            instance.keep_logs(&dir);
        }
        for (number, node) in self.cluster.nodes().enumerate() {
            drop(std::fs::copy(node.log_path(), dir.join(format!("nats-{number}.log"))));
        }
        drop(std::fs::copy(self.cluster.postgres().log_path(), dir.join("postgres.log")));
        eprintln!("what everybody logged stands in {}", dir.display());
    }
}

/// Each customer at risk was told about at its level, or that was held back.
async fn untold(observer: &Observer<'_>) -> Result<Vec<String>, String> {
    let sql = "SELECT s.token FROM customer_states s WHERE s.level <> 'low' AND s.status = 'active' AND NOT EXISTS (
        SELECT FROM outbox o WHERE o.account = s.account AND o.token = s.token AND o.kind IN ('alert', 'held_alert')
          AND split_part(o.subject, '.', 4) = s.level)";
    let rows = observer.rows(sql, &[]).await?;
    let untold: Vec<String> = rows.iter().take(5).map(|row| row.get(0)).collect();
    Ok(if rows.is_empty() {
        vec![]
    } else {
        vec![format!("{} customers at risk were never told: {untold:?}", rows.len())]
    })
}
