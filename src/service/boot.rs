//! The boot sequence: from checked settings to a running daemon, in the order in which things are needed.
//!
//! Nothing is spawned before it can be drained. What cannot be reached at the start ends the start, with the next step
//! in the message; systemd tries again.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use async_nats::{Client, connection::State, jetstream};
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use super::{
    clock::Clock,
    gauges::Gauges,
    interventions,
    lifecycle::Lifecycle,
    risk,
    systemd::ServiceManager,
    vitals::{Progress, Vitals},
};
use crate::{
    bridge::{
        Bridge,
        dashboard::live::Live,
        health::{Check, Operations},
        intake::Intake,
        keys::KeyRing,
        rate::RateLimits,
        router,
        segment::tail::DroppedTail,
        server::{Certificates, Server},
        slack::{SlackAppConfig, SlackInstall},
        state,
        stripe::SigningSecrets,
    },
    config::{Config, Role},
    engine::partition::Policy,
    event::time::Timestamp,
    notify::{
        check::Checks,
        dispatcher::{self, Dispatcher},
        intake::Intake as AlertIntake,
        sender::Sender,
    },
    pipeline::{
        accounts::Accounts,
        archive::Archiver,
        bookkeeper::Bookkeeper,
        doubling::check_numbering,
        erasure::Eraser,
        fleet::{Fleet, FleetGuard},
        interventions::InterventionDesk,
        mutant::Mutants,
        normalizer::Normalizer,
        outbox::{Outbox, OutboxSender},
        ownership::Ownership,
        risk::RiskDesk,
        rulebook::RuleBook,
        tasks::Tasks,
        worker::{Inlets, RiskQuestion, Tools, Worker},
    },
    store::{self, Store},
    stream::{
        self,
        publisher::{DEFAULT_WINDOW, Publisher},
        reader::ReaderCounters,
        topology,
    },
    telemetry::metrics::{Metrics, PurposeLabel, ResultLabel},
};

/// How often the accounts are looked up.
const ACCOUNTS_EVERY: Duration = Duration::from_secs(5);
/// How long the start may take besides waiting for servers that are away.
const START_WITHIN: Duration = Duration::from_secs(60);
/// How soon a server that is away is tried again at the start.
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// What the daemon listens on.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    /// The address of HTTP.
    pub http: SocketAddr,
}

/// Runs the daemon until it is asked to stop and has drained; `announce` is called once, when it is ready to be asked.
pub async fn run(config: Config, announce: impl FnOnce(&Bound)) -> anyhow::Result<()> {
    let lifecycle = Lifecycle::new(config.shutdown.deadline(), ServiceManager::of_this_process());
    lifecycle.listen_for_signals().context("cannot listen for signals")?;
    let patience = config.postgres.connect_patience() + config.nats.connect_patience();
    lifecycle.manager().extend_timeout(patience + START_WITHIN);
    let parts = Box::pin(Parts::connect(config, &lifecycle)).await?;
    let server = parts.bind().await?;
    let bound = Bound { http: server.address() };
    let question = if parts.config.roles.contains(Role::Engine) { Some(parts.start_engine().await?) } else { None };
    if parts.config.roles.contains(Role::Archive) {
        parts.start_archive().await?;
    }
    // Where customers are not worked on, answers would be as old as the last checkpoint.
    if let Some(worker) = &question {
        parts.start_services(worker.clone());
    }
    if parts.config.roles.contains(Role::Notify) {
        parts.start_notify()?;
    }
    parts.start_caretakers();
    let bridge =
        if parts.config.roles.contains(Role::Bridge) { Some(parts.start_bridge(question).await?) } else { None };
    parts.serve(server, bridge);
    announce(&bound);
    lifecycle.manager().ready();
    info!(version = env!("CARGO_PKG_VERSION"), http = %bound.http, "churnd is running");
    lifecycle.run().await
}

/// What the daemon is put together from.
struct Parts {
    config: Config,
    instance: String,
    lifecycle: Lifecycle,
    clock: Clock,
    metrics: Metrics,
    certificates: Option<Certificates>,
    store: Store,
    /// Connections of their own: reading must not wait behind publishing, nor a question behind either.
    reading: Client,
    publishing: Client,
    asking: Client,
    accounts: Accounts,
    rules: watch::Sender<Arc<RuleBook>>,
    progress: watch::Sender<Instant>,
    readers: Arc<ReaderCounters>,
    tracker: TaskTracker,
}

impl Parts {
    async fn connect(config: Config, lifecycle: &Lifecycle) -> anyhow::Result<Self> {
        let clock = Clock::system();
        let book = RuleBook::load(&config.rules).context("the rules cannot be used")?;
        let metrics = Metrics::new(clock.now());
        metrics.set_rules_hash(&book.hash());
        let certificates = config.http.certificates().context("TLS cannot be spoken")?;
        show_expiry(&metrics, certificates.as_ref());
        let store = connect_postgres(&config.postgres).await?;
        let accounts = Accounts::new(Arc::new(store.clone()), clock.source());
        accounts.refresh().await.context("cannot look up the accounts")?;
        let [reading, publishing, asking] = connect_nats(&config.nats).await?;
        let layout = store.layout().await.context("cannot look up the number of partitions")?;
        let first = layout.map_or(config.pipeline.partitions, |layout| layout.first);
        verify_streams(&jetstream::new(publishing.clone()), first).await?;
        Ok(Self {
            instance: config.instance_name(),
            lifecycle: lifecycle.clone(),
            clock,
            metrics,
            certificates,
            store,
            reading,
            publishing,
            asking,
            accounts,
            rules: watch::Sender::new(Arc::new(book)),
            progress: watch::Sender::new(Instant::now()),
            readers: Arc::default(),
            tracker: TaskTracker::new(),
            config,
        })
    }

    async fn bind(&self) -> anyhow::Result<Server> {
        let listen = self.config.http.listen;
        Server::bind(self.config.http.clone(), self.certificates.clone(), self.metrics.clone())
            .await
            .with_context(|| format!("cannot listen on {listen}: set http.listen to a free address"))
    }

    fn now(&self) -> Arc<dyn Fn() -> Timestamp + Send + Sync> {
        self.clock.source()
    }

    fn publisher(&self) -> Publisher {
        Publisher::new(self.publishing.clone(), DEFAULT_WINDOW)
    }

    /// Starts the worker and what belongs to it; gives back where it can be asked.
    async fn start_engine(&self) -> anyhow::Result<mpsc::Sender<RiskQuestion>> {
        Box::pin(self.prepare_partitions()).await?;
        let session = self.store.open_session(&self.instance).await.context("cannot open a session for leases")?;
        let (ownership, leases, releaser) =
            Ownership::new(Box::new(session), store::leases::Role::Engine, Mutants::of_environment());
        let (outbox, sender, published) = Outbox::new(
            Arc::new(self.store.clone()),
            Arc::new(self.publisher()),
            self.metrics.clone(),
            self.now(),
            Mutants::of_environment(),
        );
        let fleet = self.start_fleet_guard(sender.clone()).await?;
        let (question, questions) = mpsc::channel(1_024);
        let worker = Worker::new(
            self.tools(fleet),
            self.config.pipeline.clone(),
            self.policy(),
            sender,
            releaser,
            self.progress.clone(),
        );
        let normalizer = Normalizer {
            store: self.store.clone(),
            publisher: self.publisher(),
            accounts: self.accounts.clone(),
            metrics: self.metrics.clone(),
        };
        let eraser = Eraser {
            store: self.store.clone(),
            publisher: self.publisher(),
            metrics: self.metrics.clone(),
            now: self.now(),
            settle: self.config.erasure.settle(),
        };
        let bookkeeper = Bookkeeper { store: self.store.clone(), now: self.now() };
        let (soft, hard) = (self.lifecycle.soft().clone(), self.lifecycle.hard().clone());
        self.lifecycle.spawn_critical("erasure", eraser.run(soft.clone()));
        self.lifecycle.spawn_critical("bookkeeping", bookkeeper.run(soft.clone()));
        self.lifecycle.spawn_critical("outbox", outbox.run(hard));
        self.lifecycle.spawn_critical("ownership", ownership.run(soft.clone()));
        self.lifecycle.spawn_critical("worker", worker.run(Inlets { leases, questions, published }, soft.clone()));
        self.lifecycle.spawn_critical("stripe", normalizer.run(soft));
        Ok(question)
    }

    /// Makes sure of the partitions' rows, and that the stream numbers as they do. Once there are some, the setting counts no
    /// more: it is what a new installation begins with.
    async fn prepare_partitions(&self) -> anyhow::Result<()> {
        let set = self.config.pipeline.partitions;
        let made = self.store.ensure_partitions(store::leases::Role::Engine, set).await;
        let layout = made.context("cannot prepare the partitions")?;
        if set != layout.number && set != layout.first {
            let number = layout.number;
            warn!(
                set,
                number, "pipeline.partitions is {set}, but {number} are in force: `churnd partitions` doubles them"
            );
        }
        let context = jetstream::new(self.publishing.clone());
        check_numbering(&context, &layout).await.context("cannot look at the event stream")??;
        if layout.is_changing() {
            let number = layout.number;
            warn!(number, "a doubling of the partitions is not over: run `churnd partitions {number}` again");
        }
        Ok(())
    }

    /// Starts the judging of accounts' volumes; gives back where outages are heard of.
    async fn start_fleet_guard(&self, outbox: OutboxSender) -> anyhow::Result<watch::Receiver<Fleet>> {
        if !self.config.fleet.enabled {
            let nothing_to_judge = Fleet { judged: true, ..Fleet::default() };
            return Ok(watch::Sender::new(nothing_to_judge).subscribe());
        }
        let (publisher, now) = (self.publisher(), self.now());
        let policy = self.config.fleet.policy();
        let (store, metrics) = (self.store.clone(), self.metrics.clone());
        let guard = FleetGuard::open(store, publisher, metrics, now, outbox, policy)
            .await
            .context("cannot read which accounts are guarded")?;
        let fleet = guard.subscribe();
        self.lifecycle.spawn_critical("fleet guard", guard.run(self.lifecycle.soft().clone()));
        Ok(fleet)
    }

    fn tools(&self, fleet: watch::Receiver<Fleet>) -> Tools {
        Tools {
            store: Arc::new(self.store.clone()),
            reading: Arc::new(jetstream::new(self.reading.clone())),
            publisher: Arc::new(self.publisher()),
            metrics: self.metrics.clone(),
            now: self.now(),
            accounts: self.accounts.clone(),
            rules: self.rules.subscribe(),
            fleet,
            tasks: Tasks::on(self.tracker.clone()),
            instance: self.instance.clone(),
            mutants: Mutants::of_environment(),
            readers: Arc::clone(&self.readers),
        }
    }

    fn policy(&self) -> Policy {
        let millis = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        Policy {
            cooldown_millis: millis(self.config.alerts.cooldown()),
            history_after_millis: millis(self.config.pipeline.history_after()),
            settle_millis: millis(self.config.pipeline.settle()),
            settle_most_millis: millis(self.config.pipeline.settle_max()),
        }
    }

    async fn start_archive(&self) -> anyhow::Result<()> {
        self.store.ensure_partitions(store::leases::Role::Archive, 1).await.context("cannot prepare the archive")?;
        let session =
            self.store.open_session(&self.instance).await.context("cannot open a session for the archive's lease")?;
        let (ownership, leases, releaser) =
            Ownership::new(Box::new(session), store::leases::Role::Archive, Mutants::of_environment());
        let archiver = Archiver {
            store: self.store.clone(),
            reading: jetstream::new(self.reading.clone()),
            metrics: self.metrics.clone(),
            now: self.now(),
            retention_days: self.config.archive.retention_days,
            store_contact: self.config.privacy.store_contact,
        };
        let soft = self.lifecycle.soft().clone();
        self.lifecycle.spawn_critical("archive's lease", ownership.run(soft.clone()));
        self.lifecycle.spawn_critical("archive", archiver.run(leases, releaser, soft));
        Ok(())
    }

    fn start_services(&self, worker: mpsc::Sender<RiskQuestion>) {
        let desk = self.risk_desk(Some(worker.clone()));
        let (client, tracker) = (self.asking.clone(), self.tracker.clone());
        let stop: CancellationToken = self.lifecycle.closing().clone();
        self.lifecycle.spawn_front("risk service", async move {
            risk::serve(client, tracker, stop, desk).await.context("the risk service cannot be offered")
        });
        let desk = InterventionDesk::new(self.risk_desk(Some(worker)));
        let (client, tracker) = (self.asking.clone(), self.tracker.clone());
        let stop = self.lifecycle.closing().clone();
        self.lifecycle.spawn_front("intervention service", async move {
            let served = interventions::serve(client, tracker, stop, desk).await;
            served.context("the intervention service cannot be offered")
        });
    }

    fn risk_desk(&self, worker: Option<mpsc::Sender<RiskQuestion>>) -> RiskDesk {
        RiskDesk { worker, store: self.store.clone(), rules: self.rules.subscribe(), now: self.now() }
    }

    /// Puts together what the API works with, and starts what keeps its keys fresh.
    async fn start_bridge(&self, worker: Option<mpsc::Sender<RiskQuestion>>) -> anyhow::Result<Bridge> {
        let keys = KeyRing::new(self.store.clone(), self.now());
        keys.refresh().await.context("cannot read the keys")?;
        let signing_secrets = SigningSecrets::new(self.store.clone(), self.config.stripe.webhook_secret.clone());
        signing_secrets.refresh().await.context("cannot read the signing secrets")?;
        let rates = RateLimits::default();
        let tracking = self.config.tracking.clone();
        let intake = Intake::new(self.publisher(), self.metrics.clone(), tracking.publish_patience());
        let closing = self.lifecycle.closing().clone();
        self.lifecycle.spawn_front("keys", keys.clone().run(closing.clone()));
        self.lifecycle.spawn_front("signing secrets", signing_secrets.clone().run(closing.clone()));
        let live = Live::new(jetstream::new(self.asking.clone()), closing.clone());
        self.lifecycle.spawn_front("live pages", live.clone().run());
        self.lifecycle.spawn_front("rate limits", rates.clone().run(closing));
        Ok(Bridge::new(state::Parts {
            keys,
            signing_secrets,
            rates,
            intake,
            letters: self.publisher(),
            dashboard: self.config.dashboard.clone(),
            store: self.store.clone(),
            desk: self.risk_desk(worker),
            metrics: self.metrics.clone(),
            now: self.now(),
            body_time: self.config.http.body_read_timeout(),
            tracking,
            segment: self.config.segment.clone(),
            dropped: DroppedTail::default(),
            privacy: self.config.privacy.clone(),
            checks: Checks::new(&self.config.sender()),
            slack: self.slack_install()?,
            public_url: self.config.http.public_url.clone(),
            live,
        }))
    }

    /// Starts what turns alerts into messages and sends them. It shares nothing with scoring but the stream and the pool.
    fn start_notify(&self) -> anyhow::Result<()> {
        /// Longer than any try takes by its own limit.
        const HANGING: Duration = Duration::from_secs(10);
        let deliver = Sender::new(self.config.sender(), self.now()).context("messages cannot be sent")?;
        let came = Arc::new(Notify::new());
        let intake = AlertIntake {
            store: self.store.clone(),
            metrics: self.metrics.clone(),
            now: self.now(),
            came: Arc::clone(&came),
        };
        let parts = dispatcher::Parts {
            store: self.store.clone(),
            deliver,
            metrics: self.metrics.clone(),
            config: self.config.notify.clone(),
            patience: self.config.sending.timeout() + HANGING,
            store_contact: self.config.privacy.store_contact,
        };
        let soft = self.lifecycle.soft().clone();
        let dispatcher = Dispatcher::new(parts, soft.clone());
        let context = jetstream::new(self.asking.clone());
        self.lifecycle.spawn_critical("alerts", intake.run(context, soft));
        self.lifecycle.spawn_critical("deliveries", dispatcher.run(self.now(), came));
        Ok(())
    }

    /// Installing the Slack app, where all that it needs is set.
    fn slack_install(&self) -> anyhow::Result<Option<SlackInstall>> {
        let (slack, public_url) = (&self.config.slack, &self.config.http.public_url);
        let (Some(client_id), Some(client_secret), Some(public_url)) =
            (&slack.client_id, &slack.client_secret, public_url)
        else {
            return Ok(None);
        };
        let config = SlackAppConfig {
            client_id: client_id.clone(),
            client_secret: client_secret.clone(),
            api_url: slack.api_url.clone(),
            authorize_url: slack.authorize_url.clone(),
            public_url: public_url.clone(),
        };
        SlackInstall::new(config, self.config.sending.timeout()).context("Slack cannot be asked").map(Some)
    }

    /// Starts what keeps accounts, rules and gauges fresh.
    fn start_caretakers(&self) {
        let (accounts, soft) = (self.accounts.clone(), self.lifecycle.soft().clone());
        self.lifecycle.spawn_critical("accounts", async move {
            let mut every = tokio::time::interval(ACCOUNTS_EVERY);
            loop {
                tokio::select! {
                    () = soft.cancelled() => return Ok(()),
                    _ = every.tick() => {}
                }
                if let Err(error) = accounts.refresh().await {
                    warn!("cannot look up the accounts, going on with those known: {error}");
                }
            }
        });
        let (rules, files, metrics) = (self.rules.clone(), self.config.rules.clone(), self.metrics.clone());
        let certificates = self.certificates.clone();
        self.lifecycle.spawn_reloader(move || {
            let outcome = reload(&rules, &files, certificates.as_ref(), &metrics);
            async move { outcome }
        });
        let gauges = Gauges::new(self.metrics.clone(), Arc::clone(&self.readers), [&self.reading, &self.publishing]);
        let soft = self.lifecycle.soft().clone();
        self.lifecycle.spawn_critical("gauges", gauges.run(self.store.clone(), self.now(), soft));
        let asking = jetstream::new(self.asking.clone());
        let vitals = Arc::new(Vitals::new(self.progress(), &self.config.watchdog, self.store.clone(), asking));
        self.lifecycle.spawn_watchdog(move || {
            let vitals = Arc::clone(&vitals);
            async move { vitals.examine().await }
        });
    }

    fn serve(&self, server: Server, bridge: Option<Bridge>) {
        let operations = Operations::new(self.metrics.clone(), self.checks()).routes();
        let routes = match bridge {
            Some(bridge) => operations.merge(router::api(bridge)),
            None => operations,
        };
        let routes = router::complete(routes, &self.metrics);
        let (closing, hard) = (self.lifecycle.closing().clone(), self.lifecycle.hard().clone());
        self.lifecycle.spawn_front("http", async move {
            server.serve(routes, closing, hard).await;
            Ok(())
        });
    }

    /// Whether the worker gets ahead, where one runs.
    fn progress(&self) -> Progress {
        let works = self.config.roles.contains(Role::Engine);
        Progress::new(works.then(|| self.progress.subscribe()), &self.config.watchdog)
    }

    fn checks(&self) -> Vec<Check> {
        let (nats, store, progress) = (self.publishing.clone(), self.store.clone(), self.progress());
        vec![
            Check::not_stopping(self.lifecycle.soft().clone()),
            Check::immediate("nats", move || match nats.connection_state() {
                State::Connected => Ok(()),
                State::Pending | State::Disconnected => Err("not connected".to_owned()),
            }),
            Check::new("postgres", move || {
                let store = store.clone();
                async move { store.ping().await.map(|_| ()).map_err(|error| error.to_string()) }
            }),
            Check::immediate("progress", move || progress.check()),
        ]
    }
}

/// Reads again what can change while running. What cannot be used keeps nothing else from being replaced.
fn reload(
    rules: &watch::Sender<Arc<RuleBook>>,
    files: &crate::pipeline::config::RulesConfig,
    certificates: Option<&Certificates>,
    metrics: &Metrics,
) -> anyhow::Result<()> {
    let of_certificate = certificates.map_or(Ok(()), Certificates::reload).context("the certificate in force stays");
    show_expiry(metrics, certificates);
    let of_rules = reload_rules(rules, files, metrics).context("the rules in force stay");
    let result = if of_certificate.is_ok() && of_rules.is_ok() { "applied" } else { "refused" };
    metrics.config_reloads.get_or_create(&ResultLabel { result }).inc();
    match (of_rules, of_certificate) {
        (Err(one), Err(other)) => Err(one.context(format!("{other:#}"))),
        (one, other) => one.and(other),
    }
}

fn reload_rules(
    rules: &watch::Sender<Arc<RuleBook>>,
    files: &crate::pipeline::config::RulesConfig,
    metrics: &Metrics,
) -> anyhow::Result<()> {
    let book = RuleBook::load(files)?;
    metrics.set_rules_hash(&book.hash());
    rules.send_replace(Arc::new(book));
    Ok(())
}

fn show_expiry(metrics: &Metrics, certificates: Option<&Certificates>) {
    let Some(expires) = certificates.and_then(Certificates::expires) else { return };
    let gauge = metrics.tls_certificate_expiry_timestamp_seconds.get_or_create(&PurposeLabel { purpose: "http" });
    gauge.set(expires.millis().div_euclid(1_000));
}

async fn connect_postgres(config: &store::Config) -> anyhow::Result<Store> {
    let store = Store::connect(config).context("postgres.url cannot be used")?;
    let give_up_at = Instant::now() + config.connect_patience();
    while let Err(error) = store.ping().await {
        if !error.is_transient() || Instant::now() >= give_up_at {
            return Err(error).context("cannot reach Postgres: check postgres.url and that the server runs");
        }
        warn!("cannot reach Postgres yet, trying again: {:#}", anyhow::Error::from(error));
        tokio::time::sleep(TRY_AGAIN_AFTER).await;
    }
    store.check_schema().await.context("the database is not ready: run `churnd migrate`")?;
    Ok(store)
}

async fn connect_nats(config: &stream::Config) -> anyhow::Result<[Client; 3]> {
    let connect = async |name| {
        stream::connect(config, name).await.context("cannot reach NATS: check nats.url and that the server runs")
    };
    Ok([connect("churnd reading").await?, connect("churnd publishing").await?, connect("churnd asking").await?])
}

async fn verify_streams(context: &jetstream::Context, partitions: u16) -> anyhow::Result<()> {
    let problems = topology::declared(partitions).verify(context).await.context("cannot look at the streams")?;
    for problem in problems.iter().filter(|problem| !problem.fatal) {
        warn!("{}", problem.text);
    }
    let fatal: Vec<&str> =
        problems.iter().filter(|problem| problem.fatal).map(|problem| problem.text.as_str()).collect();
    if !fatal.is_empty() {
        bail!("NATS is not ready: {}", fatal.join("; "));
    }
    Ok(())
}
