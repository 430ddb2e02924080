//! The settings under `[http]`.

use std::{net::SocketAddr, time::Duration};

use serde::Deserialize;

/// How HTTP is served. Defaults and their meaning stand in `config/churnd.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// How long a client may take to send a request's head, and keep a connection idle.
    pub header_read_timeout_seconds: u64,
    /// Connections served at once.
    pub max_connections: usize,
}

impl Config {
    /// How long a client may take to send a request's head, and keep a connection idle.
    pub fn header_read_timeout(&self) -> Duration {
        Duration::from_secs(self.header_read_timeout_seconds)
    }

    /// Everything that cannot work, each as a sentence that begins with the setting.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let seconds = self.header_read_timeout_seconds;
        if !(1..=300).contains(&seconds) {
            problems.push(format!("http.header_read_timeout_seconds is {seconds}: it must lie between 1 and 300"));
        }
        if !(1..=100_000).contains(&self.max_connections) {
            let count = self.max_connections;
            problems.push(format!("http.max_connections is {count}: it must lie between 1 and 100000"));
        }
        problems
    }
}
