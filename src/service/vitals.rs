//! Whether the daemon gets ahead, as readiness and the service manager's watchdog see it.
//!
//! A standstill is met in three steps: the reader looks for its place in the stream anew, then readiness is withdrawn, then
//! the watchdog is no longer fed and the service manager starts the daemon again. A server that does not answer explains
//! a standstill: a new start would not bring it back, and would drop what is in memory. That is put up with for much longer.

use std::time::Duration;

use async_nats::jetstream;
use serde::Deserialize;
use tokio::{sync::watch, time::timeout};

use crate::{store::Store, stream};

/// How long a server may take to answer when it is asked whether it is there.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// The settings under `[watchdog]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// After how long without progress, with events waiting, the daemon counts as stuck.
    pub stuck_after_seconds: u64,
    /// After how long it counts as stuck although a server is away.
    pub outage_patience_seconds: u64,
}

impl Config {
    /// Everything that cannot work, each as a sentence that begins with the setting.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if !(1..=3_600).contains(&self.stuck_after_seconds) {
            problems.push(format!(
                "watchdog.stuck_after_seconds is {}: it must lie between 1 and 3600",
                self.stuck_after_seconds
            ));
        }
        if !(self.stuck_after_seconds..=86_400).contains(&self.outage_patience_seconds) {
            problems.push(format!(
                "watchdog.outage_patience_seconds is {}: it must lie between watchdog.stuck_after_seconds, {}, and 86400",
                self.outage_patience_seconds, self.stuck_after_seconds
            ));
        }
        problems
    }
}

/// When the pipeline got ahead last, or found nothing to do; never, where it does not run.
#[derive(Clone, Debug)]
pub(super) struct Progress {
    last: Option<watch::Receiver<std::time::Instant>>,
    stuck_after: Duration,
}

impl Progress {
    pub(super) fn new(last: Option<watch::Receiver<std::time::Instant>>, config: &Config) -> Self {
        Self { last, stuck_after: Duration::from_secs(config.stuck_after_seconds) }
    }

    /// Why the pipeline counts as stuck, if it does.
    pub(super) fn check(&self) -> Result<(), String> {
        match self.standstill() {
            Some(silent) => Err(format!("no progress for {} s while events wait", silent.as_secs())),
            None => Ok(()),
        }
    }

    fn standstill(&self) -> Option<Duration> {
        let silent = self.last.as_ref()?.borrow().elapsed();
        (silent >= self.stuck_after).then_some(silent)
    }
}

/// What the watchdog judges by.
pub(super) struct Vitals {
    progress: Progress,
    outage_patience: Duration,
    store: Store,
    nats: jetstream::Context,
}

impl Vitals {
    pub(super) fn new(progress: Progress, config: &Config, store: Store, nats: jetstream::Context) -> Self {
        let outage_patience = Duration::from_secs(config.outage_patience_seconds);
        Self { progress, outage_patience, store, nats }
    }

    /// What `systemctl status` shows while the daemon works, or why it must be started anew.
    pub(super) async fn examine(&self) -> Result<String, String> {
        let Some(silent) = self.progress.standstill() else { return Ok("working".to_owned()) };
        let standstill = format!("no progress for {} s while events wait", silent.as_secs());
        match self.outage().await {
            Some(outage) if silent < self.outage_patience => Ok(format!("{standstill}: {outage}")),
            Some(outage) => Err(format!("{standstill}: {outage}, longer than watchdog.outage_patience_seconds")),
            None => Err(standstill),
        }
    }

    /// Which server does not answer.
    async fn outage(&self) -> Option<String> {
        let (postgres, nats) =
            tokio::join!(timeout(ANSWER_WITHIN, self.store.ping()), timeout(ANSWER_WITHIN, stream::ping(&self.nats)));
        let postgres = match postgres {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("postgres does not answer".to_owned()),
        };
        let nats = match nats {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("nats does not answer".to_owned()),
        };
        let outage: Vec<String> = [postgres, nats].into_iter().flatten().collect();
        (!outage.is_empty()).then(|| outage.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn config(stuck_after_seconds: u64, outage_patience_seconds: u64) -> Config {
        Config { stuck_after_seconds, outage_patience_seconds }
    }

    #[test]
    fn standstill_counts_from_the_last_progress_and_only_where_the_pipeline_runs() {
        let long_ago = Instant::now().checked_sub(Duration::from_secs(61)).unwrap();
        let (last, seen) = watch::channel(long_ago);
        let progress = Progress::new(Some(seen), &config(60, 900));
        assert_eq!(progress.check(), Err("no progress for 61 s while events wait".to_owned()));
        last.send_replace(Instant::now());
        assert_eq!(progress.check(), Ok(()));
        assert_eq!(Progress::new(None, &config(60, 900)).check(), Ok(()));
    }

    #[test]
    fn settings_that_cannot_work_are_named() {
        let cases = [
            (config(60, 900), Vec::new()),
            (config(0, 900), vec!["watchdog.stuck_after_seconds is 0: it must lie between 1 and 3600"]),
            (
                config(60, 59),
                vec![
                    "watchdog.outage_patience_seconds is 59: it must lie between watchdog.stuck_after_seconds, 60, and 86400",
                ],
            ),
        ];
        for (config, expected) in cases {
            assert_eq!(config.problems(), expected);
        }
    }
}
