//! How the daemon runs until it stops: signals, critical tasks, the drain, and what systemd hears of it.
//!
//! Stopping has three steps, each a token. `soft`: take no new work, finish what is in hand (first SIGTERM or SIGINT,
//! or a critical task that ended). `closing`: the work is done, the front ends may close. `hard`: time is up (second
//! signal, or the deadline), drop everything that can be done again after a restart.
//!
//! Owns no business: tasks are handed in, and what they do at each token is theirs. A critical task that ends unasked,
//! fails or panics drains the process and makes its exit code 1; systemd starts it again.

use std::{
    future::Future,
    io,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, anyhow};
use futures_util::{FutureExt, StreamExt};
use serde::Deserialize;
use signal_hook::consts::signal::{SIGHUP, SIGINT, SIGTERM};
use signal_hook_tokio::Signals;
use tokio::{sync::Notify, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, error, info, warn};

use super::systemd::ServiceManager;

/// How long tasks may take to end once the hard token is cancelled.
const HARD_GRACE: Duration = Duration::from_secs(2);

/// The settings under `[shutdown]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// How long a drain may take before what is left is dropped.
    pub deadline_seconds: u64,
}

impl Config {
    /// The deadline as a span.
    pub fn deadline(&self) -> Duration {
        Duration::from_secs(self.deadline_seconds)
    }

    /// Everything that cannot work, each as a sentence that begins with the setting.
    pub fn problems(&self) -> Vec<String> {
        if (1..=600).contains(&self.deadline_seconds) {
            return Vec::new();
        }
        vec![format!("shutdown.deadline_seconds is {}: it must lie between 1 and 600", self.deadline_seconds)]
    }
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Stop: softly the first time, hard the second.
    Stop,
    /// Read the configuration that can change while running again.
    Reload,
}

/// The running daemon's tokens and tasks; all clones are the same.
#[derive(Clone, Debug)]
pub struct Lifecycle(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    soft: CancellationToken,
    closing: CancellationToken,
    hard: CancellationToken,
    /// Tasks that do the work; their end opens `closing`.
    work: TaskTracker,
    /// Front ends, which answer until the work is done.
    fronts: TaskTracker,
    reload: Notify,
    failure: Mutex<Option<anyhow::Error>>,
    deadline: Duration,
    manager: ServiceManager,
}

impl Lifecycle {
    /// A daemon that has not started anything yet.
    pub fn new(deadline: Duration, manager: ServiceManager) -> Self {
        Self(Arc::new(Inner {
            soft: CancellationToken::new(),
            closing: CancellationToken::new(),
            hard: CancellationToken::new(),
            work: TaskTracker::new(),
            fronts: TaskTracker::new(),
            reload: Notify::new(),
            failure: Mutex::new(None),
            deadline,
            manager,
        }))
    }

    /// Cancelled when no new work may be taken.
    pub fn soft(&self) -> &CancellationToken {
        &self.0.soft
    }

    /// Cancelled when the work is done and the front ends may close.
    pub fn closing(&self) -> &CancellationToken {
        &self.0.closing
    }

    /// Cancelled when time is up.
    pub fn hard(&self) -> &CancellationToken {
        &self.0.hard
    }

    /// The line to systemd.
    pub fn manager(&self) -> &ServiceManager {
        &self.0.manager
    }

    /// Does what a signal asks for.
    pub fn request(&self, request: Request) {
        match request {
            Request::Reload => self.0.reload.notify_one(),
            Request::Stop if self.0.soft.is_cancelled() => {
                warn!("stopping at once, without finishing the work in hand: asked a second time");
                self.0.hard.cancel();
            }
            Request::Stop => {
                info!(deadline_seconds = self.0.deadline.as_secs(), "stopping: finishing the work in hand");
                self.0.soft.cancel();
            }
        }
    }

    /// Turns SIGTERM, SIGINT and SIGHUP into requests from now on.
    pub fn listen_for_signals(&self) -> io::Result<()> {
        let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
        let handle = signals.handle();
        let lifecycle = self.clone();
        self.0.fronts.spawn(async move {
            loop {
                let signal = tokio::select! {
                    signal = signals.next() => signal,
                    () = lifecycle.0.closing.cancelled() => None,
                };
                match signal {
                    Some(SIGHUP) => lifecycle.request(Request::Reload),
                    Some(_) => lifecycle.request(Request::Stop),
                    None => break,
                }
            }
            // Signals stay caught after this: closing takes moments, and none may kill it half way.
            handle.close();
        });
        Ok(())
    }

    /// Runs a task without which the daemon is of no use: should it end before the soft token is cancelled, fail or
    /// panic, everything is drained and the exit code is 1.
    pub fn spawn_critical(&self, name: &'static str, task: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
        self.0.work.spawn(self.clone().supervise(name, self.0.soft.clone(), task));
    }

    /// Runs a critical task that serves others until `closing`, while the work drains.
    pub fn spawn_front(&self, name: &'static str, task: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
        self.0.fronts.spawn(self.clone().supervise(name, self.0.closing.clone(), task));
    }

    async fn supervise(
        self,
        name: &'static str,
        may_end: CancellationToken,
        task: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) {
        let outcome = AssertUnwindSafe(task).catch_unwind().await;
        let failure = match outcome {
            Ok(Ok(())) if may_end.is_cancelled() => {
                debug!(task = name, "task `{name}` ended");
                return;
            }
            Ok(Ok(())) => anyhow!("task `{name}` ended though nobody asked it to"),
            Ok(Err(failure)) => failure.context(format!("task `{name}` failed")),
            Err(panic) => anyhow!("task `{name}` panicked: {}", panic_message(panic.as_ref())),
        };
        self.fail(failure);
    }

    /// Drains the daemon because of a failure; the first one is what [`Self::run`] returns.
    pub fn fail(&self, failure: anyhow::Error) {
        error!("{failure:#}");
        self.0.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
        self.0.soft.cancel();
    }

    /// Runs `reload` for each SIGHUP and tells systemd when it begins and ends. Requests that come while one is being
    /// served are served once, afterwards.
    pub fn spawn_reloader<F, Done>(&self, mut reload: F)
    where
        F: FnMut() -> Done + Send + 'static,
        Done: Future<Output = anyhow::Result<()>> + Send,
    {
        let lifecycle = self.clone();
        self.spawn_critical("reloader", async move {
            loop {
                tokio::select! {
                    () = lifecycle.0.soft.cancelled() => return Ok(()),
                    () = lifecycle.0.reload.notified() => {}
                }
                lifecycle.0.manager.reloading();
                match reload().await {
                    Ok(()) => info!("reloaded"),
                    Err(failure) => error!("not reloaded, carrying on as before: {failure:#}"),
                }
                lifecycle.0.manager.ready();
            }
        });
    }

    /// Feeds systemd's watchdog as long as `progress` finds that work goes on. Without a watchdog in the unit this does
    /// nothing. The callback must judge by what was achieved, never by being called; its words are the unit's status.
    pub fn spawn_watchdog<F, Judged>(&self, mut progress: F)
    where
        F: FnMut() -> Judged + Send + 'static,
        Judged: Future<Output = Result<String, String>> + Send,
    {
        let Some(limit) = self.0.manager.watchdog_limit() else { return };
        let lifecycle = self.clone();
        self.0.fronts.spawn(async move {
            let mut beat = tokio::time::interval(limit / 3);
            let mut told = String::new();
            loop {
                tokio::select! {
                    () = lifecycle.0.closing.cancelled() => return,
                    _ = beat.tick() => {}
                }
                let judged = progress().await;
                match &judged {
                    Ok(_) => lifecycle.0.manager.watchdog(),
                    Err(reason) => warn!("not feeding the watchdog: {reason}"),
                }
                let (Ok(words) | Err(words)) = judged;
                if words != told {
                    lifecycle.0.manager.status(&words);
                    told = words;
                }
            }
        });
    }

    /// Waits for the request to stop, drains, and returns the failure that made the daemon stop, if one did.
    pub async fn run(self) -> anyhow::Result<()> {
        let inner = &self.0;
        inner.soft.cancelled().await;
        inner.manager.stopping();
        // The unit's own limit may be shorter than the deadline that was set here.
        inner.manager.extend_timeout(inner.deadline + 3 * HARD_GRACE);
        inner.work.close();
        self.drain_work().await;
        inner.closing.cancel();
        inner.fronts.close();
        let fronts_ended = timeout(HARD_GRACE, inner.fronts.wait()).await;
        inner.hard.cancel();
        let first = inner.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        match first {
            Some(failure) => Err(failure).context("stopped by a failure"),
            None if !inner.work.is_empty() => Err(anyhow!("{} tasks did not end in time", inner.work.len())),
            None => {
                if fronts_ended.is_err() {
                    debug!("connections still open were dropped");
                }
                info!("stopped");
                Ok(())
            }
        }
    }

    /// Waits for the work to end: at most the deadline, or the second signal, and then a short grace.
    async fn drain_work(&self) {
        let inner = &self.0;
        tokio::select! {
            () = inner.work.wait() => return,
            () = inner.hard.cancelled() => {}
            () = tokio::time::sleep(inner.deadline) => {
                warn!(deadline_seconds = inner.deadline.as_secs(), "the drain took longer than its deadline: dropping the rest");
                inner.hard.cancel();
            }
        }
        if timeout(HARD_GRACE, inner.work.wait()).await.is_err() {
            error!(tasks = inner.work.len(), "tasks did not end when told to");
        }
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use tokio::sync::mpsc;

    use super::*;

    fn lifecycle(deadline: Duration) -> (Lifecycle, mpsc::Receiver<String>) {
        let (manager, told) = ServiceManager::recorded(Some(Duration::from_secs(3)));
        (Lifecycle::new(deadline, manager), told)
    }

    #[tokio::test]
    async fn first_request_drains_and_fronts_outlive_the_work() {
        let (lifecycle, mut told) = lifecycle(Duration::from_secs(5));
        let order = Arc::new(Mutex::new(Vec::new()));
        let (work, front) = (lifecycle.clone(), lifecycle.clone());
        let (work_order, front_order) = (Arc::clone(&order), Arc::clone(&order));
        lifecycle.spawn_critical("work", async move {
            work.soft().cancelled().await;
            assert!(!work.closing().is_cancelled());
            work_order.lock().unwrap().push("work");
            Ok(())
        });
        lifecycle.spawn_front("front", async move {
            front.closing().cancelled().await;
            front_order.lock().unwrap().push("front");
            Ok(())
        });
        lifecycle.request(Request::Stop);
        lifecycle.clone().run().await.unwrap();
        assert_eq!(*order.lock().unwrap(), ["work", "front"]);
        assert_eq!(told.recv().await.unwrap(), "STOPPING=1");
    }

    #[tokio::test]
    async fn second_request_cuts_the_drain_short() {
        let (lifecycle, _told) = lifecycle(Duration::from_secs(600));
        let task = lifecycle.clone();
        lifecycle.spawn_critical("stubborn", async move {
            task.hard().cancelled().await;
            Ok(())
        });
        lifecycle.request(Request::Stop);
        let running = TaskTracker::new().spawn(lifecycle.clone().run());
        lifecycle.request(Request::Stop);
        running.await.unwrap().unwrap();
        assert!(lifecycle.hard().is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn deadline_cuts_the_drain_short_and_a_task_that_stays_is_named() {
        let (lifecycle, _told) = lifecycle(Duration::from_secs(20));
        lifecycle.spawn_critical("deaf", std::future::pending());
        lifecycle.request(Request::Stop);
        let failure = lifecycle.run().await.unwrap_err();
        assert_eq!(failure.to_string(), "1 tasks did not end in time");
    }

    #[tokio::test]
    async fn critical_task_that_ends_fails_or_panics_drains_with_a_failure() {
        type Task = futures_util::future::BoxFuture<'static, anyhow::Result<()>>;
        let cases: [(Task, &str); 3] = [
            (async { Ok(()) }.boxed(), "task `reader` ended though nobody asked it to"),
            (async { Err(anyhow!("no route")) }.boxed(), "task `reader` failed: no route"),
            (async { panic!("index {}", 7) }.boxed(), "task `reader` panicked: index 7"),
        ];
        for (task, expected) in cases {
            let (lifecycle, _told) = lifecycle(Duration::from_secs(5));
            lifecycle.spawn_critical("reader", task);
            let failure = lifecycle.run().await.unwrap_err();
            assert_eq!(format!("{failure:#}"), format!("stopped by a failure: {expected}"));
        }
    }

    #[tokio::test]
    async fn failure_while_draining_still_makes_the_exit_a_failure() {
        let (lifecycle, _told) = lifecycle(Duration::from_secs(5));
        let task = lifecycle.clone();
        lifecycle.spawn_critical("flush", async move {
            task.soft().cancelled().await;
            Err(anyhow!("checkpoint refused"))
        });
        lifecycle.request(Request::Stop);
        assert!(lifecycle.run().await.is_err());
    }

    #[tokio::test]
    async fn reload_is_told_to_systemd_and_a_failing_one_changes_nothing() {
        let (lifecycle, mut told) = lifecycle(Duration::from_secs(5));
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        lifecycle.spawn_reloader(move || {
            counted.fetch_add(1, Ordering::SeqCst);
            async { Err(anyhow!("bad rules")) }
        });
        lifecycle.request(Request::Reload);
        assert!(told.recv().await.unwrap().starts_with("RELOADING=1\nMONOTONIC_USEC="));
        assert_eq!(told.recv().await.unwrap(), "READY=1");
        lifecycle.request(Request::Stop);
        lifecycle.run().await.unwrap();
        assert_eq!(count.load(Ordering::SeqCst), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn watchdog_is_fed_only_while_work_goes_on() {
        let (lifecycle, mut told) = lifecycle(Duration::from_secs(5));
        let healthy = Arc::new(AtomicBool::new(true));
        let asked = Arc::clone(&healthy);
        lifecycle.spawn_watchdog(move || {
            let healthy = asked.load(Ordering::SeqCst);
            let judged = if healthy { Ok("working".to_owned()) } else { Err("no checkpoint for 60 s".to_owned()) };
            std::future::ready(judged)
        });
        assert_eq!(told.recv().await.unwrap(), "WATCHDOG=1");
        assert_eq!(told.recv().await.unwrap(), "STATUS=working");
        assert_eq!(told.recv().await.unwrap(), "WATCHDOG=1");
        healthy.store(false, Ordering::SeqCst);
        assert_eq!(told.recv().await.unwrap(), "STATUS=no checkpoint for 60 s");
        assert!(timeout(Duration::from_secs(60), told.recv()).await.is_err());
        healthy.store(true, Ordering::SeqCst);
        assert_eq!(told.recv().await.unwrap(), "WATCHDOG=1");
        assert_eq!(told.recv().await.unwrap(), "STATUS=working");
    }

    #[tokio::test]
    async fn signals_become_requests() {
        let (lifecycle, _told) = lifecycle(Duration::from_secs(5));
        lifecycle.listen_for_signals().unwrap();
        nix::sys::signal::raise(nix::sys::signal::Signal::SIGTERM).unwrap();
        lifecycle.run().await.unwrap();
    }
}
