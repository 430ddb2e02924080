//! A service manager, as systemd is one to a daemon: a socket that it reports to.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::net::UnixDatagram;

use super::{
    Scratch,
    daemon::{Builder, in_background},
    eventually,
};

/// Hears what a daemon reports.
pub(crate) struct Manager {
    scratch: Scratch,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Manager {
    /// A service manager that nobody reports to yet.
    pub(crate) fn listen() -> Self {
        let scratch = Scratch::new();
        let socket = UnixDatagram::bind(scratch.join("notify")).unwrap();
        let heard: Arc<Mutex<Vec<String>>> = Arc::default();
        let noted = Arc::clone(&heard);
        in_background(async move {
            let mut datagram = vec![0; 4_096];
            while let Ok(length) = socket.recv(&mut datagram).await {
                let text = String::from_utf8_lossy(&datagram[..length]).into_owned();
                noted.lock().unwrap().extend(text.lines().map(str::to_owned));
            }
        });
        Self { scratch, heard }
    }

    /// Has a daemon report here, as with `Type=notify` and that `WatchdogSec=`.
    pub(crate) fn starts(&self, daemon: Builder, watchdog: Duration) -> Builder {
        let socket = self.scratch.join("notify");
        daemon
            .setting("NOTIFY_SOCKET", socket.to_str().unwrap())
            .setting("WATCHDOG_USEC", watchdog.as_micros().to_string())
    }

    /// Everything heard so far, in order.
    pub(crate) fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }

    /// How many signs of life there were.
    pub(crate) fn signs_of_life(&self) -> usize {
        self.heard().iter().filter(|line| *line == "WATCHDOG=1").count()
    }

    /// Waits for a line with these words; gives the place behind it.
    #[track_caller]
    pub(crate) fn hears(&self, words: &str, after: usize, within: Duration) -> impl Future<Output = usize> {
        eventually(within, async move || {
            let heard = self.heard();
            let found = heard.iter().skip(after).position(|line| line.contains(words));
            found.map(|place| after + place + 1).ok_or_else(|| format!("`{words}` not among {:?}", &heard[after..]))
        })
    }
}
