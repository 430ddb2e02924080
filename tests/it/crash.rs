//! Everything is killed at random moments under load, and nothing is lost, doubled or told twice. Planted bugs show that
//! the tests would notice.

use crate::support::storm::Storm;

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_killed_every_event_counts_once() {
    let storm = Storm {
        seed: 20_260_301,
        events: 300_000,
        customers: 2_000,
        daemon_kills: 36,
        postgres_kills: 6,
        nats_kills: 6,
        settings: Vec::new(),
    };
    let figures = storm.run().await;
    println!("{figures:?}");
    assert!(figures.violations.is_empty(), "seed {}: {:#?}", storm.seed, figures.violations);
    assert!(figures.daemon_kills >= 30 && figures.postgres_kills >= 5 && figures.nats_kills >= 5, "{figures:?}");
}

/// A short storm over a planted bug; gives what was noticed.
async fn noticed(mutant: &'static str) -> Vec<String> {
    let storm = Storm {
        seed: 7,
        events: 30_000,
        customers: 300,
        daemon_kills: 12,
        postgres_kills: 0,
        nats_kills: 0,
        // Checkpoint after checkpoint: each kill hits one.
        settings: vec![
            ("CHURND_MUTANT", mutant),
            ("CHURND__PIPELINE__CHECKPOINT_INTERVAL_MS", "10"),
            ("CHURND__PIPELINE__CATCH_UP_CHECKPOINT_MS", "10"),
            ("CHURND__PIPELINE__BATCH", "500"),
        ],
    };
    let figures = storm.run().await;
    println!("{mutant}: {figures:?}");
    figures.violations
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_over_no_bug_finds_none() {
    let found = noticed("none").await;
    assert!(found.is_empty(), "{found:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watermark_in_another_transaction_is_noticed() {
    let found = noticed("watermark_apart").await;
    assert!(found.iter().any(|violation| violation.contains("should be")), "{found:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_published_before_its_commit_is_noticed() {
    let found = noticed("publish_early").await;
    assert!(found.iter().any(|violation| violation.contains("alert that nothing caused")), "{found:#?}");
}
