//! Decoding and scoring alone, on one core, without any server.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use churnd::{
    engine::{
        partition::{Admission, Incoming, Partition, Policy, Slot},
        rules::{DEFAULT_RULES, Rules},
    },
    event::{
        decode::{Encoding, Event, decode},
        ids::{CustomerId, PartitionId, StreamSequence},
    },
};

use super::{
    Amounts,
    load::{ACCOUNT, Planned, Shape, plan, token},
    process::thread_time,
    report::{Report, Target, number},
    site::now,
};

const HOUR_MILLIS: i64 = 3_600_000;

/// Measures each as often as the daemon is.
pub(crate) fn measure(amounts: Amounts, report: &mut Report) -> anyhow::Result<()> {
    let shape = Shape { events: amounts.events, customers: amounts.customers };
    let planned: Vec<Planned> = plan(shape, now()).collect();
    let bodies: Vec<String> = planned.iter().map(Planned::body).collect();
    let bytes: usize = bodies.iter().map(String::len).sum();
    let mut scratches = vec![Vec::new(); bodies.len()];
    let started = thread_time()?;
    let events: Vec<Event<'_>> = bodies
        .iter()
        .zip(&mut scratches)
        .map(|(body, scratch)| decode(body.as_bytes(), Encoding::Json, scratch))
        .collect::<Result<_, _>>()?;
    let decoding = thread_time()? - started;
    let applying =
        (0..amounts.turns).map(|_| apply(&planned, &events, shape.customers)).collect::<Result<Vec<_>, _>>()?;
    let applying = applying.into_iter().min().context("no turn was asked for")?;
    let count = events.len() as f64;
    report.tell("event, average bytes", number(bytes as f64 / count));
    report.tell("decoding alone, events/s on one core", number(count / decoding.as_secs_f64()));
    report.judge(
        "scoring alone, events/s on one core",
        count / applying.as_secs_f64(),
        "",
        Target::AtLeast(3_000_000.0),
    );
    Ok(())
}

/// Finds each event's customer and applies it, as the worker does, to one partition.
fn apply(planned: &[Planned], events: &[Event<'_>], customers: usize) -> anyhow::Result<Duration> {
    let rules = Arc::new(Rules::parse(DEFAULT_RULES, "built-in")?);
    let policy = Policy {
        cooldown_millis: 24 * HOUR_MILLIS,
        history_after_millis: HOUR_MILLIS,
        settle_millis: 5_000,
        settle_most_millis: 600_000,
    };
    let mut partition = Partition::new(PartitionId(0), policy);
    let now = now();
    let keys: Vec<String> = (0..customers).map(|customer| format!("{ACCOUNT}.{}", token(customer))).collect();
    let started = thread_time()?;
    for (planned, event) in planned.iter().zip(events) {
        let key = keys[planned.customer].as_str();
        let slot: Slot = match partition.find(key) {
            Some(slot) => slot,
            None => {
                let customer = CustomerId::parse(&token(planned.customer))?;
                let rules = Arc::clone(&rules);
                partition.admit(Admission { key: key.into(), customer, rules, stored: None }, now)
            }
        };
        let sequence = StreamSequence(planned.number + 1);
        partition.apply(slot, Incoming { event, at: planned.at(), sequence, stored_at: planned.at() }, now);
    }
    Ok(thread_time()? - started)
}
