//! Where a channel's messages go, what may stand there, and how it stands in the table.

use std::fmt;

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::store::{error::StoreError, values::RowReader};

/// Where messages go.
#[derive(Clone, Debug)]
pub enum Target {
    /// Slack's incoming webhook; its URL is the secret.
    SlackWebhook {
        /// `https://hooks.slack.com/services/…`
        url: SecretString,
    },
    /// A Slack workspace that installed the app; messages can be updated.
    SlackApp {
        /// The bot's token, `xoxb-…`.
        token: SecretString,
        /// The Slack channel's id, or `#name`.
        channel: String,
    },
    /// Mailboxes.
    Email {
        /// Addresses, one or more.
        to: Vec<String>,
    },
    /// A URL that takes messages signed by the Standard Webhooks scheme.
    Webhook {
        /// `https://…`
        url: SecretString,
        /// `whsec_` and base64; the newest first, one or two while they are changed.
        secrets: Vec<SecretString>,
    },
}

/// What kind of channel it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ChannelKind {
    /// A Slack channel.
    Slack,
    /// Mailboxes.
    Email,
    /// A URL.
    Webhook,
}

const MAX_ADDRESSES: usize = 50;
const MAX_URL_BYTES: usize = 2_048;

/// A target as the table holds it.
#[derive(Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum StoredTarget {
    SlackWebhook { url: String },
    SlackApp { token: String, channel: String },
    Email { to: Vec<String> },
    Webhook { url: String, secrets: Vec<String> },
}

impl ChannelKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Slack, Self::Email, Self::Webhook];

    /// The kind as it stands in tables, answers and labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Slack => "slack",
            Self::Email => "email",
            Self::Webhook => "webhook",
        }
    }

    pub(in crate::store) fn read(row: &RowReader<'_>, column: &str) -> Result<Self, StoreError> {
        let name: &str = row.get(column)?;
        Self::ALL.into_iter().find(|kind| kind.as_str() == name).ok_or_else(|| row.broken(column))
    }
}

impl fmt::Display for ChannelKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl Target {
    /// What kind of channel it makes.
    pub fn kind(&self) -> ChannelKind {
        match self {
            Self::SlackWebhook { .. } | Self::SlackApp { .. } => ChannelKind::Slack,
            Self::Email { .. } => ChannelKind::Email,
            Self::Webhook { .. } => ChannelKind::Webhook,
        }
    }

    /// Where it leads, without anything secret.
    pub fn shown(&self) -> String {
        match self {
            Self::SlackApp { channel, .. } => channel.clone(),
            Self::Email { to } => to.join(", "),
            Self::SlackWebhook { url } | Self::Webhook { url, .. } => origin_of(url)
                .map_or_else(|| "an address that cannot be read".to_owned(), |origin| format!("{origin}/…")),
        }
    }

    /// Everything that cannot work, each as a sentence that begins with the field and shows nothing secret.
    pub fn problems(&self) -> Vec<String> {
        let problem = match self {
            Self::SlackWebhook { url } => problem_of_url(url),
            Self::SlackApp { token, channel } => {
                if !token.expose_secret().starts_with("xox") || has_odd_characters(token.expose_secret()) {
                    Some("token is no bot token of Slack: they begin with xoxb-")
                } else if channel.is_empty() || channel.len() > 100 || channel.contains(char::is_control) {
                    Some("channel must be a Slack channel's id, or #name")
                } else {
                    None
                }
            }
            Self::Email { to } if to.is_empty() || to.len() > MAX_ADDRESSES => Some("to must hold 1 to 50 addresses"),
            Self::Email { to } if !to.iter().all(|address| is_address(address)) => {
                Some("to holds what is no address such as team@example.com")
            }
            Self::Email { .. } => None,
            Self::Webhook { secrets, .. } if !(1..=2).contains(&secrets.len()) => {
                Some("secrets must be one, or two while they are changed")
            }
            Self::Webhook { secrets, .. } if !secrets.iter().all(is_webhook_secret) => {
                Some("secrets must be whsec_ and 24 to 64 bytes in base64")
            }
            Self::Webhook { url, .. } => problem_of_url(url),
        };
        problem.map(str::to_owned).into_iter().collect()
    }
}

/// A new secret for signing webhooks: 32 random bytes.
pub fn new_webhook_secret() -> SecretString {
    let bytes = [Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4()].map(Uuid::into_bytes).concat();
    let digest = <sha2::Sha256 as sha2::Digest>::digest(&bytes);
    SecretString::from(format!("whsec_{}", data_encoding::BASE64.encode(&digest)))
}

fn is_webhook_secret(secret: &SecretString) -> bool {
    let bytes = secret.expose_secret().strip_prefix("whsec_").map(|text| data_encoding::BASE64.decode(text.as_bytes()));
    matches!(bytes, Some(Ok(bytes)) if (24..=64).contains(&bytes.len()))
}

fn is_address(text: &str) -> bool {
    let parts = text.rsplit_once('@').filter(|(local, domain)| !local.is_empty() && domain.len() >= 2);
    parts.is_some() && text.len() <= 254 && !has_odd_characters(text)
}

fn has_odd_characters(text: &str) -> bool {
    text.contains(|letter: char| {
        letter.is_control() || letter.is_whitespace() || matches!(letter, ',' | ';' | '<' | '>')
    })
}

fn problem_of_url(url: &SecretString) -> Option<&'static str> {
    let text = url.expose_secret();
    let fits = text.len() <= MAX_URL_BYTES && !has_odd_characters(text) && origin_of(url).is_some();
    (!fits).then_some("url must be https:// with a host")
}

fn origin_of(url: &SecretString) -> Option<String> {
    let url = url::Url::parse(url.expose_secret()).ok()?;
    let is_web = matches!(url.scheme(), "https" | "http") && url.has_host();
    is_web.then(|| url.origin().ascii_serialization())
}

impl StoredTarget {
    pub(super) fn of(target: &Target) -> Self {
        let plain = |secret: &SecretString| secret.expose_secret().to_owned();
        match target {
            Target::SlackWebhook { url } => Self::SlackWebhook { url: plain(url) },
            Target::SlackApp { token, channel } => Self::SlackApp { token: plain(token), channel: channel.clone() },
            Target::Email { to } => Self::Email { to: to.clone() },
            Target::Webhook { url, secrets } => {
                Self::Webhook { url: plain(url), secrets: secrets.iter().map(plain).collect() }
            }
        }
    }
}

impl fmt::Debug for StoredTarget {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("StoredTarget")
    }
}

impl From<StoredTarget> for Target {
    fn from(stored: StoredTarget) -> Self {
        match stored {
            StoredTarget::SlackWebhook { url } => Self::SlackWebhook { url: url.into() },
            StoredTarget::SlackApp { token, channel } => Self::SlackApp { token: token.into(), channel },
            StoredTarget::Email { to } => Self::Email { to },
            StoredTarget::Webhook { url, secrets } => {
                Self::Webhook { url: url.into(), secrets: secrets.into_iter().map(SecretString::from).collect() }
            }
        }
    }
}
