//! Channels: where an account's alerts go, and which of them.

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

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

/// How a channel wants its messages: templates of its own, in minijinja's language. What is empty is built in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Templates {
    /// The subject of a mail, and the first line elsewhere.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subject: String,
    /// The message as plain text.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// The message as HTML, for mail only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub html: Option<String>,
}
