//! From an event to its alert, at a steady rate that the daemon is far from being busy with.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use futures_util::StreamExt as _;
use hdrhistogram::Histogram;

use super::{
    Scale,
    daemon::Daemon,
    load::{Shape, event_now, token},
    report::{Report, Target, number},
    say,
    site::Site,
};

const EVENTS_PER_SECOND: u64 = 2_000;
const TICK: Duration = Duration::from_millis(5);
/// One event of so many raises its customer's level; the customers of the others stay where they are.
const ALERT_EVERY: u64 = 20;
const STRAGGLERS: Duration = Duration::from_secs(5);

/// Measures for some seconds with customers whom the daemon knows.
pub(crate) async fn measure(site: &mut Site, scale: Scale, report: &mut Report) -> anyhow::Result<()> {
    // Each customer logs in once.
    let shape = Shape { events: scale.customers as u64, customers: scale.customers };
    site.fill(shape).await?;
    let database = site.fresh_database().await?;
    let mut daemon = Daemon::start(site, &database)?;
    daemon.ready().await?;
    database.wait_received(shape.events).await?;
    let mut alerts = site.client.subscribe("churn.alerts.>").await?;
    let total = EVENTS_PER_SECOND * scale.latency_seconds;
    say(&format!("publishing {total} events at {EVENTS_PER_SECOND}/s"));
    let mut sent: HashMap<String, Instant> = HashMap::new();
    let mut millis = Histogram::<u64>::new(3)?;
    let mut tick = tokio::time::interval(TICK);
    let mut number_of_event = 0;
    let mut deadline = Instant::now() + STRAGGLERS;
    while Instant::now() < deadline && (number_of_event < total || !sent.is_empty()) {
        tokio::select! {
            alert = alerts.next() => {
                let alert = alert.context("the subscription ended")?;
                let customer = alert.subject.split('.').nth(4).unwrap_or_default();
                if let Some(published) = sent.remove(customer) {
                    millis.record(u64::try_from(published.elapsed().as_micros())?)?;
                }
            }
            _ = tick.tick(), if number_of_event < total => {
                for _ in 0..EVENTS_PER_SECOND * u64::try_from(TICK.as_millis())? / 1_000 {
                    publish(site, number_of_event, scale.customers, &mut sent).await?;
                    number_of_event += 1;
                }
                site.client.flush().await?;
                deadline = Instant::now() + STRAGGLERS;
            }
        }
    }
    ensure!(sent.is_empty(), "{} of {} alerts never came", sent.len(), total / ALERT_EVERY);
    daemon.stop().await?;
    let quantile = |quantile| millis.value_at_quantile(quantile) as f64 / 1_000.0;
    report.tell(format!("event to alert at {EVENTS_PER_SECOND}/s, p50"), format!("{} ms", number(quantile(0.5))));
    report.judge(format!("event to alert at {EVENTS_PER_SECOND}/s, p99"), quantile(0.99), "ms", Target::AtMost(150.0));
    report.tell(format!("event to alert at {EVENTS_PER_SECOND}/s, worst"), format!("{} ms", number(quantile(1.0))));
    Ok(())
}

/// The first customers take the everyday events, the last ones fail to pay, each once.
async fn publish(
    site: &Site,
    number: u64,
    customers: usize,
    sent: &mut HashMap<String, Instant>,
) -> anyhow::Result<()> {
    let failures = usize::try_from(number / ALERT_EVERY)?;
    let alerts = number.is_multiple_of(ALERT_EVERY);
    let (name, customer) = if alerts {
        ("payment_failed", customers.checked_sub(failures + 1).context("too few customers")?)
    } else {
        ("feature_used", usize::try_from(number)? % (customers / 2))
    };
    let event = event_now(name, customer, &format!("live-{number}"));
    if alerts {
        sent.insert(token(customer), Instant::now());
    }
    site.client.publish(event.subject, event.payload).await?;
    Ok(())
}
