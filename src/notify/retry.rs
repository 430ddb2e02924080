//! When to try again: later with each failure, spread at random, never sooner than the receiver asked for.

use std::time::Duration;

/// The least wait.
const LEAST: Duration = Duration::from_secs(5);
/// The most that a message waits, unless its receiver asks for more.
pub(super) const MOST_FOR_MESSAGE: Duration = Duration::from_secs(3_600);
/// The most that a channel waits: within so long after it works again its messages flow.
pub(super) const MOST_FOR_CHANNEL: Duration = Duration::from_secs(300);
/// Nobody is believed who asks for more.
const MOST_ASKED: Duration = Duration::from_secs(24 * 3_600);

/// The wait after so many failures, the last one included. `random` lies between 0 and 1.
pub(super) fn wait(failures: u32, random: f64, most: Duration, asked: Option<Duration>) -> Duration {
    let doubled = LEAST.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(most);
    let spread = LEAST + (doubled - LEAST).mul_f64(random.clamp(0.0, 1.0));
    spread.max(asked.unwrap_or_default().min(MOST_ASKED))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(failures: u32, random: f64, asked: Option<u64>) -> u64 {
        wait(failures, random, MOST_FOR_MESSAGE, asked.map(Duration::from_secs)).as_secs()
    }

    #[test]
    fn waits_double_up_to_the_most_and_are_spread_over_all_of_it() {
        let longest: Vec<u64> = (0..14).map(|failures| seconds(failures, 1.0, None)).collect();
        assert_eq!(longest, [5, 5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600, 3600]);
        assert_eq!((seconds(9, 0.0, None), seconds(9, 0.5, None)), (5, 642));
        assert_eq!((seconds(u32::MAX, 1.0, None), seconds(u32::MAX, -7.0, None)), (3600, 5));
    }

    #[test]
    fn who_asks_for_more_gets_it_within_reason_and_who_asks_for_less_does_not() {
        assert_eq!((seconds(1, 1.0, Some(90)), seconds(6, 1.0, Some(90)), seconds(1, 0.0, Some(0))), (90, 160, 5));
        assert_eq!((seconds(1, 1.0, Some(7_200)), seconds(1, 1.0, Some(u64::MAX))), (7_200, 86_400));
    }
}
