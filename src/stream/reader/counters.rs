//! What a reader counts about itself, in plain atomics that telemetry may read at any time.

use std::sync::atomic::{AtomicU64, Ordering};

/// Why a reader gave up its consumer and created another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reseek {
    /// The consumer's sequence jumped: messages were lost on the way.
    Gap,
    /// The server says that it delivered more than arrived.
    TailLost,
    /// No message and no heartbeat for two heartbeats.
    MissingHeartbeat,
    /// A pull request could not be sent or was refused.
    Pull,
    /// Nobody answers for the consumer.
    NoResponders,
    /// The server deleted the consumer.
    ConsumerDeleted,
    /// The connection was established anew.
    Reconnected,
    /// Messages are pending, but none came for the configured time.
    Stalled,
    /// The client ended the subscription.
    Ended,
}

impl Reseek {
    /// All reasons, in the order of [`ReaderCounters::reseeks`].
    pub const ALL: [Self; 9] = [
        Self::Gap,
        Self::TailLost,
        Self::MissingHeartbeat,
        Self::Pull,
        Self::NoResponders,
        Self::ConsumerDeleted,
        Self::Reconnected,
        Self::Stalled,
        Self::Ended,
    ];

    /// The reason as a metric's label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gap => "gap",
            Self::TailLost => "tail_lost",
            Self::MissingHeartbeat => "missing_heartbeat",
            Self::Pull => "pull",
            Self::NoResponders => "no_responders",
            Self::ConsumerDeleted => "consumer_deleted",
            Self::Reconnected => "reconnected",
            Self::Stalled => "stalled",
            Self::Ended => "ended",
        }
    }
}

/// A reader's counters; several readers may share one.
#[derive(Debug, Default)]
pub struct ReaderCounters {
    reseeks: [AtomicU64; Reseek::ALL.len()],
    /// Messages handed out.
    pub messages: AtomicU64,
    /// Batches handed out that were not empty.
    pub batches: AtomicU64,
    /// Messages dropped because they had been handed out before.
    pub repeats: AtomicU64,
    /// Attempts to create a consumer that failed.
    pub failed_seeks: AtomicU64,
    /// Messages that the stream dropped before they could be read.
    pub overtaken: AtomicU64,
}

impl ReaderCounters {
    /// How often a consumer was given up for `reason`.
    pub fn reseeks(&self, reason: Reseek) -> u64 {
        self.reseeks[reason as usize].load(Ordering::Relaxed)
    }

    /// How often a consumer was given up, for whatever reason.
    pub fn all_reseeks(&self) -> u64 {
        self.reseeks.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    pub(super) fn count_reseek(&self, reason: Reseek) {
        self.reseeks[reason as usize].fetch_add(1, Ordering::Relaxed);
    }
}
