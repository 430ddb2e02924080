//! Memory over time: a long backlog with far more customers than memory holds, Postgres away for minutes, and steady load.
//!
//! Each run samples the daemon's resident memory; the curves become a picture with the bound that the settings give.

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use super::{
    Amounts,
    catch_up::mib,
    daemon::Daemon,
    load::{Shape, plan},
    picture::{Curve, Picture},
    process,
    report::{Report, Target, number},
    say,
    site::{Database, Site, now},
};

const SAMPLE_EVERY: Duration = Duration::from_millis(500);
const MIB: f64 = 1024.0 * 1024.0;

/// What a run changes of the defaults.
pub(crate) type Settings = &'static [(&'static str, &'static str)];

/// So little memory that a tenth of the customers fit.
pub(crate) const SMALL: Settings = &[
    ("CHURND__PIPELINE__HOT_CUSTOMERS", "20000"),
    ("CHURND__PIPELINE__DIRTY_CUSTOMERS_MAX", "20000"),
    ("CHURND__PIPELINE__CACHE_BYTES", "8388608"),
];
/// About as many customers as SMALL keeps: hot ones, dirty ones and some 17,000 in the cache.
pub(crate) const SMALL_HOLDS: usize = 57_000;

/// The three runs, and their picture.
pub(crate) async fn measure(site: &mut Site, amounts: Amounts, report: &mut Report) -> anyhow::Result<()> {
    let runs = [
        backlog(site, amounts, report).await?,
        outage(site, amounts, report).await?,
        soak(site, amounts, report).await?,
    ];
    let picture = Picture { title: "Resident memory of churnd", runs: runs.into() };
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/bench");
    fs::create_dir_all(&directory)?;
    let file = directory.join("memory.svg");
    fs::write(&file, picture.to_string())?;
    say(&format!("the curves are drawn in {}", file.display()));
    Ok(())
}

/// Everything is there already when the daemon starts.
async fn backlog(site: &mut Site, amounts: Amounts, report: &mut Report) -> anyhow::Result<Curve> {
    let shape = Shape { events: amounts.events * 5, customers: SMALL_HOLDS * 10 };
    site.fill(shape).await?;
    site.empty_outlets().await?;
    let database = site.fresh_database().await?;
    let mut daemon = Daemon::start_with(site, &database, SMALL)?;
    daemon.ready().await?;
    let watch = Watch::start(&daemon);
    database.wait_received(shape.events).await?;
    database.wait_published().await?;
    let curve = watch.finish("Backlog", &shape.what(), SMALL).await?;
    nothing_lost(&database, shape.events).await?;
    daemon.stop().await?;
    curve.judge(report);
    Ok(curve)
}

/// Postgres stops answering while events come in, and is there again after minutes.
async fn outage(site: &mut Site, amounts: Amounts, report: &mut Report) -> anyhow::Result<Curve> {
    let rate = 4_000;
    let away = Duration::from_secs(amounts.outage_seconds);
    let shape = Shape { events: (away.as_secs() + 60) * rate, customers: amounts.many_customers };
    site.empty_events().await?;
    let database = site.fresh_database().await?;
    let mut daemon = Daemon::start_with(site, &database, &[])?;
    daemon.ready().await?;
    let watch = Watch::start(&daemon);
    let feed = feed(site, shape, rate);
    tokio::time::sleep(Duration::from_secs(20)).await;
    site.postgres.freeze();
    tokio::time::sleep(away).await;
    site.postgres.thaw();
    feed.await??;
    database.wait_received(shape.events).await?;
    database.wait_published().await?;
    let what = format!("{}; Postgres frozen for {} s", shape.what(), away.as_secs());
    let curve = watch.finish("Postgres away", &what, &[]).await?;
    nothing_lost(&database, shape.events).await?;
    daemon.stop().await?;
    curve.judge(report);
    Ok(curve)
}

/// The same load for a long time.
async fn soak(site: &mut Site, amounts: Amounts, report: &mut Report) -> anyhow::Result<Curve> {
    let rate = 2_000;
    // So few that what is kept of each is full long before the end: with more, memory would rightly grow for hours.
    let shape = Shape { events: amounts.soak_seconds * rate, customers: amounts.customers / 4 };
    site.empty_events().await?;
    let database = site.fresh_database().await?;
    let mut daemon = Daemon::start_with(site, &database, &[])?;
    daemon.ready().await?;
    let watch = Watch::start(&daemon);
    feed(site, shape, rate).await??;
    database.wait_received(shape.events).await?;
    let curve = watch.finish("Soak", &format!("{}, {rate}/s", shape.what()), &[]).await?;
    nothing_lost(&database, shape.events).await?;
    daemon.stop().await?;
    curve.judge(report);
    report.tell(
        "soak: resident memory grows by",
        format!("{} MiB an hour", number(curve.slope_of_last_half() * 3_600.0)),
    );
    Ok(curve)
}

/// Publishes at a steady rate.
fn feed(site: &Site, shape: Shape, rate: u64) -> JoinHandle<anyhow::Result<()>> {
    let publishing = site.publishing();
    TaskTracker::new().spawn(async move {
        let mut beat = tokio::time::interval(Duration::from_millis(50));
        let mut events = plan(shape, now()).map(|event| event.outgoing());
        loop {
            beat.tick().await;
            let due: Vec<_> = events.by_ref().take(usize::try_from(rate / 20)?).collect();
            if due.is_empty() {
                return Ok(());
            }
            for answer in publishing.publish_all(due).await {
                ensure!(
                    !answer.context("an event could not be published")?.duplicate,
                    "an event was taken for a repeat"
                );
            }
        }
    })
}

async fn nothing_lost(database: &Database, events: u64) -> anyhow::Result<()> {
    let applied = database.number("SELECT sum(applied)::float8 FROM partitions WHERE role = 'engine'").await?;
    ensure!(applied == events as f64, "{applied} of {events} events were applied");
    Ok(())
}

/// Samples a daemon's resident memory until it is told to finish.
struct Watch {
    done: Arc<AtomicBool>,
    samples: JoinHandle<Vec<(f64, f64)>>,
    pid: i32,
}

impl Watch {
    fn start(daemon: &Daemon) -> Self {
        let (done, pid, started) = (Arc::new(AtomicBool::new(false)), daemon.pid(), Instant::now());
        let finished = Arc::clone(&done);
        let samples = TaskTracker::new().spawn(async move {
            let mut samples = Vec::new();
            let mut beat = tokio::time::interval(SAMPLE_EVERY);
            while !finished.load(Ordering::Relaxed) {
                beat.tick().await;
                if let Ok(resident) = process::resident_mib(pid) {
                    samples.push((started.elapsed().as_secs_f64(), resident));
                }
            }
            samples
        });
        Self { done, samples, pid }
    }

    async fn finish(self, name: &'static str, what: &str, settings: Settings) -> anyhow::Result<Curve> {
        self.done.store(true, Ordering::Relaxed);
        let peak = process::peak_mib(self.pid)?;
        Ok(Curve { name, what: what.to_owned(), samples: self.samples.await?, peak, bound: bound(settings)? })
    }
}

/// What the settings allow, in MiB.
fn bound(settings: Settings) -> anyhow::Result<f64> {
    let environment = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let sources = churnd::config::Sources { environment, ..Default::default() };
    Ok(churnd::config::Config::load(&sources)?.pipeline.memory_bound() as f64 / MIB)
}

impl Curve {
    fn judge(&self, report: &mut Report) {
        let what = format!("{}: peak memory ({}), bound {}", self.name.to_lowercase(), self.what, mib(self.bound));
        report.judge(what, self.peak, "MiB", Target::AtMost((self.bound * 1.1).round()));
    }

    /// MiB a second in the second half, by least squares.
    fn slope_of_last_half(&self) -> f64 {
        let half = &self.samples[self.samples.len() / 2..];
        let count = half.len().max(1) as f64;
        let (mean_x, mean_y) =
            half.iter().fold((0.0, 0.0), |(x, y), sample| (x + sample.0 / count, y + sample.1 / count));
        let (mut covariance, mut variance) = (0.0, 0.0);
        for (x, y) in half {
            covariance += (x - mean_x) * (y - mean_y);
            variance += (x - mean_x).powi(2);
        }
        if variance > 0.0 { covariance / variance } else { 0.0 }
    }
}

impl Shape {
    fn what(&self) -> String {
        format!("{} events of {} customers", number(self.events as f64), number(self.customers as f64))
    }
}
