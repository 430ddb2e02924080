//! Several instances on one stream: what sharing costs, and how long customers wait when partitions change hands.

use std::{
    pin::pin,
    time::{Duration, Instant},
};

use anyhow::ensure;
use nix::{
    sys::signal::{self, Signal},
    unistd::Pid,
};

use super::{
    Amounts,
    catch_up::{CaughtUp, catch_up},
    daemon::Daemon,
    load::Shape,
    process,
    report::{Report, Target, median, number},
    say,
    site::{Database, Site},
    stopwatch::Stopwatch,
};

const INSTANCES: [usize; 3] = [1, 2, 4];
/// What several may spend more than one.
const DEARER: f64 = 1.1;
/// Customers who fail to pay while partitions change hands, for each second.
const EVENTS_PER_SECOND: u64 = 200;
/// Before something happens and after it.
const CALM: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(60);
/// As set by default, and what a takeover may take beyond it.
const LEASE_MILLIS: f64 = 10_000.0;
const TAKEOVER_MILLIS: f64 = 5_000.0;
const HAND_OVER_MILLIS: f64 = 2_000.0;

/// Shares a backlog, then lets instances come, go, die and sleep.
pub(crate) async fn measure(site: &mut Site, amounts: Amounts, report: &mut Report) -> anyhow::Result<()> {
    share(site, amounts, report).await?;
    change_hands(site, amounts, report).await
}

/// One, two and four instances in turn over the same backlog.
async fn share(site: &mut Site, amounts: Amounts, report: &mut Report) -> anyhow::Result<()> {
    let shape = Shape { events: amounts.shared_events, customers: amounts.customers };
    site.empty_events().await?;
    let starting = cost_of_starting(site).await?;
    site.fill(shape).await?;
    if process::cpus()?.len() > 1 {
        site.keep_nats_apart(true)?;
        share_on(site, amounts, starting, ", nats-server on CPUs of its own", report).await?;
        site.keep_nats_apart(false)?;
    }
    share_on(site, amounts, starting, ", all on all CPUs", report).await
}

/// CPU time grows with what else runs on the same CPU and empties its caches, and nats-server has more to do for several
/// instances: apart from it shows what sharing costs the daemons themselves.
async fn share_on(
    site: &mut Site,
    amounts: Amounts,
    starting: f64,
    how: &str,
    report: &mut Report,
) -> anyhow::Result<()> {
    let shape = Shape { events: amounts.shared_events, customers: amounts.customers };
    let million = shape.events as f64 / 1e6;
    let mut runs: [Vec<CaughtUp>; 3] = Default::default();
    for turn in 1..=amounts.turns {
        for (instances, runs) in INSTANCES.into_iter().zip(&mut runs) {
            let mut run = catch_up(site, shape, instances).await?;
            run.cpu -= starting * instances as f64;
            say(&format!("turn {turn}: {instances} of them spent {:.2} CPU s per million{how}", run.cpu / million));
            runs.push(run);
        }
    }
    let [alone, ..] = &runs;
    for (instances, runs) in INSTANCES.into_iter().zip(&runs) {
        let of = |value: fn(&CaughtUp) -> f64| median(runs.iter().map(value));
        let name = format!("{instances} sharing a backlog{how}");
        report.tell(format!("{name}: events/s"), number(shape.events as f64 / of(|run| run.seconds)));
        let spent = [of(|run| run.cpu), of(|run| run.nats_cpu), of(|run| run.postgres_cpu)];
        let [daemons, nats, postgres] = spent.map(|seconds| seconds / million);
        report.tell(
            format!("{name}: CPU s per million, all daemons + nats + Postgres"),
            format!("{daemons:.2} + {nats:.2} + {postgres:.2}"),
        );
        if instances > 1 {
            let ratios = runs.iter().zip(alone).map(|(run, alone)| run.cpu / alone.cpu);
            report.judge(
                format!("{name}: the daemons' CPU : one daemon's"),
                median(ratios),
                "",
                Target::AtMost(DEARER),
            );
        }
    }
    Ok(())
}

/// CPU seconds of a daemon that has nothing to do, until it is up and stopped again.
async fn cost_of_starting(site: &mut Site) -> anyhow::Result<f64> {
    let database = site.fresh_database().await?;
    let mut daemon = Daemon::start(site, &database)?;
    daemon.ready().await?;
    database.wait_shared(1).await?;
    let spent = process::cpu_seconds(daemon.pid())?;
    daemon.stop().await?;
    Ok(spent)
}

/// The longest that alerts took while instances joined, left, were killed and slept.
async fn change_hands(site: &mut Site, amounts: Amounts, report: &mut Report) -> anyhow::Result<()> {
    site.empty_events().await?;
    site.empty_outlets().await?;
    let database = site.fresh_database().await?;
    let mut one = Daemon::start(site, &database)?;
    one.ready().await?;
    database.wait_shared(1).await?;
    let (mut customers, mut joined, mut left, mut killed, mut slept) = (0, vec![], vec![], vec![], vec![]);
    for turn in 1..=amounts.turns {
        say(&format!("turn {turn}: instances come and go"));
        let (two, worst) = worst_while(site, &mut customers, join(site, &database)).await?;
        joined.push(worst);
        let leave = async {
            two.stop().await?;
            database.wait_shared(1).await
        };
        left.push(worst_while(site, &mut customers, leave).await?.1);

        let two = join(site, &database).await?;
        let die = async {
            two.kill().await?;
            database.wait_shared(1).await
        };
        killed.push(worst_while(site, &mut customers, die).await?.1);

        let two = join(site, &database).await?;
        let sleep = async {
            signal::kill(Pid::from_raw(two.pid()), Signal::SIGSTOP)?;
            database.wait_shared(1).await
        };
        slept.push(worst_while(site, &mut customers, sleep).await?.1);
        two.kill().await?;
    }
    one.stop().await?;
    let longest = |waits: Vec<f64>| waits.into_iter().fold(0.0, f64::max);
    let told = "longest from event to alert";
    report.judge(format!("an instance joins: {told}"), longest(joined), "ms", Target::AtMost(HAND_OVER_MILLIS));
    report.judge(format!("one leaves: {told}"), longest(left), "ms", Target::AtMost(HAND_OVER_MILLIS));
    let takeover = Target::AtMost(LEASE_MILLIS + TAKEOVER_MILLIS);
    report.judge(format!("one is killed: {told}"), longest(killed), "ms", takeover);
    report.judge(format!("one stands still past its lease of 10 s: {told}"), longest(slept), "ms", takeover);
    Ok(())
}

/// A second instance that has its share.
async fn join(site: &Site, database: &Database) -> anyhow::Result<Daemon> {
    let mut daemon = Daemon::start(site, database)?;
    daemon.ready().await?;
    database.wait_shared(2).await?;
    Ok(daemon)
}

/// Has customers fail to pay while something happens, and somewhat longer; gives the milliseconds that the slowest alert took.
async fn worst_while<T>(
    site: &Site,
    customers: &mut usize,
    happening: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<(T, f64)> {
    let mut watch = Stopwatch::start(site).await?;
    let mut happening = pin!(async {
        tokio::time::sleep(CALM).await;
        happening.await
    });
    let mut tick = tokio::time::interval(Duration::from_secs(1) / u32::try_from(EVENTS_PER_SECOND)?);
    let (mut happened, mut ended) = (None, Instant::now());
    loop {
        tokio::select! {
            outcome = &mut happening, if happened.is_none() => {
                happened = Some(outcome?);
                ended = Instant::now();
            }
            heard = watch.hear(), if watch.waiting() > 0 => heard?,
            _ = tick.tick() => {
                if happened.is_none() || ended.elapsed() < CALM {
                    watch.send(site, *customers, &format!("hands-{customers}")).await?;
                    *customers += 1;
                } else if watch.waiting() == 0 || ended.elapsed() > PATIENCE {
                    break;
                }
            }
        }
    }
    ensure!(watch.waiting() == 0, "{} alerts never came", watch.waiting());
    let happened = happened.expect("the loop ends after it");
    Ok((happened, watch.millis(1.0)))
}
