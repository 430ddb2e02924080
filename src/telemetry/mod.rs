//! What operators see: log lines, metrics, and reports of errors.
//!
//! A leaf: names no other module of the daemon but the vocabulary and what asks others over HTTP, so that every module above the pure ones may use it.

pub mod log; // set up once by main: text, JSON or journal
pub mod metrics; // every metric, once
pub mod sentry; // errors and panics, told without what they concern
mod process; // what /proc tells about this process
