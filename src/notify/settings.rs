//! The settings under `[notify]`, `[sending]`, `[smtp]`, `[sendgrid]` and `[slack]`.

use std::{fs, net::IpAddr, path::PathBuf, time::Duration};

use lettre::message::Mailbox;
use secrecy::SecretString;
use serde::Deserialize;
use url::Url;

use crate::web::guard::Receiver;

/// How channels are worked on. Defaults and their meaning stand in `config/churnd.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NotifyConfig {
    /// Channels that are sent to at once.
    pub at_once: usize,
    /// How long nothing may arrive at a channel before it is paused.
    pub pause_after_hours: u64,
}

impl NotifyConfig {
    /// How long nothing may arrive at a channel before it is paused.
    pub fn pause_after(&self) -> Duration {
        Duration::from_secs(self.pause_after_hours * 3_600)
    }

    /// Everything that cannot work, each as a sentence that begins with the setting.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if !(2..=256).contains(&self.at_once) {
            problems.push(format!("notify.at_once is {}: it must lie between 2 and 256", self.at_once));
        }
        if !(1..=720).contains(&self.pause_after_hours) {
            let hours = self.pause_after_hours;
            problems.push(format!("notify.pause_after_hours is {hours}: it must lie between 1 and 720"));
        }
        problems
    }
}

/// How messages are sent. Defaults and their meaning stand in `config/churnd.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SendingConfig {
    /// How long one try may take.
    pub timeout_seconds: u64,
    /// Receivers in the own network that webhooks may name.
    pub internal_receivers: Vec<Receiver>,
    /// Whom mail comes from.
    pub mail_from: Option<String>,
}

/// How the mail server is reached.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SmtpConfig {
    /// The server's name; without one no mail is sent this way.
    pub host: Option<String>,
    /// Its port; the usual one of the kind of TLS if 0.
    pub port: u16,
    /// How it is encrypted.
    pub tls: SmtpTls,
    /// Who logs in.
    pub user: Option<String>,
    /// With what.
    pub password: Option<SecretString>,
    /// Certificates that the server's may be signed by, besides the system's.
    pub ca_file: Option<PathBuf>,
}

/// How the way to the mail server is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SmtpTls {
    /// The connection is encrypted before anything is sent; a server that cannot is not used.
    StartTls,
    /// Encrypted from the first byte.
    Implicit,
    /// Not at all; to this machine only.
    None,
}

/// SendGrid's way of sending mail.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SendGridConfig {
    /// The key for sending mail.
    pub api_key: Option<SecretString>,
    /// Where the API is.
    pub url: String,
}

/// Slack's app.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlackConfig {
    /// The app's client id.
    pub client_id: Option<SecretString>,
    /// The app's client secret.
    pub client_secret: Option<SecretString>,
    /// Where the Web API is.
    pub api_url: String,
    /// Where incoming webhooks are.
    pub hooks_url: String,
    /// Where the app is installed from.
    pub authorize_url: String,
}

/// All that a sender needs to know.
#[derive(Clone, Debug)]
pub struct SenderConfig {
    /// How messages are sent.
    pub sending: SendingConfig,
    /// The mail server.
    pub smtp: SmtpConfig,
    /// SendGrid.
    pub sendgrid: SendGridConfig,
    /// Slack.
    pub slack: SlackConfig,
    /// Where users reach the dashboard.
    pub public_url: Option<String>,
}

impl SendingConfig {
    /// How long one try may take.
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_seconds)
    }

    /// Everything that cannot work, each as a sentence that begins with the setting.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let seconds = self.timeout_seconds;
        if !(1..=120).contains(&seconds) {
            problems.push(format!("sending.timeout_seconds is {seconds}: it must lie between 1 and 120"));
        }
        if let Some(from) = self.mail_from.as_ref().filter(|from| from.parse::<Mailbox>().is_err()) {
            problems.push(format!("sending.mail_from is `{from}`: it must be an address, or a name and <an address>"));
        }
        problems
    }
}

impl SmtpConfig {
    /// The port to use.
    pub fn port(&self) -> u16 {
        match (self.port, self.tls) {
            (0, SmtpTls::StartTls) => 587,
            (0, SmtpTls::Implicit) => 465,
            (0, SmtpTls::None) => 25,
            (port, _) => port,
        }
    }

    /// Everything that cannot work, each as a sentence that begins with the setting.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let host = self.host.as_deref().unwrap_or_default();
        if self.tls == SmtpTls::None && !host.is_empty() && !is_this_machine(host) {
            problems.push("smtp.tls is `none`: without encryption only this machine may be reached".to_owned());
        }
        if let Some(file) = &self.ca_file
            && let Err(error) = fs::read(file)
        {
            problems.push(format!("smtp.ca_file `{}` cannot be read: {error}", file.display()));
        }
        if self.user.is_some() != self.password.is_some() {
            let (missing, other) = if self.user.is_some() { ("password", "user") } else { ("user", "password") };
            problems.push(format!("smtp.{missing} is not set: smtp.{other} needs it"));
        }
        problems
    }
}

impl SendGridConfig {
    /// Everything that cannot work, each as a sentence that begins with the setting.
    pub fn problems(&self) -> Vec<String> {
        problem_of_url("sendgrid.url", &self.url).into_iter().collect()
    }
}

impl SlackConfig {
    /// Everything that cannot work, each as a sentence that begins with the setting.
    pub fn problems(&self) -> Vec<String> {
        let urls = [
            ("slack.api_url", &self.api_url),
            ("slack.hooks_url", &self.hooks_url),
            ("slack.authorize_url", &self.authorize_url),
        ];
        let mut problems: Vec<String> = urls.into_iter().filter_map(|(name, url)| problem_of_url(name, url)).collect();
        if self.client_id.is_some() != self.client_secret.is_some() {
            let missing = if self.client_id.is_some() { "client_secret" } else { "client_id" };
            problems.push(format!(
                "slack.{missing} is not set: installing the Slack app needs slack.client_id and slack.client_secret"
            ));
        }
        problems
    }
}

fn problem_of_url(name: &str, text: &str) -> Option<String> {
    let good = Url::parse(text).is_ok_and(|url| match url.scheme() {
        "https" => true,
        "http" => url.host_str().is_some_and(is_this_machine),
        _ => false,
    });
    (!good)
        .then(|| format!("{name} is `{text}`: it must begin with https:// (http:// is possible to this machine only)"))
}

fn is_this_machine(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}
