//! One try at one target, and what came of it.

use std::time::Duration;

/// A message arrived.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// By what the receiver knows it, where it says so: with it a later message can replace this one.
    pub reference: Option<String>,
}

/// Why a message did not arrive, by what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Try again, not before this long has passed where the receiver said so.
    #[error("{reason}")]
    Again {
        /// Why; without anything secret.
        reason: String,
        /// How long the receiver asked to wait.
        after: Option<Duration>,
    },
    /// This message will never be taken; others may.
    #[error("{reason}")]
    Refused {
        /// Why; without anything secret.
        reason: String,
    },
    /// The target takes nothing any more: the channel must be paused.
    #[error("{reason}")]
    Gone {
        /// Why; without anything secret.
        reason: String,
    },
}
