//! HTTP: what the daemon answers, and the server that carries it.
//!
//! Only this module knows HTTP. A 2xx for an event is given only after its PubAck; errors are RFC 9457 problem+json, but for
//! the routes that speak somebody else's protocol. What a request may see is its key's account, and nothing else.

pub mod client_address; // whose request it is
pub mod config; // what can be set
pub mod server; // connections, limits, drain
pub mod router; // all routes
pub mod state; // what the handlers work with
pub mod error; // what is answered when something is wrong
pub mod access; // who asks, and whether they may
mod cached; // what requests are checked against, kept fresh
pub mod keys; // the keys that count
pub mod rate; // how often a key may be used
pub mod context; // a request's id and trace
pub mod observe; // log line and metrics of each request
pub mod cors; // pages of other origins
pub mod body; // reading bodies within limits
pub mod intake; // the way into the event stream
pub mod track; // events, one or many
pub mod segment; // as Segment's SDKs speak
pub mod identify; // who a customer is
mod query; // the parameters of a query
mod cursor; // where the next page of a list begins
pub mod customers; // reading about customers, and what was done about them
pub mod erasure; // erasing a customer
pub mod channels; // where alerts go, and how deliveries went
pub mod script; // the browser snippet
pub mod stripe; // Stripe's webhooks
pub mod slack; // installing the Slack app
pub mod dashboard; // pages for people
pub mod openapi; // the document that describes it all
pub mod health; // alive, ready, metrics
#[cfg(test)]
mod tests;

pub use self::{config::Config, state::Bridge};
