//! One world: two servers, the network between, and everything that is drawn from the seed.
//!
//! All of it lies behind one lock, which nobody holds across an await. What instances ask goes through [`World::call`]:
//! there requests are delayed, lost or refused, answers are lost after the effect, and instances die in between. A server's
//! part of a call runs in a task of its own, so it goes on when the instance that asked is killed or sleeps.

use std::{
    fmt::Write as _,
    sync::{Arc, Mutex, MutexGuard},
    task::Waker,
    time::Duration,
};

use churnd::event::time::Timestamp;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::{
    sync::oneshot,
    task::AbortHandle,
    time::{Instant, sleep, timeout},
};
use tokio_util::task::TaskTracker;
use xxhash_rust::xxh3::xxh3_64;

use crate::{log::Log, tables::Tables};

/// When every world begins: ten minutes past an hour, so that no window moves by itself while it lasts.
pub(crate) const START: i64 = 1_793_448_600_000;

/// Who is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    Log,
    Tables,
}

/// How an instance's call ended.
#[derive(Debug)]
pub(crate) enum Called<T> {
    /// The effect took place, and here is what it said.
    Done(T),
    /// Refused before any effect.
    Refused,
    /// Nobody knows whether there was an effect.
    NoAnswer,
}

/// What can go wrong at this moment. All zero and true when the faults have ended.
#[derive(Clone, Debug)]
pub(crate) struct Faults {
    pub(crate) log_up: bool,
    /// The bucket takes scores; the other streams take what is theirs anyway.
    pub(crate) bucket_up: bool,
    pub(crate) tables_up: bool,
    /// The longest way to a server and back, in milliseconds.
    pub(crate) slow: u64,
    /// In thousandths: requests and answers of the log's API that get lost.
    pub(crate) lost_calls: u32,
    /// Messages that never reach an inbox.
    pub(crate) lost_messages: u32,
    /// Calls to the tables that are refused, and those whose answer is lost.
    pub(crate) refused: u32,
    pub(crate) unknown: u32,
    /// Publishes that are not confirmed, stored or not.
    pub(crate) unconfirmed: u32,
    /// Calls at which the instance is killed, before the effect or after.
    pub(crate) deadly: u32,
}

impl Faults {
    pub(crate) fn none() -> Self {
        Self {
            log_up: true,
            bucket_up: true,
            tables_up: true,
            slow: 2,
            lost_calls: 0,
            lost_messages: 0,
            refused: 0,
            unknown: 0,
            unconfirmed: 0,
            deadly: 0,
        }
    }
}

/// An instance as the world sees it.
#[derive(Default)]
pub(crate) struct Body {
    /// Counts the starts.
    pub(crate) life: u32,
    pub(crate) alive: bool,
    pub(crate) frozen: bool,
    /// Its tasks, while it sleeps.
    pub(crate) sleepers: Vec<Waker>,
    pub(crate) tasks: Vec<AbortHandle>,
    /// How far its clock is ahead of the servers'.
    pub(crate) skew: i64,
    /// Its connection to the log stands.
    pub(crate) linked: bool,
    pub(crate) connects: Arc<async_nats::client::Statistics>,
    /// It gave everything back and ended by itself.
    pub(crate) left: bool,
}

/// Everything behind the lock.
pub(crate) struct Inner {
    pub(crate) random: StdRng,
    pub(crate) faults: Faults,
    pub(crate) bodies: Vec<Body>,
    pub(crate) log: Log,
    pub(crate) tables: Tables,
    /// Broken promises.
    pub(crate) violations: Vec<String>,
    trace: String,
    begun: Instant,
}

/// A world; everybody in it holds it.
pub(crate) struct World {
    inner: Mutex<Inner>,
    /// The servers' own tasks.
    pub(crate) tracker: TaskTracker,
}

impl World {
    pub(crate) fn new(seed: u64, partitions: u16, instances: usize) -> Arc<Self> {
        let inner = Inner {
            random: StdRng::seed_from_u64(seed ^ 0x5eed),
            faults: Faults::none(),
            bodies: (0..instances).map(|_| Body::default()).collect(),
            log: Log::new(partitions),
            tables: Tables::new(partitions),
            violations: Vec::new(),
            trace: String::new(),
            begun: Instant::now(),
        };
        Arc::new(Self { inner: Mutex::new(inner), tracker: TaskTracker::new() })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("nobody panics in here")
    }

    /// One question of an instance to a server.
    pub(crate) async fn call<T: Send + 'static>(
        self: &Arc<Self>,
        who: usize,
        server: Server,
        patience: Duration,
        effect: impl FnOnce(&mut Inner) -> T + Send + 'static,
    ) -> Called<T> {
        let (there, back, fate) = {
            let mut inner = self.lock();
            (inner.way(), inner.way(), inner.fate(who, server))
        };
        match fate {
            Fate::Refused => {
                sleep(there).await;
                return Called::Refused;
            }
            Fate::RequestLost => {
                sleep(patience).await;
                return Called::NoAnswer;
            }
            Fate::Answered | Fate::AnswerLost | Fate::DeadBefore | Fate::DeadAfter | Fate::Cut => {}
        }
        let (tell, told) = oneshot::channel();
        let (world, life) = (Arc::clone(self), self.lock().bodies[who].life);
        self.tracker.spawn(async move {
            sleep(there).await;
            let answer = {
                let mut inner = world.lock();
                if fate == Fate::DeadBefore {
                    inner.kill(who, life, "before a call's effect");
                    return;
                }
                if !inner.is_up(server) {
                    return;
                }
                let answer = effect(&mut inner);
                if fate == Fate::DeadAfter {
                    inner.kill(who, life, "after a call's effect");
                }
                answer
            };
            if fate == Fate::Answered {
                sleep(back).await;
                // Whoever asked may be dead by now.
                drop(tell.send(answer));
            }
        });
        match timeout(if fate == Fate::Cut { there / 2 } else { patience }, told).await {
            Ok(Ok(answer)) => Called::Done(answer),
            // The connection broke; the caller hears of it at once, or only when it has waited long enough.
            Ok(Err(_)) if fate == Fate::AnswerLost && server == Server::Log => {
                sleep(patience).await;
                Called::NoAnswer
            }
            Ok(Err(_)) | Err(_) => Called::NoAnswer,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Answered,
    Refused,
    RequestLost,
    AnswerLost,
    /// The caller hears that the connection broke while the server is still at it.
    Cut,
    DeadBefore,
    DeadAfter,
}

impl Inner {
    /// Milliseconds since the world began.
    pub(crate) fn elapsed(&self) -> i64 {
        i64::try_from(self.begun.elapsed().as_millis()).expect("worlds are short")
    }

    /// The servers' time.
    pub(crate) fn wall(&self) -> Timestamp {
        Timestamp::from_millis(START + self.elapsed())
    }

    /// A line of the trace.
    pub(crate) fn note(&mut self, line: std::fmt::Arguments<'_>) {
        let elapsed = self.elapsed();
        tracing::info!(target: "sim", "{:>4}.{:03} {line}", elapsed / 1_000, elapsed % 1_000);
        writeln!(self.trace, "{:>4}.{:03} {line}", elapsed / 1_000, elapsed % 1_000).expect("strings take everything");
    }

    /// A promise was broken.
    pub(crate) fn complain(&mut self, what: String) {
        self.note(format_args!("!!! {what}"));
        self.violations.push(what);
    }

    pub(crate) fn trace(&self) -> &str {
        &self.trace
    }

    pub(crate) fn trace_hash(&self) -> u64 {
        xxh3_64(self.trace.as_bytes())
    }

    /// True in so many of a thousand cases.
    pub(crate) fn chance(&mut self, thousandths: u32) -> bool {
        thousandths > 0 && self.random.random_range(0..1_000) < thousandths
    }

    /// How long a packet is under way.
    pub(crate) fn way(&mut self) -> Duration {
        let most = self.faults.slow.max(1);
        // Most are quick even where some are slow.
        let most = if self.random.random_range(0..4) == 0 { most } else { most.min(3) };
        Duration::from_millis(self.random.random_range(0..=most))
    }

    pub(crate) fn is_up(&self, server: Server) -> bool {
        match server {
            Server::Log => self.faults.log_up,
            Server::Tables => self.faults.tables_up,
        }
    }

    fn fate(&mut self, who: usize, server: Server) -> Fate {
        if self.chance(self.faults.deadly) {
            return if self.chance(500) { Fate::DeadBefore } else { Fate::DeadAfter };
        }
        match server {
            Server::Log if !self.faults.log_up || !self.bodies[who].linked => Fate::RequestLost,
            Server::Log if self.chance(self.faults.lost_calls) => {
                if self.chance(500) {
                    Fate::RequestLost
                } else {
                    Fate::AnswerLost
                }
            }
            Server::Tables if !self.faults.tables_up || self.chance(self.faults.refused) => Fate::Refused,
            Server::Tables if self.chance(self.faults.unknown) => match self.random.random_range(0..3) {
                0 => Fate::RequestLost,
                1 => Fate::AnswerLost,
                _ => Fate::Cut,
            },
            Server::Log | Server::Tables => Fate::Answered,
        }
    }

    /// kill -9, if it is still the same life.
    pub(crate) fn kill(&mut self, who: usize, life: u32, why: &str) {
        let body = &mut self.bodies[who];
        if body.life != life || !body.alive {
            return;
        }
        body.alive = false;
        body.frozen = false;
        body.linked = false;
        for task in std::mem::take(&mut body.tasks) {
            task.abort();
        }
        body.sleepers.clear();
        self.note(format_args!("i{who} is killed {why}"));
        self.log.hang_up(who);
        self.tables.hang_up(who, life);
    }
}
