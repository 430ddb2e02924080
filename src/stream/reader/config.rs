//! What a reader is told at its opening.

use std::time::Duration;

use crate::event::{ids::StreamSequence, time::Timestamp};

/// What to read, from where, and how.
#[derive(Clone, Debug)]
pub struct ReaderConfig {
    /// The consumers' name, to which `-r1`, `-r2`, … is added; must be the reader's own (instance and lease epoch).
    pub name_prefix: String,
    /// At most one subject filter; without one the reader gets the whole stream, which is the cheapest for the server.
    pub filter: Option<String>,
    /// The position: everything after it is read. 0 stands before the first.
    pub start_after: StreamSequence,
    /// The newest message that is known to be accounted for, and when it was stored: lets each seek notice a stream that was
    /// rolled back.
    pub start_message: Option<(StreamSequence, Timestamp)>,
    /// When the stream was created, as far as known.
    pub stream_created: Option<Timestamp>,
    /// The most messages in a batch and in a pull request.
    pub batch: usize,
    /// The most bytes that a pull request may bring, raised to four of the largest messages; bounds the memory.
    pub max_bytes: usize,
    /// How often the server must give a sign of life.
    pub heartbeat: Duration,
    /// How long a pull request stands.
    pub expires: Duration,
    /// When the server deletes the consumer if nobody reads.
    pub inactive_threshold: Duration,
    /// With messages pending and none coming for this long, a new consumer is created.
    pub stall_after: Duration,
    /// A planted bug: messages that were lost on the way are not asked for again.
    #[cfg(feature = "mutants")]
    pub skips_gaps: bool,
}

impl ReaderConfig {
    /// The defaults for a reader of its own name at a position.
    pub fn new(name_prefix: impl Into<String>, start_after: StreamSequence) -> Self {
        Self {
            name_prefix: name_prefix.into(),
            filter: None,
            start_after,
            start_message: None,
            stream_created: None,
            batch: 1_000,
            max_bytes: 8 << 20,
            heartbeat: Duration::from_secs(5),
            expires: Duration::from_secs(30),
            inactive_threshold: Duration::from_secs(300),
            stall_after: Duration::from_secs(60),
            #[cfg(feature = "mutants")]
            skips_gaps: false,
        }
    }

    /// Whether a gap is left as it is: never, but for a planted bug.
    pub(super) fn skips_gaps(&self) -> bool {
        #[cfg(feature = "mutants")]
        return self.skips_gaps;
        #[cfg(not(feature = "mutants"))]
        false
    }

    /// A request that no message exceeds: one that is smaller than the next message would bring nothing for ever.
    pub(super) fn max_bytes_for(&self, max_payload: usize) -> usize {
        self.max_bytes.max(max_payload.saturating_mul(4))
    }
}
