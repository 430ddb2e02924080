//! Everything goes wrong at once, by a seed: a short form here, a long one by `scripts/torture`.

use std::{ops::Range, time::Duration};

use crate::support::{outcome::Outcome, torture::Torture};

fn torture(seed: u64, seconds: u64, pause: Range<u64>) -> Torture {
    Torture { seed, lasts: Duration::from_secs(seconds), events_per_second: 300, customers: 2_000, pause }
}

#[track_caller]
fn assert_promises_kept(outcome: &Outcome) {
    println!("{outcome}");
    assert!(outcome.violations.is_empty(), "seed {}: {:#?}", outcome.seed, outcome.violations);
    let broken = [outcome.lost, outcome.doubled, outcome.alerts_doubled, outcome.zombie_writes];
    assert_eq!(broken, [0; 4], "lost, doubled, alerts doubled, zombie writes");
    assert!(outcome.alerts > 0 && outcome.kills() > 0, "nothing happened");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whatever_goes_wrong_every_event_counts_once_and_all_is_right_within_30_seconds() {
    let outcome = torture(20_261_123, 60, 300..3_000).run().await;
    assert_promises_kept(&outcome);
}

/// Half an hour, or as long as `CHURND_TORTURE_MINUTES` says, with the seed in `CHURND_TORTURE_SEED`.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "takes half an hour: scripts/torture runs it"]
async fn for_long() {
    let number = |name: &str| std::env::var_os(name).and_then(|text| text.to_str()?.parse::<u64>().ok());
    let minutes = number("CHURND_TORTURE_MINUTES").unwrap_or(30);
    let seed = number("CHURND_TORTURE_SEED").unwrap_or_else(rand::random);
    println!("seed {seed}, {minutes} minutes");
    let outcome = torture(seed, minutes * 60, 300..1_500).run().await;
    assert_promises_kept(&outcome);
    if minutes >= 30 {
        use crate::support::faults::Fault;
        let pauses = outcome.injected.of(&[Fault::Pause]);
        let changes = outcome.injected.of(&[Fault::StepDown]);
        assert!(
            outcome.kills() >= 200 && pauses >= 50 && outcome.cuts() >= 100 && changes >= 50,
            "too little happened"
        );
    }
}
