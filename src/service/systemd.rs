//! What the service manager is told: ready, reloading, stopping, alive.
//!
//! Without `$NOTIFY_SOCKET` (a start by hand) every call does nothing. A lost message is logged, never an error: the
//! daemon works as well without it.

use std::{fmt, io, sync::Arc, time::Duration};

use sd_notify::NotifyState;
use tracing::warn;

type Tell = dyn Fn(&[NotifyState<'_>]) -> io::Result<()> + Send + Sync;

/// The line to the service manager.
#[derive(Clone)]
pub struct ServiceManager {
    send: Arc<Tell>,
    watchdog_limit: Option<Duration>,
}

impl fmt::Debug for ServiceManager {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ServiceManager").field("watchdog_limit", &self.watchdog_limit).finish_non_exhaustive()
    }
}

impl ServiceManager {
    /// The service manager that started this process, if one did.
    pub fn of_this_process() -> Self {
        Self { send: Arc::new(sd_notify::notify), watchdog_limit: sd_notify::watchdog_enabled() }
    }

    /// One that nobody listens to: for commands that run in the foreground.
    pub fn none() -> Self {
        Self { send: Arc::new(|_| Ok(())), watchdog_limit: None }
    }

    /// How long the watchdog waits for a sign of life, when the unit has one.
    pub fn watchdog_limit(&self) -> Option<Duration> {
        self.watchdog_limit
    }

    /// The start, or a reload, is finished.
    pub fn ready(&self) {
        self.tell(&[NotifyState::Ready]);
    }

    /// A reload has begun; [`Self::ready`] must follow.
    pub fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.tell(&[NotifyState::Reloading, now]),
            Err(_) => self.tell(&[NotifyState::Reloading]),
        }
    }

    /// The drain has begun.
    pub fn stopping(&self) {
        self.tell(&[NotifyState::Stopping]);
    }

    /// Work goes on.
    pub fn watchdog(&self) {
        self.tell(&[NotifyState::Watchdog]);
    }

    /// One line for `systemctl status`.
    pub fn status(&self, line: &str) {
        self.tell(&[NotifyState::Status(line)]);
    }

    /// Starting or stopping takes longer: the present time-out begins anew with this length.
    pub fn extend_timeout(&self, span: Duration) {
        let micros = u32::try_from(span.as_micros()).unwrap_or(u32::MAX);
        self.tell(&[NotifyState::ExtendTimeoutUsec(micros)]);
    }

    fn tell(&self, states: &[NotifyState<'_>]) {
        if let Err(error) = (self.send)(states) {
            warn!("the service manager could not be told `{}`: {error}", words(states));
        }
    }

    #[cfg(test)]
    pub(crate) fn recorded(watchdog_limit: Option<Duration>) -> (Self, tokio::sync::mpsc::Receiver<String>) {
        let (sender, receiver) = tokio::sync::mpsc::channel(64);
        let send = move |states: &[NotifyState<'_>]| sender.try_send(words(states)).map_err(io::Error::other);
        (Self { send: Arc::new(send), watchdog_limit }, receiver)
    }
}

fn words(states: &[NotifyState<'_>]) -> String {
    states.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
