//! churnd sees subscription customers leave before they do.
//!
//! The modules in reading order:

pub mod event; // the vocabulary: events, ids, instants, money, and the decoding of what arrives
pub mod engine; // the brain: windows, rules, scores, what silence changes; no clock, no I/O
pub mod stream; // JetStream: the connection, the declared streams, the reader, publishing, dead letters
pub mod telemetry; // what operators see: log lines and metrics
pub mod service; // how the daemon lives: clock, signals, drain
pub mod store; // Postgres: states, leases, checkpoints, outbox, archive
pub mod embedded; // private servers for `churnd dev` and the tests
