//! A stream that was put back to an earlier moment, while several instances read it by filters: what came in place of what was
//! lost is read, and little of what is still there is read again.

use std::time::Duration;

use churnd::event::subject::partition_of;
use tokio::time::sleep;

use crate::{
    instance::Instance,
    outages::{MINUTE, event, settings},
    story::books,
    world::{START, World},
};

/// What happens to the two instances when the stream is put back.
#[derive(Clone, Copy, Debug)]
enum Meanwhile {
    /// Both are stopped before, and started afterwards.
    Stopped,
    /// The first is stopped and started again; the second sleeps until long after its lease.
    OneSleeps,
    /// The second, which alone got messages, is killed; the first goes on and knows nothing that would tell it.
    OneIsKilled,
}

struct Story {
    meanwhile: Meanwhile,
    /// Of 120 messages so many are left.
    last: usize,
    /// So many come in place of the others at once.
    more: i64,
}

/// Puts one message every ten seconds.
fn put(world: &World, customers: &[String], at: i64) {
    let customer = &customers[usize::try_from(at / 10_000).unwrap() % customers.len()];
    world.lock().put(&event(&format!("e{at}"), customer, "feature_used", START + at));
}

/// Customers whose partitions an instance owns.
fn customers_of(world: &World, who: usize) -> Vec<String> {
    let inner = world.lock();
    let is_its = |customer: &String| inner.tables.owner_of(partition_of("acme", customer, 4)) == Some(who);
    (0..100).map(|number| format!("c{number}")).filter(is_its).take(4).collect()
}

/// How many messages were applied in the end, and how many were recognized as repeated.
fn tell(story: &Story) -> (u64, u64, String) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let world = World::new(1, 4, 2);
        let [book, _] = books();
        let start = |who: usize| Instance::start(&world, who, &settings(1_000), book.clone());
        let until = async |at: i64| {
            let left = at - world.lock().elapsed();
            sleep(Duration::from_millis(u64::try_from(left).unwrap())).await;
        };
        let mut instances = vec![start(0), start(1)];
        until(MINUTE).await;
        let (of_first, of_second) = (customers_of(&world, 0), customers_of(&world, 1));
        assert_eq!((of_first.len(), of_second.len()), (4, 4), "{}", world.lock().trace());
        let both: Vec<String> = of_first.iter().chain(&of_second).cloned().collect();
        let busy = if matches!(story.meanwhile, Meanwhile::OneIsKilled) { &of_second } else { &both };
        for at in (MINUTE..21 * MINUTE).step_by(10_000) {
            until(at).await;
            put(&world, busy, at);
        }
        until(22 * MINUTE).await;
        match story.meanwhile {
            Meanwhile::Stopped => instances.iter().for_each(Instance::stop),
            Meanwhile::OneSleeps => {
                instances[0].stop();
                instances[1].freeze();
            }
            Meanwhile::OneIsKilled => instances[1].kill(),
        }
        if !matches!(story.meanwhile, Meanwhile::OneIsKilled) {
            until(23 * MINUTE).await;
        }
        world.lock().log.roll_back(story.last);
        (0..story.more).for_each(|number| put(&world, &both, 23 * MINUTE + number * 10_000));
        match story.meanwhile {
            Meanwhile::Stopped => instances.extend([start(0), start(1)]),
            Meanwhile::OneSleeps => instances.push(start(0)),
            Meanwhile::OneIsKilled => {}
        }
        until(24 * MINUTE).await;
        instances[1].thaw();
        until(25 * MINUTE).await;
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
    use Meanwhile::{OneIsKilled, OneSleeps, Stopped};
    // Of 120 messages the last two minutes' thirteen are read again, as far as they are still there.
    let cases = [
        ("ends before the watermarks", Stopped, 114, 0, (120, 7)),
        ("ends before the watermarks with other messages in it", Stopped, 114, 4, (124, 7)),
        ("goes on beyond the watermarks", Stopped, 114, 30, (150, 7)),
        ("lost nothing", Stopped, 120, 10, (130, 0)),
        ("goes on beyond the watermarks while an instance sleeps", OneSleeps, 114, 30, (150, 7)),
        ("ends before the watermarks while an instance sleeps", OneSleeps, 114, 4, (124, 7)),
        ("goes on beyond the watermarks of one that notices nothing", OneIsKilled, 114, 30, (150, 7)),
        ("lost nothing while an instance was killed", OneIsKilled, 120, 30, (150, 0)),
    ];
    for (what, meanwhile, last, more, expected) in cases {
        let (applied, duplicate, trace) = tell(&Story { meanwhile, last, more });
        assert_eq!((applied, duplicate), expected, "a stream that {what}: {trace}");
    }
}
