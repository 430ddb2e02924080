//! How fast checkpoints are: printed, not asserted. `cargo test --release --lib store::tests::speed -- --nocapture`

use std::time::{Duration, Instant};

use super::{
    rows::{hours, state, write_of},
    server::Database,
};
use crate::store::leases::Role;

#[tokio::test]
async fn checkpoints_of_ten_thousand_states() {
    const ROWS: u32 = 10_000;
    const ROUNDS: u64 = 5;
    let (_database, store) = Database::migrated().await;
    store.ensure_partitions(Role::Engine, 1).await.unwrap();
    let mut updates = Duration::ZERO;
    for round in 0..=ROUNDS {
        let write = write_of(round, round + 1, |checkpoint| {
            checkpoint.states = (0..ROWS).map(|number| state(&format!("customer-{number}"))).collect();
            for row in &mut checkpoint.states {
                row.snapshot = vec![u8::try_from(round).unwrap(); 200];
                row.due_at = Some(hours(336).plus_millis(round as i64));
                row.is_new = round == 0;
            }
        });
        let started = Instant::now();
        store.store_checkpoint(&write).await.unwrap();
        let elapsed = started.elapsed();
        if round == 0 {
            println!("insert: {:.0} rows/s", f64::from(ROWS) / elapsed.as_secs_f64());
        } else {
            updates += elapsed;
        }
    }
    println!("update: {:.0} rows/s", f64::from(ROWS) * ROUNDS as f64 / updates.as_secs_f64());
}
