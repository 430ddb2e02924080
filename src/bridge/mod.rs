//! HTTP: what the daemon answers, and the server that carries it.
//!
//! Only this module knows HTTP. A 2xx for an event is given only after its PubAck; errors are RFC 9457 problem+json.

pub mod config; // what can be set

pub use self::config::Config;
