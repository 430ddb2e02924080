//! How long to wait before trying again: doubling, with a ceiling and jitter.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The wait before a next attempt, growing with each.
#[derive(Debug)]
pub(super) struct Backoff {
    first: Duration,
    most: Duration,
    attempts: u32,
    random: u64,
}

impl Backoff {
    /// Starts at `first` and never waits longer than `most`.
    pub(super) fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, attempts: 0, random: RandomState::new().hash_one(0) }
    }

    /// Like [`Self::new`], with waits that only the name decides.
    pub(super) fn named(first: Duration, most: Duration, name: &str) -> Self {
        Self { first, most, attempts: 0, random: xxh3_64_with_seed(name.as_bytes(), 0) }
    }

    /// Something worked: start over.
    pub(super) fn reset(&mut self) {
        self.attempts = 0;
    }

    /// How many waits were handed out since the last success.
    pub(super) fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The next wait: between half of the doubled step and all of it.
    pub(super) fn next_wait(&mut self) -> Duration {
        let step = self.first.saturating_mul(1 << self.attempts.min(16)).min(self.most);
        let share = xxh3_64_with_seed(&self.attempts.to_le_bytes(), self.random) % 512;
        self.attempts = self.attempts.saturating_add(1);
        step / 2 + step.mul_f64(f64::from(u32::try_from(share).unwrap_or(0)) / 1024.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_ceiling_and_start_over() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        let first = backoff.next_wait();
        assert!(first >= Duration::from_millis(50) && first <= Duration::from_millis(100), "{first:?}");
        for _ in 0..40 {
            assert!(backoff.next_wait() <= Duration::from_secs(5));
        }
        assert!(backoff.next_wait() >= Duration::from_millis(2500));
        backoff.reset();
        assert!(backoff.next_wait() <= Duration::from_millis(100));
    }
}
