//! JetStream: everything churnd says to a NATS server.
//!
//! Owns the connection, the declared streams, the reader with its seek loop, publishing with confirmation, dead
//! letters and the risk bucket. Decides nothing about customers: subjects and payloads pass through as they are.
//!
//! Invariants: nothing is acknowledged (Postgres holds the watermark); nothing counts as published before its PubAck;
//! a reader hands out each message of its filter once and in order, or says with a named error that it cannot.

pub mod connection;
pub mod topology;
pub mod numbering;
pub mod reader;
pub mod publisher;
pub mod dead;
pub mod risk_kv;
pub mod risk_watch;
pub mod durable;
pub mod erase;
pub mod service;
pub mod risk_service;
pub mod intervention_service;
mod api;
mod backoff;
#[cfg(test)]
mod tests;

pub use connection::{Config, ConnectionEpoch, connect};

/// Product events, partitioned on ingest.
pub const EVENTS: &str = "CHURN_EVENTS";
/// Raw Stripe bodies whose signature was checked.
pub const WEBHOOKS: &str = "CHURN_WEBHOOKS";
/// Alerts, each subject once for ever.
pub const ALERTS: &str = "CHURN_ALERTS";
/// Messages that could not be used, with the reason.
pub const DEAD: &str = "CHURN_DEAD";
/// The bucket with each customer's current score.
pub const RISK_BUCKET: &str = "churn_risk";
/// The stream behind [`RISK_BUCKET`].
pub const RISK_STREAM: &str = "KV_churn_risk";

/// What went wrong between churnd and NATS, by what the caller can do about it.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The server cannot be reached or did not answer; trying again later may help.
    #[error("nats unavailable: {what}")]
    Unavailable {
        /// What was being done.
        what: String,
        /// What the client said.
        #[source]
        source: BoxError,
    },
    /// The server refused the credentials, or asks for some.
    #[error("nats at {url} refused the credentials; check nats.credentials_file, nats.nkey_seed, or user and password")]
    Unauthorized {
        /// The server's address without its secrets.
        url: String,
        /// What the client said.
        #[source]
        source: BoxError,
    },
    /// The server cannot prove who it is, or TLS does not come about.
    #[error("no safe connection to nats at {url}: {problem}")]
    Untrusted {
        /// The server's address without its secrets.
        url: String,
        /// What is wrong, and what to do.
        problem: String,
        /// What the client said.
        #[source]
        source: BoxError,
    },
    /// A setting cannot be used.
    #[error("{setting}: {problem}")]
    Settings {
        /// The setting's full name.
        setting: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The stream does not exist.
    #[error("stream {stream} does not exist; run `churnd provision`")]
    NoStream {
        /// The stream's name.
        stream: String,
    },
    /// The server understood and said no.
    #[error("nats refused {what}: {description} (error {code})")]
    Refused {
        /// What was asked.
        what: String,
        /// The JetStream error code.
        code: u64,
        /// The server's own words.
        description: String,
    },
    /// The server answered something that churnd does not understand.
    #[error("nats answered {what} in a form that churnd does not know")]
    Unexpected {
        /// What was asked.
        what: String,
        /// What did not fit.
        #[source]
        source: BoxError,
    },
}

/// Whether a server answers; how long that may take is the caller's to say.
pub async fn ping(context: &async_nats::jetstream::Context) -> Result<(), StreamError> {
    let answer: Result<serde_json::Value, StreamError> =
        api::request(context, "INFO", EVENTS, &serde_json::json!({})).await;
    match answer {
        Err(error) if error.is_transient() => Err(error),
        // Whatever else it says, it is there.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Any error, as a cause.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl StreamError {
    /// The same call may succeed later without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    fn unavailable(what: impl Into<String>, source: impl Into<BoxError>) -> Self {
        Self::Unavailable { what: what.into(), source: source.into() }
    }

    fn unexpected(what: impl Into<String>, source: impl Into<BoxError>) -> Self {
        Self::Unexpected { what: what.into(), source: source.into() }
    }
}
