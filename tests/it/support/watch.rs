//! How far the work got: who looks at the watermarks all the time sees how long nothing moved.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio_postgres::{Client, NoTls};

use super::daemon::in_background;

/// What the others tell the watch.
#[derive(Default)]
pub(crate) struct Signs {
    /// The highest sequence that was confirmed to the publisher.
    pub(crate) confirmed: AtomicU64,
    /// A fault that stops everything is under way.
    pub(crate) blocked: AtomicBool,
    /// The publisher is to stop.
    pub(crate) sending_ends: AtomicBool,
    pub(crate) over: AtomicBool,
}

/// The longest times without progress.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stalls {
    /// Nothing moved at all, although events were pending and nothing stopped everything.
    pub(crate) all: Duration,
    /// One partition did not move.
    pub(crate) one: Duration,
    /// From the end of a fault that stopped everything to the next progress.
    pub(crate) recovery: Duration,
}

/// Looks until it is over.
pub(crate) async fn watch(url: String, signs: Arc<Signs>) -> Stalls {
    let mut stalls = Stalls::default();
    let mut client = None;
    let (mut before, mut moved) = (Vec::new(), Vec::new());
    let mut blocked_until = Instant::now();
    let mut recovering = false;
    while !signs.over.load(Ordering::SeqCst) {
        tokio::time::sleep(Duration::from_millis(100)).await;
        // Looked at before the watermarks: what was confirmed earlier is pending if they are behind.
        let confirmed = signs.confirmed.load(Ordering::SeqCst);
        let watermarks = match tokio::time::timeout(Duration::from_secs(2), look(&mut client, &url)).await {
            Ok(Ok(watermarks)) => watermarks,
            Ok(Err(_)) | Err(_) => {
                client = None;
                before.clone()
            }
        };
        let now = Instant::now();
        moved.resize(watermarks.len(), now);
        let mut progressed = false;
        for (place, watermark) in watermarks.iter().enumerate() {
            if before.get(place) != Some(watermark) {
                moved[place] = now;
                progressed = true;
            }
        }
        let pending = watermarks.iter().any(|watermark| *watermark < confirmed);
        if signs.blocked.load(Ordering::SeqCst) {
            (blocked_until, recovering) = (now, true);
        } else if recovering {
            stalls.recovery = stalls.recovery.max(now - blocked_until);
            recovering = !progressed && pending;
        }
        if !recovering && !pending {
            moved.fill(now);
        }
        if !recovering {
            let since = |moved: &Instant| now - (*moved).max(blocked_until);
            stalls.one = stalls.one.max(moved.iter().map(since).max().unwrap_or_default());
            stalls.all = stalls.all.max(moved.iter().map(since).min().unwrap_or_default());
        }
        before = watermarks;
    }
    stalls
}

async fn look(client: &mut Option<Client>, url: &str) -> Result<Vec<u64>, tokio_postgres::Error> {
    if client.is_none() {
        let (fresh, connection) = tokio_postgres::connect(url, NoTls).await?;
        in_background(connection);
        *client = Some(fresh);
    }
    let client = client.as_ref().expect("it was just connected");
    let rows = client.query("SELECT watermark FROM partitions WHERE role = 'engine' ORDER BY id", &[]).await?;
    Ok(rows.iter().map(|row| row.get::<_, i64>(0).unsigned_abs()).collect())
}
