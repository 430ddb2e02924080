//! The connection to NATS: settings, the first connect, and what the client reports while it lives.
//!
//! After the first connect the client reconnects for ever. Errors that the server only mentions in passing
//! (permission violations above all) would otherwise show as mere time-outs, so each is logged.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event, ServerAddr, client::Statistics};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use super::{StreamError, backoff::Backoff};
use crate::tls;

const TLS_SETTINGS: tls::Settings =
    tls::Settings { url: "nats.url", ca_file: "nats.tls_ca_file", certificate_file: "nats.tls_certificate_file" };

/// How to reach NATS.
#[derive(Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// One address or several with commas between; user and password may stand in it.
    pub url: String,
    /// A user, where it does not stand in the address.
    pub user: Option<String>,
    /// The user's password.
    pub password: Option<SecretString>,
    /// A `.creds` file with a user's JWT and seed.
    pub credentials_file: Option<PathBuf>,
    /// The seed of a user's key pair (`NKey`).
    pub nkey_seed: Option<SecretString>,
    /// Refuse a connection without TLS; follows from a `tls://` address, and from any of the files below.
    pub tls_required: bool,
    /// Certificates to trust instead of the system's, PEM.
    pub tls_ca_file: Option<PathBuf>,
    /// Our own certificate, PEM; needs `tls_key_file`.
    pub tls_certificate_file: Option<PathBuf>,
    /// The key of our own certificate, PEM.
    pub tls_key_file: Option<PathBuf>,
    /// How long one attempt to connect may take.
    pub connect_timeout_seconds: u64,
    /// How long to go on trying at the start before giving up.
    pub connect_patience_seconds: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            url: "nats://127.0.0.1:4222".to_owned(),
            user: None,
            password: None,
            credentials_file: None,
            nkey_seed: None,
            tls_required: false,
            tls_ca_file: None,
            tls_certificate_file: None,
            tls_key_file: None,
            connect_timeout_seconds: 5,
            connect_patience_seconds: 30,
        }
    }
}

impl Config {
    /// The settings for a server at `url`, everything else by default.
    pub fn at(url: impl Into<String>) -> Self {
        Self { url: url.into(), ..Self::default() }
    }

    /// The address without user and password, fit for a log.
    pub fn redacted_url(&self) -> String {
        self.url.split(',').map(|part| redact(part.trim())).collect::<Vec<_>>().join(",")
    }

    /// How long to go on trying at the start.
    pub fn connect_patience(&self) -> Duration {
        Duration::from_secs(self.connect_patience_seconds)
    }

    /// Every mistake in the settings, without connecting.
    pub fn problems(&self) -> Vec<StreamError> {
        let mut problems = Vec::new();
        if let Err(problem) = self.addresses() {
            problems.push(problem);
        }
        if self.tls_certificate_file.is_some() != self.tls_key_file.is_some() {
            let problem = "needs nats.tls_key_file beside it, and the other way round".to_owned();
            problems.push(StreamError::Settings { setting: "nats.tls_certificate_file", problem });
        }
        if self.user.is_some() != self.password.is_some() {
            let problem = "needs nats.password beside it, and the other way round".to_owned();
            problems.push(StreamError::Settings { setting: "nats.user", problem });
        }
        if self.nkey_seed.as_ref().is_some_and(|seed| !is_user_seed(seed.expose_secret())) {
            let problem = "is no seed of a user's NKey: 58 letters and digits that begin with SU".to_owned();
            problems.push(StreamError::Settings { setting: "nats.nkey_seed", problem });
        }
        let ways = [self.user.is_some(), self.credentials_file.is_some(), self.nkey_seed.is_some()];
        if ways.into_iter().filter(|way| *way).count() > 1 {
            let problem =
                "only one of nats.credentials_file, nats.nkey_seed and nats.user can say who we are".to_owned();
            problems.push(StreamError::Settings { setting: "nats.credentials_file", problem });
        }
        for (setting, file) in [
            ("nats.credentials_file", &self.credentials_file),
            ("nats.tls_ca_file", &self.tls_ca_file),
            ("nats.tls_certificate_file", &self.tls_certificate_file),
            ("nats.tls_key_file", &self.tls_key_file),
        ] {
            if let Some(file) = file.as_ref().filter(|file| !file.is_file()) {
                problems
                    .push(StreamError::Settings { setting, problem: format!("there is no file {}", file.display()) });
            }
        }
        problems
    }

    /// A password would travel readably to another machine: what to do about it.
    pub fn exposure(&self) -> Option<&'static str> {
        let addresses = self.addresses().ok()?;
        let sends_secret = self.password.is_some() || addresses.iter().any(ServerAddr::has_user_pass);
        let leaves = addresses.iter().any(|address| !is_loopback(address.host()));
        (sends_secret && leaves && !self.demands_tls(&addresses)).then_some(
            "the password goes to nats without TLS, readable on the way: write tls:// in nats.url, or use nats.nkey_seed \
             or nats.credentials_file, whose secrets never leave this machine",
        )
    }

    /// Servers that a cluster tells of later are named without `tls://`: what one address demands holds for all.
    fn demands_tls(&self, addresses: &[ServerAddr]) -> bool {
        self.tls_required
            || self.tls_ca_file.is_some()
            || self.tls_certificate_file.is_some()
            || addresses.iter().any(ServerAddr::tls_required)
    }

    fn addresses(&self) -> Result<Vec<ServerAddr>, StreamError> {
        let parts = self.url.split(',').map(str::trim).filter(|part| !part.is_empty());
        let addresses: Result<Vec<_>, _> = parts.map(str::parse::<ServerAddr>).collect();
        match addresses {
            Ok(addresses) if !addresses.is_empty() => Ok(addresses),
            Ok(_) => Err(StreamError::Settings { setting: "nats.url", problem: "names no server".to_owned() }),
            Err(_) => {
                // Neither it nor the client's words about it are shown: any part of it may be a password.
                let problem = "is not an address such as nats://host:4222 or tls://host:4222".to_owned();
                Err(StreamError::Settings { setting: "nats.url", problem })
            }
        }
    }

    /// Who we are, by the settings or else by the address: the client itself does not look there.
    fn authenticated(&self, options: ConnectOptions, addresses: &[ServerAddr]) -> ConnectOptions {
        if let (Some(user), Some(password)) = (&self.user, &self.password) {
            return options.user_and_password(user.clone(), password.expose_secret().to_owned());
        }
        if let Some(seed) = &self.nkey_seed {
            return options.nkey(seed.expose_secret().to_owned());
        }
        let Some(address) = addresses.iter().find(|address| address.has_user_pass()) else { return options };
        let user = percent_decoded(address.username().unwrap_or_default());
        match address.password() {
            Some(password) => options.user_and_password(user, percent_decoded(password)),
            None => options.token(user),
        }
    }

    async fn options(&self, name: &str, addresses: &[ServerAddr]) -> Result<ConnectOptions, StreamError> {
        let mut options = ConnectOptions::new()
            .name(name)
            .connection_timeout(Duration::from_secs(self.connect_timeout_seconds.max(1)))
            .max_reconnects(None)
            .reconnect_delay_callback(reconnect_delay)
            .event_callback({
                let name = name.to_owned();
                move |event| {
                    report(&name, &event);
                    std::future::ready(())
                }
            })
            .require_tls(self.demands_tls(addresses));
        options = self.authenticated(options, addresses);
        if let Some(file) = &self.tls_ca_file {
            options = options.add_root_certificates(readable("nats.tls_ca_file", file).await?);
        }
        if let (Some(certificate), Some(key)) = (&self.tls_certificate_file, &self.tls_key_file) {
            let certificate = readable("nats.tls_certificate_file", certificate).await?;
            options = options.add_client_certificate(certificate, readable("nats.tls_key_file", key).await?);
        }
        if let Some(file) = &self.credentials_file {
            options = options.credentials_file(file).await.map_err(|error| StreamError::Settings {
                setting: "nats.credentials_file",
                problem: format!("{}: {error}", file.display()),
            })?;
        }
        Ok(options)
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Config")
            .field("url", &self.redacted_url())
            .field("user", &self.user)
            .field("password", &self.password.as_ref().map(|_| "[redacted]"))
            .field("credentials_file", &self.credentials_file)
            .field("nkey_seed", &self.nkey_seed.as_ref().map(|_| "[redacted]"))
            .field("tls_required", &self.tls_required)
            .field("tls_ca_file", &self.tls_ca_file)
            .field("tls_certificate_file", &self.tls_certificate_file)
            .finish_non_exhaustive()
    }
}

/// How often a client's connection was established: a change means that requests under way may be lost.
#[derive(Clone, Debug)]
pub struct ConnectionEpoch(Arc<Statistics>);

impl ConnectionEpoch {
    /// Observes a client's connection.
    pub fn of(client: &Client) -> Self {
        Self(client.statistics())
    }

    /// Observes a connection by what is counted of it.
    pub fn counted_by(statistics: Arc<Statistics>) -> Self {
        Self(statistics)
    }

    /// The number of connects so far.
    pub fn current(&self) -> u64 {
        self.0.connects.load(Ordering::Relaxed)
    }
}

/// Connects under `name`; tries for the configured time, but gives up at once on refused credentials or bad settings.
pub async fn connect(config: &Config, name: &str) -> Result<Client, StreamError> {
    if let Some(problem) = config.problems().into_iter().next() {
        return Err(problem);
    }
    if let Some(exposure) = config.exposure() {
        warn!("{exposure}");
    }
    let addresses = config.addresses()?;
    let bare = without_secrets(&addresses);
    let until = Instant::now() + config.connect_patience();
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
    loop {
        let error = match config.options(name, &addresses).await?.connect(bare.clone()).await {
            Ok(client) => return Ok(client),
            Err(error) => error,
        };
        match error.kind() {
            ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
                return Err(StreamError::Unauthorized { url: config.redacted_url(), source: error.into() });
            }
            _ if let Some(problem) = tls::advice(&error, TLS_SETTINGS) => {
                return Err(StreamError::Untrusted { url: config.redacted_url(), problem, source: error.into() });
            }
            _ if Instant::now() >= until => {
                return Err(StreamError::unavailable(format!("no connection to {}", config.redacted_url()), error));
            }
            _ => {
                debug!(error = %error, "no connection to nats yet");
                tokio::time::sleep(backoff.next_wait()).await;
            }
        }
    }
}

/// Quick at first, since most breaks are restarts; never slower than once in two seconds.
fn reconnect_delay(attempts: usize) -> Duration {
    match u64::try_from(attempts).unwrap_or(u64::MAX) {
        0 | 1 => Duration::ZERO,
        attempts => Duration::from_millis(attempts.saturating_mul(50).min(2_000)),
    }
}

fn report(name: &str, event: &Event) {
    match event {
        Event::Connected => info!(connection = name, "connected to nats"),
        Event::Disconnected => warn!(connection = name, "lost the connection to nats; reconnecting"),
        Event::LameDuckMode => info!(connection = name, "the nats server is about to stop; moving to another"),
        Event::SlowConsumer(subscription) => {
            warn!(connection = name, subscription, "messages dropped: a subscription was not read fast enough");
        }
        Event::ServerError(problem) => error!(connection = name, "nats reports: {problem}"),
        Event::ClientError(problem) => warn!(connection = name, "nats client reports: {problem}"),
        Event::Draining | Event::Closed => debug!(connection = name, "nats connection: {event}"),
    }
}

async fn readable(setting: &'static str, file: &Path) -> Result<PathBuf, StreamError> {
    match tokio::fs::metadata(file).await {
        Ok(_) => Ok(file.to_owned()),
        Err(error) => Err(StreamError::Settings { setting, problem: format!("{}: {error}", file.display()) }),
    }
}

/// `%40` and its like stand for bytes; what is no such escape stays.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let escape = if first == b'%' { after.get(..2).and_then(|hex| hex::decode(hex).ok()) } else { None };
        match escape {
            Some(byte) => {
                bytes.extend(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The addresses as the client may know them: it writes them into its debug lines.
fn without_secrets(addresses: &[ServerAddr]) -> Vec<ServerAddr> {
    let bare = |address: &ServerAddr| redact(address.as_url_str()).parse().unwrap_or_else(|_| address.clone());
    addresses.iter().map(bare).collect()
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn is_user_seed(text: &str) -> bool {
    text.len() == 58 && text.starts_with("SU") && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn redact(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (scheme, rest));
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    if scheme.is_empty() { host.to_owned() } else { format!("{scheme}://{host}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_never_show() {
        let config = Config {
            password: Some(SecretString::from("pa55".to_owned())),
            ..Config::at("nats://user:s3cret@one:4222, two:4222")
        };
        let shown = format!("{config:?}");
        assert!(!shown.contains("s3cret") && !shown.contains("pa55"), "{shown}");
        assert_eq!(config.redacted_url(), "nats://one:4222,two:4222");
    }

    #[test]
    fn what_one_address_demands_of_tls_holds_for_servers_heard_of_later() {
        let demands = |config: &Config| config.demands_tls(&config.addresses().unwrap());
        assert!(!demands(&Config::at("nats://one:4222")));
        assert!(demands(&Config::at("nats://one:4222,tls://two:4222")));
        assert!(demands(&Config { tls_ca_file: Some("ca".into()), ..Config::at("nats://one:4222") }));
    }

    #[test]
    fn only_a_password_that_leaves_the_machine_in_plain_text_is_warned_of() {
        let exposed = |config: Config| config.exposure().is_some();
        assert!(exposed(Config::at("nats://user:pass@db.example:4222")));
        assert!(exposed(Config::at("nats://user:pass@127.0.0.1:4222,nats://10.0.0.1:4222")));
        assert!(!exposed(Config::at("nats://user:pass@127.0.0.1:4222,nats://[::1]:4222,nats://localhost")));
        assert!(!exposed(Config::at("tls://user:pass@db.example:4222")));
        assert!(!exposed(Config::at("nats://db.example:4222")));
        let seed = Some(SecretString::from(format!("SU{}", "A".repeat(56))));
        assert!(!exposed(Config { nkey_seed: seed, ..Config::at("nats://db.example:4222") }));
    }

    #[test]
    fn the_client_is_given_addresses_without_secrets() {
        let addresses = Config::at("tls://user:s3cret@one:4333,s3cret@two").addresses().unwrap();
        let bare = without_secrets(&addresses);
        assert!(!format!("{bare:?}").contains("s3cret"), "{bare:?}");
        assert!(bare[0].tls_required() && bare[0].port() == 4333 && bare[1].host() == "two", "{bare:?}");
    }

    #[test]
    fn escapes_in_an_address_are_undone() {
        assert_eq!(percent_decoded("p%40ss%2Fw%zz%"), "p@ss/w%zz%");
    }

    #[test]
    fn settings_that_cannot_work_are_named_all_at_once() {
        let config = Config {
            tls_key_file: Some("/nowhere/k".into()),
            user: Some("u".into()),
            nkey_seed: Some(SecretString::from("guess")),
            ..Config::at("nats://a b")
        };
        let problems: Vec<String> = config.problems().iter().map(ToString::to_string).collect();
        assert_eq!(problems.len(), 6, "{problems:?}");
        assert!(problems[0].starts_with("nats.url: "), "{problems:?}");
    }
}
