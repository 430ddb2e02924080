//! Killed and started again: how soon the first new event counts, and what many customers cost in memory.

use std::time::Duration;

use anyhow::Context as _;
use futures_util::{StreamExt as _, stream};

use super::{
    Amounts,
    daemon::Daemon,
    load::{Shape, event_now},
    process,
    report::{Report, Target},
    site::Site,
};

const PATIENCE: Duration = Duration::from_secs(60);

/// Stores many customers, kills the daemon, and has the next one raise an alert.
pub(crate) async fn measure(site: &mut Site, amounts: Amounts, report: &mut Report) -> anyhow::Result<()> {
    let customers = amounts.many_customers;
    // Each customer logs in once; the busier half of the events is spread as chance has it.
    let shape = Shape { events: customers as u64 * 2, customers };
    site.fill(shape).await?;
    let database = site.fresh_database().await?;
    let mut daemon = Daemon::start(site, &database)?;
    daemon.ready().await?;
    database.wait_received(shape.events).await?;
    database.wait_published().await?;
    let peak = process::peak_mib(daemon.pid())?;
    daemon.kill().await?;
    let mut alerts = site.client.subscribe("churn.alerts.>").await?;
    let newcomer = event_now("payment_failed", customers, "after-the-crash");
    site.publish(stream::iter([newcomer])).await?;
    let mut daemon = Daemon::start(site, &database)?;
    daemon.ready().await?;
    let ready = daemon.started.elapsed().as_secs_f64();
    tokio::time::timeout(PATIENCE, alerts.next()).await.context("no alert after the restart")?;
    let first = daemon.started.elapsed().as_secs_f64();
    daemon.stop().await?;
    report.tell(format!("killed with {customers} customers: up again after"), format!("{ready:.2} s"));
    report.judge("killed: first event's alert after", first, "s", Target::AtMost(2.0));
    report.judge(format!("peak memory with {customers} customers touched"), peak, "MiB", Target::AtMost(300.0));
    Ok(())
}
