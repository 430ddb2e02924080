//! Long outages: what came meanwhile waits in the stream, and is no silence.
//!
//! A customer who failed to pay would be at high risk once the last login is 14 days old. That would be forty minutes into
//! the outage; twenty minutes into it the customer logs in.

use std::{sync::Arc, time::Duration};

use churnd::{
    engine::partition::Policy,
    event::{ids::CustomerId, subject},
    pipeline::{config::Config, mutant::Mutants},
    stream::publisher::Outgoing,
};
use serde_json::json;
use tokio::time::sleep;

use crate::{
    instance::{Instance, Settings},
    judge::wrong_in_bucket,
    model::instant,
    story::{LEASE, books},
    world::{START, World},
};

pub(crate) const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// Who is away.
#[derive(Clone, Copy, Debug)]
enum Away {
    /// Postgres, while a customer must be loaded.
    Tables,
    /// NATS, for everybody.
    Log,
    /// NATS, for the instance alone.
    Connection,
    /// The instance itself: it is stopped and goes on later.
    Instance,
}

pub(crate) fn settings(hot_customers: usize) -> Settings {
    let config = Config {
        partitions: 2,
        batch: 100,
        checkpoint_interval_ms: 1_000,
        checkpoint_linger_ms: 10,
        catch_up_checkpoint_ms: 100,
        dirty_customers_max: 1_000,
        hot_customers,
        cache_bytes: 1,
        history_after_seconds: 3_600,
        settle_seconds: 5,
        settle_max_seconds: 60,
    };
    let policy =
        Policy { cooldown_millis: 0, history_after_millis: HOUR, settle_millis: 5_000, settle_most_millis: 60_000 };
    Settings { config, policy, lease: LEASE, mutants: Mutants::default() }
}

pub(crate) fn event(id: &str, customer: &str, name: &str, at: i64) -> Outgoing {
    let token = subject::encode(&CustomerId::parse(customer).unwrap());
    let body = json!({ "id": id, "event": name, "customerId": customer, "timestamp": instant::utc(at) });
    Outgoing::new(format!("churn.events.acme.{token}"), body.to_string()).with_id(format!("acme:{id}"))
}

/// An outage of an hour and a quarter; gives the alerts that were published.
fn alerts_of(away: Away, hot_customers: usize) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let world = World::new(1, 2, 1);
        let [book, _] = books();
        let instance = Instance::start(&world, 0, &settings(hot_customers), book);
        let until = async |at: i64| {
            let left = at - world.lock().elapsed();
            sleep(Duration::from_millis(u64::try_from(left).unwrap())).await;
        };
        let put = |id: &str, customer: &str, name: &str, at: i64| {
            world.lock().put(&event(id, customer, name, START + at));
        };
        put("e1", "c0", "login", -14 * DAY + 50 * MINUTE);
        put("e2", "c0", "payment_failed", -MINUTE);
        until(10 * MINUTE).await;
        set(&world, &instance, away, true);
        until(11 * MINUTE).await;
        // Whoever this is must be loaded.
        put("e3", "c1", "feature_used", 11 * MINUTE);
        until(30 * MINUTE).await;
        put("e4", "c0", "login", 30 * MINUTE);
        until(85 * MINUTE).await;
        set(&world, &instance, away, false);
        until(87 * MINUTE).await;
        let inner = world.lock();
        assert_eq!(inner.violations, Vec::<String>::new(), "{}", inner.trace());
        let owners = inner.tables.partitions.values().map(|row| row.watermark).max();
        assert_eq!(owners, Some(4), "not all was read: {}", inner.trace());
        inner.log.alerts.iter().map(|(subject, ..)| subject.to_string()).collect()
    })
}

fn set(world: &Arc<World>, instance: &Instance, away: Away, is_away: bool) {
    let mut inner = world.lock();
    match away {
        Away::Tables => inner.faults.tables_up = !is_away,
        Away::Log => {
            inner.faults.log_up = !is_away;
            if !is_away {
                inner.log.go_on();
            }
        }
        Away::Connection => {
            let body = &mut inner.bodies[0];
            body.linked = !is_away;
            if !is_away {
                body.connects.connects.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        }
        Away::Instance => {
            drop(inner);
            if is_away { instance.freeze() } else { instance.thaw() }
        }
    }
}

#[test]
fn what_waits_in_the_stream_after_a_long_outage_is_no_silence() {
    for away in [Away::Tables, Away::Log, Away::Connection, Away::Instance] {
        for hot_customers in [0, 1_000] {
            let alerts = alerts_of(away, hot_customers);
            let is_false = |subject: &&String| !subject.starts_with("churn.alerts.acme.medium.c0.");
            assert_eq!(alerts.iter().find(is_false), None, "{away:?} with {hot_customers} in memory: {alerts:?}");
            assert_eq!(alerts.len(), 1, "{away:?} with {hot_customers} in memory: {alerts:?}");
        }
    }
}

#[test]
fn scores_that_a_bucket_took_for_long_not_come_into_it_afterwards() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let world = World::new(1, 2, 1);
        let [book, _] = books();
        let _instance = Instance::start(&world, 0, &settings(1_000), book);
        let until = async |at: i64| {
            let left = at - world.lock().elapsed();
            sleep(Duration::from_millis(u64::try_from(left).unwrap())).await;
        };
        let fail_to_pay = |customers: std::ops::Range<i64>, at: i64| {
            for customer in customers {
                let message = event(&format!("e{customer}"), &format!("c{customer}"), "payment_failed", START + at);
                world.lock().put(&message);
            }
        };
        until(MINUTE).await;
        world.lock().faults.bucket_up = false;
        fail_to_pay(0..8, MINUTE);
        until(20 * MINUTE).await;
        fail_to_pay(8..16, 20 * MINUTE);
        until(30 * MINUTE).await;
        assert_eq!(world.lock().log.bucket.len(), 0, "the outage is none");
        world.lock().faults.bucket_up = true;
        until(31 * MINUTE).await;
        let inner = world.lock();
        assert_eq!((inner.log.bucket.len(), wrong_in_bucket(&inner)), (16, Vec::new()), "{}", inner.trace());
    });
}
