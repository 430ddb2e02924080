//! churnd sees subscription customers leave before they do.
//!
//! The modules in reading order:

pub mod event; // the vocabulary: events, ids, instants, money, and the decoding of what arrives
pub mod engine; // the brain: windows, rules, scores, what silence changes; no clock, no I/O
pub mod tls; // why a handshake failed, in words
pub mod stream; // JetStream: declare, read, publish, dead letters
pub mod store; // Postgres: checkpoints, leases, states, outbox, accounts
pub mod web; // asking others over HTTP
pub mod telemetry; // what operators see: log lines and metrics
pub mod pipeline; // the shell: from the stream through the engine to the store and the alerts
pub mod notify; // alerts that reach people: Slack, e-mail, webhooks
pub mod bridge; // HTTP
pub mod config; // every setting: where it comes from, what is allowed
pub mod embedded; // private servers for `churnd dev` and the tests
pub mod service; // how the daemon lives: clock, signals, drain
pub mod cli; // one file a subcommand
