//! An instance: the real worker, outbox, lease rounds and readers, with all their tasks on one leash.
//!
//! A task on a leash is not polled while its instance sleeps (SIGSTOP), and never again once it was killed.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, OnceLock, atomic::Ordering},
    task::{Context, Poll},
    time::Duration,
};

use churnd::{
    engine::partition::Policy,
    event::time::Timestamp,
    pipeline::{
        accounts::Accounts,
        config::Config,
        fleet::Fleet,
        mutant::Mutants,
        outbox::Outbox,
        ownership::Ownership,
        rulebook::RuleBook,
        tasks::Tasks,
        worker::{Inlets, Tools, Worker},
    },
    store::leases::Role,
    telemetry::metrics::Metrics,
};
use futures_util::future::BoxFuture;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{
    log::LogPort,
    tables::{Seat, TablesPort},
    world::{START, World},
};

/// Who asks: an instance in one of its lives.
#[derive(Clone)]
pub(crate) struct Port {
    pub(crate) world: Arc<World>,
    pub(crate) who: usize,
    pub(crate) life: u32,
}

/// How instances of a world are set.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) config: Config,
    pub(crate) policy: Policy,
    pub(crate) lease: Duration,
    pub(crate) mutants: Mutants,
}

/// The driver's hold on an instance that was started.
pub(crate) struct Instance {
    pub(crate) port: Port,
    soft: CancellationToken,
    pub(crate) rules: watch::Sender<Arc<RuleBook>>,
}

struct Leash {
    port: Port,
    task: BoxFuture<'static, ()>,
}

impl Future for Leash {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        {
            let mut inner = self.port.world.lock();
            let body = &mut inner.bodies[self.port.who];
            if body.life != self.port.life || !body.alive {
                return Poll::Ready(());
            }
            if body.frozen {
                if !body.sleepers.iter().any(|waker| waker.will_wake(context.waker())) {
                    body.sleepers.push(context.waker().clone());
                }
                return Poll::Pending;
            }
        }
        self.task.as_mut().poll(context)
    }
}

impl Port {
    fn tasks(&self) -> Tasks {
        let port = self.clone();
        Tasks::started_by(move |task| port.spawn(task))
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        let spawned = self.world.tracker.spawn(Leash { port: self.clone(), task });
        let (port, mut inner) = (self.clone(), self.world.lock());
        inner.bodies[self.who].tasks.push(spawned.abort_handle());
        drop(inner);
        // A panic would otherwise only be missed.
        self.world.tracker.spawn(async move {
            if spawned.await.is_err_and(|error| error.is_panic()) {
                port.world.lock().complain(format!("a task of i{} panicked", port.who));
            }
        });
    }

    /// The instance's own idea of the time.
    fn clock(&self) -> Arc<dyn Fn() -> Timestamp + Send + Sync> {
        let (world, who) = (Arc::clone(&self.world), self.who);
        let begun = Instant::now() - Duration::from_millis(world.lock().elapsed().unsigned_abs());
        Arc::new(move || {
            let elapsed = i64::try_from(begun.elapsed().as_millis()).expect("worlds are short");
            Timestamp::from_millis(START + elapsed + world.lock().bodies[who].skew)
        })
    }
}

impl Instance {
    /// Starts an instance anew.
    pub(crate) fn start(world: &Arc<World>, who: usize, settings: &Settings, book: Arc<RuleBook>) -> Self {
        let life = {
            let mut inner = world.lock();
            let body = &mut inner.bodies[who];
            body.life += 1;
            (body.alive, body.frozen, body.linked, body.left) = (true, false, true, false);
            body.connects = Arc::default();
            body.connects.connects.fetch_add(1, Ordering::Relaxed);
            let life = body.life;
            inner.note(format_args!("i{who} starts, life {life}"));
            life
        };
        let port = Port { world: Arc::clone(world), who, life };
        let (soft, rules) = (CancellationToken::new(), watch::Sender::new(book));
        let running = run(port.clone(), settings.clone(), rules.subscribe(), soft.clone());
        port.spawn(Box::pin(running));
        Self { port, soft, rules }
    }

    /// SIGTERM.
    pub(crate) fn stop(&self) {
        self.port.world.lock().note(format_args!("i{} is asked to stop", self.port.who));
        self.soft.cancel();
    }

    /// kill -9.
    pub(crate) fn kill(&self) {
        self.port.world.lock().kill(self.port.who, self.port.life, "by the operator");
    }

    /// SIGSTOP.
    pub(crate) fn freeze(&self) {
        let mut inner = self.port.world.lock();
        inner.bodies[self.port.who].frozen = true;
        inner.note(format_args!("i{} is frozen", self.port.who));
    }

    /// SIGCONT.
    pub(crate) fn thaw(&self) {
        let sleepers = {
            let mut inner = self.port.world.lock();
            let body = &mut inner.bodies[self.port.who];
            if !std::mem::take(&mut body.frozen) {
                return;
            }
            let sleepers = std::mem::take(&mut body.sleepers);
            inner.note(format_args!("i{} wakes up", self.port.who));
            sleepers
        };
        sleepers.into_iter().for_each(std::task::Waker::wake);
    }

    /// Whether this life goes on.
    pub(crate) fn lives(&self) -> bool {
        let inner = self.port.world.lock();
        let body = &inner.bodies[self.port.who];
        body.life == self.port.life && body.alive
    }
}

/// One set of metrics for all worlds: nobody reads them, and they take long to make.
fn metrics() -> Metrics {
    static METRICS: OnceLock<Metrics> = OnceLock::new();
    METRICS.get_or_init(|| Metrics::new(Timestamp::from_millis(START))).clone()
}

async fn run(port: Port, settings: Settings, rules: watch::Receiver<Arc<RuleBook>>, soft: CancellationToken) {
    let (now, metrics) = (port.clock(), metrics());
    let ledger = Arc::new(TablesPort::of(&port));
    let accounts = Accounts::new(ledger.clone(), now.clone());
    while accounts.refresh().await.is_err() {
        sleep(Duration::from_millis(100)).await;
    }
    let seat = loop {
        match Seat::open(&port, settings.lease).await {
            Ok(seat) => break seat,
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    };
    let log = Arc::new(LogPort::of(&port));
    let (ownership, leases, releaser) = Ownership::new(Box::new(seat), Role::Engine, settings.mutants);
    let (outbox, sender, published) =
        Outbox::new(ledger.clone(), log.clone(), metrics.clone(), now.clone(), settings.mutants);
    let judged = Fleet { judged: true, ..Fleet::default() };
    let (_question, questions) = mpsc::channel(1);
    let tools = Tools {
        store: ledger,
        reading: Arc::new(LogPort::of(&port)),
        publisher: log,
        metrics,
        now,
        accounts,
        rules,
        fleet: watch::Sender::new(judged).subscribe(),
        tasks: port.tasks(),
        instance: format!("i{}-{}", port.who, port.life),
        mutants: settings.mutants,
        readers: Arc::default(),
    };
    let progress = watch::Sender::new(Instant::now().into_std());
    let worker = Worker::new(tools, settings.config, settings.policy, sender, releaser, progress);
    let hard = CancellationToken::new();
    let outbox = critical(&port, "outbox", outbox.run(hard.clone()), soft.clone());
    let ownership = critical(&port, "ownership", ownership.run(soft.clone()), soft.clone());
    let inlets = Inlets { leases, questions, published };
    let worker = critical(&port, "worker", worker.run(inlets, soft.clone()), soft);
    for ended in [worker, ownership] {
        if ended.await.is_err() {
            return;
        }
    }
    hard.cancel();
    if outbox.await.is_ok() {
        let mut inner = port.world.lock();
        inner.bodies[port.who].left = true;
        inner.kill(port.who, port.life, "by itself: it has drained");
    }
}

/// Starts what must go on until it is asked to end; resolves when it has ended well.
fn critical(
    port: &Port,
    name: &'static str,
    task: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    stop: CancellationToken,
) -> oneshot::Receiver<()> {
    let (end, ended) = oneshot::channel();
    let of = port.clone();
    port.spawn(Box::pin(async move {
        match task.await {
            Ok(()) if stop.is_cancelled() => {
                if end.send(()).is_err() {
                    of.world.lock().note(format_args!("nobody waits for {name} of i{}", of.who));
                }
            }
            Ok(()) => of.world.lock().complain(format!("{name} of i{} ended though nobody asked it to", of.who)),
            // It has drained as well as it could, and the process ends with a failure.
            Err(error) if stop.is_cancelled() => {
                of.world.lock().kill(of.who, of.life, &format!("by itself: {name} could not drain: {error}"));
            }
            Err(error) => of.world.lock().complain(format!("{name} of i{} failed: {error:#}", of.who)),
        }
    }));
    ended
}
