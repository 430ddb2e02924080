//! HTTP: what the daemon answers, and the server that carries it.
//!
//! Only this module knows HTTP. A 2xx for an event is given only after its PubAck; errors are RFC 9457 problem+json.

pub mod client_address; // whose request it is
pub mod config; // what can be set
pub mod error; // what is answered when something is wrong
pub mod health; // alive, ready, metrics
pub mod router; // all routes
pub mod server; // connections, limits, drain
#[cfg(test)]
mod tests;

pub use self::config::Config;
