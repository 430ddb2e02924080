//! The only place that asks the machine for the time of day.
//!
//! Everything that needs wall-clock time is handed a [`Clock`], so that tests can set it. Spans (timeouts, intervals,
//! uptime) are measured with `Instant` and do not come from here.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::event::time::Timestamp;

/// Tells the time of day; cheap to clone and to ask.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Manual(Arc<AtomicI64>),
}

/// Sets the time that a [`Clock::manual`] tells.
#[derive(Clone, Debug)]
pub struct ManualTime(Arc<AtomicI64>);

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands at `start` until it is moved by hand.
    pub fn manual(start: Timestamp) -> (Self, ManualTime) {
        let time = Arc::new(AtomicI64::new(start.millis()));
        (Self(Source::Manual(Arc::clone(&time))), ManualTime(time))
    }

    /// The time of day, to the millisecond.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System => system_now(),
            Source::Manual(millis) => Timestamp::from_millis(millis.load(Ordering::Acquire)),
        }
    }

    /// The clock as a plain function, for modules that should not name this one.
    pub fn source(&self) -> Arc<dyn Fn() -> Timestamp + Send + Sync> {
        let clock = self.clone();
        Arc::new(move || clock.now())
    }
}

impl ManualTime {
    /// Moves the clock to `at`, forward or back.
    pub fn set(&self, at: Timestamp) {
        self.0.store(at.millis(), Ordering::Release);
    }

    /// Moves the clock forward.
    pub fn advance(&self, span: Duration) {
        let millis = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        self.0.fetch_add(millis, Ordering::AcqRel);
    }
}

/// A machine set to a time before 1970 is taken to stand at 1970: there is no event from before.
fn system_now() -> Timestamp {
    Timestamp::from_millis(machine_now().saturating_add(ahead_millis()))
}

/// How far ahead of the machine's the clock runs: tests let days pass by it.
#[cfg(feature = "mutants")]
fn ahead_millis() -> i64 {
    use std::sync::OnceLock;
    static AHEAD: OnceLock<i64> = OnceLock::new();
    *AHEAD.get_or_init(|| {
        let seconds = std::env::var_os("CHURND_CLOCK_AHEAD_SECONDS");
        seconds.and_then(|seconds| seconds.to_str()?.parse::<i64>().ok()).unwrap_or(0).saturating_mul(1_000)
    })
}

#[cfg(not(feature = "mutants"))]
fn ahead_millis() -> i64 {
    0
}

fn machine_now() -> i64 {
    #[expect(clippy::disallowed_methods, reason = "this is the clock that everything else asks")]
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_clock_tells_a_time_of_this_century() {
        let year_2026 = "2026-01-01T00:00:00Z".parse::<Timestamp>().unwrap();
        let year_2100 = "2100-01-01T00:00:00Z".parse::<Timestamp>().unwrap();
        let now = Clock::system().now();
        assert!(now > year_2026 && now < year_2100, "{now}");
    }

    #[test]
    fn manual_clock_moves_only_by_hand_and_for_every_clone() {
        let start = Timestamp::from_seconds(1_000);
        let (clock, time) = Clock::manual(start);
        let source = clock.clone().source();
        assert_eq!(clock.now(), start);
        time.advance(Duration::from_secs(60));
        assert_eq!(source(), Timestamp::from_seconds(1_060));
        time.set(Timestamp::from_seconds(5));
        assert_eq!(clock.now(), Timestamp::from_seconds(5));
    }
}
