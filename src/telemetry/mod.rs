//! What operators see: log lines and metrics.
//!
//! A leaf: names no other module of the daemon but the vocabulary, so that every module above the pure ones may use it.

pub mod log; // set up once by main: text, JSON or journal
pub mod metrics; // every metric, once
mod process; // what /proc tells about this process
