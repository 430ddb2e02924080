//! A stream that was put back to an earlier moment, while several instances read it by filters: what came in place of what was
//! lost is read, and little of what is still there is read again.

use std::time::Duration;

use tokio::time::sleep;

use crate::{
    instance::Instance,
    outages::{MINUTE, event, settings},
    story::books,
    world::{START, World},
};

/// Events of four customers, one every ten seconds in turn, from one instant of the world to another.
fn put(world: &World, customers: &[String], from: i64, until: i64) {
    for at in (from..until).step_by(10_000) {
        let customer = &customers[usize::try_from(at / 10_000).unwrap() % customers.len()];
        world.lock().put(&event(&format!("e{at}"), customer, "feature_used", START + at));
    }
}

/// Lets the stream end at `last` of 120 messages, adds `more`, and has all read; gives how many were applied and repeated.
fn read_after_rollback(last: usize, more: i64) -> (u64, u64, String) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let world = World::new(1, 4, 2);
        let [book, _] = books();
        let start = || [0, 1].map(|who| Instance::start(&world, who, &settings(1_000), book.clone()));
        let until = async |at: i64| {
            let left = at - world.lock().elapsed();
            sleep(Duration::from_millis(u64::try_from(left).unwrap())).await;
        };
        let customers: Vec<String> = (0..4).map(|number| format!("c{number}")).collect();
        let instances = start();
        for at in (0..20 * MINUTE).step_by(10_000) {
            until(at).await;
            put(&world, &customers, at, at + 10_000);
        }
        until(21 * MINUTE).await;
        instances.iter().for_each(Instance::stop);
        until(22 * MINUTE).await;
        world.lock().log.roll_back(last);
        put(&world, &customers, 22 * MINUTE, 22 * MINUTE + more * 10_000);
        let _instances = start();
        until(23 * MINUTE).await;
        let inner = world.lock();
        assert_eq!(inner.violations, Vec::<String>::new(), "{}", inner.trace());
        let rows = inner.tables.partitions.values();
        let (applied, duplicate) = rows.fold((0, 0), |(applied, duplicate), row| {
            (applied + row.counters.applied, duplicate + row.counters.duplicate)
        });
        (applied, duplicate, inner.trace().to_owned())
    })
}

#[test]
fn what_came_in_place_of_what_was_lost_is_read_and_what_was_long_before_is_not_read_again() {
    // Of 120 messages the last two minutes' thirteen are read again, as far as they are still there.
    let cases = [
        ("ends before the watermarks", 114, 0, (120, 7)),
        ("ends before the watermarks with other messages in it", 114, 4, (124, 7)),
        ("goes on beyond the watermarks", 114, 30, (150, 7)),
        ("lost nothing", 120, 10, (130, 0)),
    ];
    for (what, last, more, expected) in cases {
        let (applied, duplicate, trace) = read_after_rollback(last, more);
        assert_eq!((applied, duplicate), expected, "a stream that {what}: {trace}");
    }
}
