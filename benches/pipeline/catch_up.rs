//! The daemon catching up with a stream: everything on but the archive, until the last event is committed.

use std::time::Instant;

use super::{
    Scale,
    daemon::Daemon,
    load::Shape,
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
    pub(crate) peak_mib: f64,
    /// Memory for each customer, beyond what the daemon holds without any.
    pub(crate) bytes_per_customer: f64,
    pub(crate) snapshot_bytes: f64,
}

/// Bare reader and daemon in turn on one stream.
pub(crate) async fn measure(site: &mut Site, scale: Scale, report: &mut Report) -> anyhow::Result<()> {
    let shape = Shape { events: scale.events, customers: scale.customers };
    site.fill(shape).await?;
    let (mut drains, mut runs) = (Vec::new(), Vec::new());
    for turn in 1..=scale.turns {
        let drained = reader::drain(site, shape.events).await?;
        let run = catch_up(site, shape).await?;
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

/// Catching up with ever more customers.
pub(crate) async fn measure_growth(site: &mut Site, scale: Scale, report: &mut Report) -> anyhow::Result<()> {
    for customers in [scale.many_customers / 100, scale.many_customers / 10, scale.many_customers] {
        let shape = Shape { events: scale.growth_events, customers };
        site.fill(shape).await?;
        let run = catch_up(site, shape).await?;
        let (events, million) = (shape.events as f64, shape.events as f64 / 1e6);
        let of = format!("{customers} customers");
        report.tell(format!("{of}: events/s"), number(events / run.seconds));
        report.tell(
            format!("{of}: CPU s per million, daemon + nats + Postgres"),
            format!("{:.2} + {:.2} + {:.2}", run.cpu / million, run.nats_cpu / million, run.postgres_cpu / million),
        );
        report.tell(format!("{of}: peak memory"), mib(run.peak_mib));
        report.tell(format!("{of}: memory per customer"), format!("{} B", number(run.bytes_per_customer)));
    }
    Ok(())
}

/// Has a new daemon catch up with the stream into a fresh database.
pub(crate) async fn catch_up(site: &mut Site, shape: Shape) -> anyhow::Result<CaughtUp> {
    site.empty_outlets().await?;
    let database = site.fresh_database().await?;
    let (nats, postgres) = (site.nats_pid()?, site.postgres_pid()?);
    let (nats_before, postgres_before) = (process::cpu_seconds(nats)?, process::cpu_seconds(postgres)?);
    let mut daemon = Daemon::start(site, &database)?;
    daemon.ready().await?;
    let started = Instant::now();
    let empty_mib = process::resident_mib(daemon.pid())?;
    database.wait_received(shape.events).await?;
    let seconds = started.elapsed().as_secs_f64();
    database.wait_published().await?;
    let until_published = started.elapsed().as_secs_f64();
    let run = CaughtUp {
        seconds,
        until_published,
        cpu: process::cpu_seconds(daemon.pid())?,
        nats_cpu: process::cpu_seconds(nats)? - nats_before,
        postgres_cpu: process::cpu_seconds(postgres)? - postgres_before,
        peak_mib: process::peak_mib(daemon.pid())?,
        bytes_per_customer: (process::resident_mib(daemon.pid())? - empty_mib) * 1024.0 * 1024.0
            / shape.customers as f64,
        snapshot_bytes: database.number("SELECT avg(length(snapshot))::float8 FROM customer_states").await?,
    };
    daemon.stop().await?;
    Ok(run)
}

/// Memory as people read it.
pub(crate) fn mib(value: f64) -> String {
    format!("{value:.0} MiB")
}
