//! From an event to its alert, at a steady rate that the daemon is far from being busy with.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::{
    Amounts,
    daemon::Daemon,
    load::{Shape, event_now},
    report::{Report, Target, number},
    say,
    site::Site,
    stopwatch::Stopwatch,
};

const EVENTS_PER_SECOND: u64 = 2_000;
const TICK: Duration = Duration::from_millis(5);
/// One event of so many raises its customer's level; the customers of the others stay where they are.
const ALERT_EVERY: u64 = 20;
const STRAGGLERS: Duration = Duration::from_secs(5);

/// Measures for some seconds with customers whom the daemon knows.
pub(crate) async fn measure(site: &mut Site, amounts: Amounts, report: &mut Report) -> anyhow::Result<()> {
    // Each customer logs in once.
    let shape = Shape { events: amounts.customers as u64, customers: amounts.customers };
    site.fill(shape).await?;
    let database = site.fresh_database().await?;
    let mut daemon = Daemon::start(site, &database)?;
    daemon.ready().await?;
    database.wait_received(shape.events).await?;
    let mut watch = Stopwatch::start(site).await?;
    let total = EVENTS_PER_SECOND * amounts.latency_seconds;
    say(&format!("publishing {total} events at {EVENTS_PER_SECOND}/s"));
    let mut tick = tokio::time::interval(TICK);
    let mut number_of_event = 0;
    let mut deadline = Instant::now() + STRAGGLERS;
    while Instant::now() < deadline && (number_of_event < total || watch.waiting() > 0) {
        tokio::select! {
            heard = watch.hear() => heard?,
            _ = tick.tick(), if number_of_event < total => {
                for _ in 0..EVENTS_PER_SECOND * u64::try_from(TICK.as_millis())? / 1_000 {
                    publish(site, number_of_event, amounts.customers, &mut watch).await?;
                    number_of_event += 1;
                }
                site.client.flush().await?;
                deadline = Instant::now() + STRAGGLERS;
            }
        }
    }
    ensure!(watch.waiting() == 0, "{} of {} alerts never came", watch.waiting(), total / ALERT_EVERY);
    daemon.stop().await?;
    let quantile = |quantile| watch.millis(quantile);
    report.tell(format!("event to alert at {EVENTS_PER_SECOND}/s, p50"), format!("{} ms", number(quantile(0.5))));
    report.judge(format!("event to alert at {EVENTS_PER_SECOND}/s, p99"), quantile(0.99), "ms", Target::AtMost(150.0));
    report.tell(format!("event to alert at {EVENTS_PER_SECOND}/s, worst"), format!("{} ms", number(quantile(1.0))));
    Ok(())
}

/// The first customers take the everyday events, the last ones fail to pay, each once.
async fn publish(site: &Site, number: u64, customers: usize, watch: &mut Stopwatch) -> anyhow::Result<()> {
    let id = format!("live-{number}");
    if number.is_multiple_of(ALERT_EVERY) {
        let failures = usize::try_from(number / ALERT_EVERY)?;
        let customer = customers.checked_sub(failures + 1).context("too few customers")?;
        return watch.send(site, customer, &id).await;
    }
    let event = event_now("feature_used", usize::try_from(number)? % (customers / 2), &id);
    Ok(site.client.publish(event.subject, event.payload).await?)
}
