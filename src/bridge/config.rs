//! The settings under `[http]`, `[tracking]`, `[segment]` and `[privacy]`.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use serde::Deserialize;

use super::{
    client_address::TrustedProxies,
    server::{CertificateError, Certificates},
};
use crate::event::{ids::AccountId, segment::CustomerOf};

/// How HTTP is served. Defaults and their meaning stand in `config/churnd.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// How long a client may take to send a request's head, and keep a connection idle.
    pub header_read_timeout_seconds: u64,
    /// How long a request's body may take to come.
    pub body_read_timeout_seconds: u64,
    /// Connections served at once.
    pub max_connections: usize,
    /// Connections of one client served at once.
    pub max_connections_per_client: usize,
    /// How large a request's head may be.
    pub max_head_bytes: usize,
    /// How many headers a request may have.
    pub max_headers: usize,
    /// Whose forwarding headers are believed.
    pub trusted_proxies: TrustedProxies,
    /// Where users reach this server from outside, without a path: `https://churn.example.com`.
    pub public_url: Option<String>,
    /// Our certificate, if TLS is spoken.
    pub tls_certificate_file: Option<PathBuf>,
    /// Its key.
    pub tls_key_file: Option<PathBuf>,
}

/// The settings under `[tracking]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrackingConfig {
    /// Requests a minute for each publishable key and client address; 0 for no limit.
    pub publishable_rate_per_minute: u32,
    /// How long a request waits for the stream's confirmation.
    pub publish_patience_ms: u64,
}

/// The settings under `[segment]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SegmentConfig {
    /// Which of Segment's ids is the customer.
    pub customer: CustomerOf,
    /// Accounts for which that is otherwise: `acme=group`.
    pub accounts: Vec<String>,
    /// Pages that are about billing: paths, or names of pages.
    pub billing_pages: Vec<String>,
}

/// The settings under `[privacy]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrivacyConfig {
    /// Whether e-mail addresses and company names are stored.
    pub store_contact: bool,
}

/// The settings under `[dashboard]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DashboardConfig {
    /// Whether whoever signs in sees partitions and instances.
    pub system: bool,
}

impl TrackingConfig {
    /// How long a request waits for the stream's confirmation.
    pub fn publish_patience(&self) -> Duration {
        Duration::from_millis(self.publish_patience_ms)
    }

    /// Everything that cannot work, each as a sentence that begins with the setting.
    pub fn problems(&self) -> Vec<String> {
        let millis = self.publish_patience_ms;
        if (100..=60_000).contains(&millis) {
            return Vec::new();
        }
        vec![format!("tracking.publish_patience_ms is {millis}: it must lie between 100 and 60000")]
    }
}

impl SegmentConfig {
    /// Which of Segment's ids is the customer of this account.
    pub fn customer_of(&self, account: &AccountId) -> CustomerOf {
        let own = |entry: &String| read_exception(entry).filter(|(name, _)| name == account).map(|(_, choice)| choice);
        self.accounts.iter().find_map(own).unwrap_or(self.customer)
    }

    /// Everything that cannot work, each as a sentence that begins with the setting.
    pub fn problems(&self) -> Vec<String> {
        let wrong = self.accounts.iter().filter(|entry| read_exception(entry).is_none());
        let mut problems: Vec<String> = wrong
            .map(|entry| {
                format!("segment.accounts holds `{entry}`: it must be an account and a choice, such as `acme=group`")
            })
            .collect();
        if self.billing_pages.iter().any(|page| page.trim_matches('/').is_empty()) {
            problems.push("segment.billing_pages holds an empty page: it would be every page".to_owned());
        }
        problems
    }
}

/// A scheme and a host, with or without a port, and nothing else.
fn is_origin(text: &str) -> bool {
    url::Url::parse(text).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https") && url.origin().ascii_serialization() == text.to_ascii_lowercase()
    })
}

fn read_exception(entry: &str) -> Option<(AccountId, CustomerOf)> {
    let (account, choice) = entry.split_once('=')?;
    Some((AccountId::parse(account.trim()).ok()?, CustomerOf::parse(choice.trim())?))
}

impl Config {
    /// How long a client may take to send a request's head, and keep a connection idle.
    pub fn header_read_timeout(&self) -> Duration {
        Duration::from_secs(self.header_read_timeout_seconds)
    }

    /// The certificate and its key, if TLS is to be spoken.
    pub fn certificates(&self) -> Result<Option<Certificates>, CertificateError> {
        match (&self.tls_certificate_file, &self.tls_key_file) {
            (Some(certificate), Some(key)) => Certificates::load(certificate, key).map(Some),
            _ => Ok(None),
        }
    }

    fn problem_of_tls(&self) -> Option<String> {
        match (&self.tls_certificate_file, &self.tls_key_file) {
            (Some(_), None) => Some("http.tls_key_file is not set: http.tls_certificate_file needs it".to_owned()),
            (None, Some(_)) => Some("http.tls_certificate_file is not set: http.tls_key_file needs it".to_owned()),
            _ => self.certificates().err().map(|error| error.to_string()),
        }
    }

    /// How long a request's body may take to come.
    pub fn body_read_timeout(&self) -> Duration {
        Duration::from_secs(self.body_read_timeout_seconds)
    }

    /// Everything that cannot work, each as a sentence that begins with the setting.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let seconds = self.body_read_timeout_seconds;
        if !(1..=300).contains(&seconds) {
            problems.push(format!("http.body_read_timeout_seconds is {seconds}: it must lie between 1 and 300"));
        }
        let seconds = self.header_read_timeout_seconds;
        if !(1..=300).contains(&seconds) {
            problems.push(format!("http.header_read_timeout_seconds is {seconds}: it must lie between 1 and 300"));
        }
        if !(1..=100_000).contains(&self.max_connections) {
            let count = self.max_connections;
            problems.push(format!("http.max_connections is {count}: it must lie between 1 and 100000"));
        }
        if !(1..=100_000).contains(&self.max_connections_per_client) {
            let count = self.max_connections_per_client;
            problems.push(format!("http.max_connections_per_client is {count}: it must lie between 1 and 100000"));
        }
        if !(8_192..=1_048_576).contains(&self.max_head_bytes) {
            let bytes = self.max_head_bytes;
            problems.push(format!("http.max_head_bytes is {bytes}: it must lie between 8192 and 1048576"));
        }
        if !(10..=1_000).contains(&self.max_headers) {
            problems.push(format!("http.max_headers is {}: it must lie between 10 and 1000", self.max_headers));
        }
        if let Some(url) = self.public_url.as_deref().filter(|url| !is_origin(url)) {
            problems
                .push(format!("http.public_url is `{url}`: it must be http:// or https:// and a host, without a path"));
        }
        problems.extend(self.problem_of_tls());
        problems
    }
}
