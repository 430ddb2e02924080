//! The daemon catching up with a stream: everything on but the archive, until the last event is committed.

use std::time::Instant;

use super::{
    Amounts,
    daemon::Daemon,
    load::Shape,
    memory::{SMALL, SMALL_HOLDS, Settings},
    process,
    reader::{self, Drained},
    report::{Report, Target, median, number},
    say,
    site::Site,
};

/// What catching up took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CaughtUp {
    /// From the daemon's being up to the commit of the last event.
    pub(crate) seconds: f64,
    /// To the last alert's being published and marked.
    pub(crate) until_published: f64,
    pub(crate) cpu: f64,
    pub(crate) nats_cpu: f64,
    pub(crate) postgres_cpu: f64,
    /// Of all of them.
    pub(crate) peak_mib: f64,
    /// Memory for each customer, beyond what the daemon holds without any.
    pub(crate) bytes_per_customer: f64,
    pub(crate) snapshot_bytes: f64,
    /// What the database grew by, for each customer.
    pub(crate) stored_per_customer: f64,
    /// What Postgres wrote into its log ahead, for each event.
    pub(crate) logged_per_event: f64,
    /// Customers' states that were stored, new ones and changed ones.
    pub(crate) rows: f64,
}

/// Bare reader and daemon in turn on one stream.
pub(crate) async fn measure(site: &mut Site, amounts: Amounts, report: &mut Report) -> anyhow::Result<()> {
    let shape = Shape { events: amounts.events, customers: amounts.customers };
    site.fill(shape).await?;
    let (mut drains, mut runs) = (Vec::new(), Vec::new());
    for turn in 1..=amounts.turns {
        let drained = reader::drain(site, shape.events).await?;
        let run = catch_up(site, shape, 1).await?;
        say(&format!(
            "turn {turn}: bare reader {}/s, daemon {}/s, ratio {:.2}",
            number(shape.events as f64 / drained.seconds),
            number(shape.events as f64 / run.seconds),
            drained.seconds / run.seconds
        ));
        drains.push(drained);
        runs.push(run);
    }
    tell(shape, &drains, &runs, report);
    Ok(())
}

fn tell(shape: Shape, drains: &[Drained], runs: &[CaughtUp], report: &mut Report) {
    let events = shape.events as f64;
    let million = events / 1e6;
    let of_drains = |value: fn(&Drained) -> f64| median(drains.iter().map(value));
    let of_runs = |value: fn(&CaughtUp) -> f64| median(runs.iter().map(value));
    let ratios = drains.iter().zip(runs).map(|(drained, run)| drained.seconds / run.seconds);
    report.tell("bare reader, events/s", number(events / of_drains(|drained| drained.seconds)));
    report.tell("daemon catching up, events/s", number(events / of_runs(|run| run.seconds)));
    report.judge("daemon : bare reader", median(ratios), "", Target::AtLeast(0.65));
    report.tell("until all alerts are published too, events/s", number(events / of_runs(|run| run.until_published)));
    report.tell("bare reader, its CPU s per million events", number(of_drains(|drained| drained.cpu) / million));
    report.tell("bare reader, nats-server CPU s per million", number(of_drains(|drained| drained.nats_cpu) / million));
    report.tell("daemon, its CPU s per million events", number(of_runs(|run| run.cpu) / million));
    report.tell("daemon, nats-server CPU s per million", number(of_runs(|run| run.nats_cpu) / million));
    report.tell("daemon, Postgres CPU s per million", number(of_runs(|run| run.postgres_cpu) / million));
    report.tell(format!("daemon, peak memory, {} customers", shape.customers), mib(of_runs(|run| run.peak_mib)));
    report.judge("snapshot, average bytes", of_runs(|run| run.snapshot_bytes), "B", Target::AtMost(300.0));
}

/// Catching up with ever more customers, and with most of them out of memory.
pub(crate) async fn measure_growth(site: &mut Site, amounts: Amounts, report: &mut Report) -> anyhow::Result<()> {
    let counts =
        [amounts.many_customers / 100, amounts.many_customers / 10, amounts.many_customers, amounts.most_customers];
    for customers in counts {
        let shape = Shape { events: amounts.growth_events.max(customers as u64 * 2), customers };
        grow(site, shape, &[], "", report).await?;
    }
    let shape = Shape { events: amounts.growth_events * 4, customers: SMALL_HOLDS * 10 };
    grow(site, shape, SMALL, ", memory for a tenth", report).await
}

async fn grow(site: &mut Site, shape: Shape, settings: Settings, how: &str, report: &mut Report) -> anyhow::Result<()> {
    site.fill(shape).await?;
    let bytes_per_event = site.bytes_per_event().await?;
    let run = catch_up_with(site, shape, 1, settings).await?;
    let (events, million) = (shape.events as f64, shape.events as f64 / 1e6);
    let of = format!("{} customers, {} events{how}", number(shape.customers as f64), number(events));
    report.tell(format!("{of}: events/s"), number(events / run.seconds));
    report.tell(
        format!("{of}: CPU s per million, daemon + nats + Postgres"),
        format!("{:.2} + {:.2} + {:.2}", run.cpu / million, run.nats_cpu / million, run.postgres_cpu / million),
    );
    report.tell(format!("{of}: states stored per event"), number(run.rows / events));
    report.tell(format!("{of}: Postgres CPU per state stored"), format!("{:.1} µs", run.postgres_cpu / run.rows * 1e6));
    report.tell(format!("{of}: peak memory"), mib(run.peak_mib));
    report.tell(format!("{of}: memory per customer"), bytes(run.bytes_per_customer));
    report.tell(format!("{of}: Postgres per customer"), bytes(run.stored_per_customer));
    report.tell(format!("{of}: Postgres' log per event"), bytes(run.logged_per_event));
    report.tell(format!("{of}: event in the stream"), bytes(bytes_per_event));
    Ok(())
}

/// Has new daemons catch up with the stream into a fresh database.
pub(crate) async fn catch_up(site: &mut Site, shape: Shape, instances: usize) -> anyhow::Result<CaughtUp> {
    catch_up_with(site, shape, instances, &[]).await
}

async fn catch_up_with(
    site: &mut Site,
    shape: Shape,
    instances: usize,
    settings: Settings,
) -> anyhow::Result<CaughtUp> {
    site.empty_outlets().await?;
    let database = site.fresh_database().await?;
    let (nats, postgres) = (site.nats_pid()?, site.postgres_pid()?);
    let (nats_before, postgres_before) = (process::cpu_seconds(nats)?, process::cpu_seconds(postgres)?);
    let (size_before, log_before) = (database.size().await?, database.logged().await?);
    let mut daemons =
        (0..instances).map(|_| Daemon::start_with(site, &database, settings)).collect::<anyhow::Result<Vec<_>>>()?;
    for daemon in &mut daemons {
        daemon.ready().await?;
    }
    let started = Instant::now();
    let sum =
        |of: fn(i32) -> anyhow::Result<f64>| daemons.iter().map(|daemon| of(daemon.pid())).sum::<anyhow::Result<f64>>();
    let empty_mib = sum(process::resident_mib)?;
    database.wait_received(shape.events).await?;
    let seconds = started.elapsed().as_secs_f64();
    database.wait_published().await?;
    let until_published = started.elapsed().as_secs_f64();
    let resident = sum(process::resident_mib)?;
    let customers = shape.customers as f64;
    let run = CaughtUp {
        seconds,
        until_published,
        cpu: sum(process::cpu_seconds)?,
        nats_cpu: process::cpu_seconds(nats)? - nats_before,
        postgres_cpu: process::cpu_seconds(postgres)? - postgres_before,
        peak_mib: sum(process::peak_mib)?,
        bytes_per_customer: (resident - empty_mib) * 1024.0 * 1024.0 / customers,
        snapshot_bytes: database.number("SELECT avg(length(snapshot))::float8 FROM customer_states").await?,
        stored_per_customer: (database.size().await? - size_before) / customers,
        logged_per_event: (database.logged().await? - log_before) / shape.events as f64,
        rows: database.stored_states(shape.customers).await?,
    };
    for daemon in daemons {
        daemon.stop().await?;
    }
    Ok(run)
}

/// Memory as people read it.
pub(crate) fn mib(value: f64) -> String {
    format!("{value:.0} MiB")
}

fn bytes(value: f64) -> String {
    format!("{} B", number(value))
}
