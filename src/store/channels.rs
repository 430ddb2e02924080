//! Channels: where an account's alerts go, and which of them.

use secrecy::SecretString;

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
