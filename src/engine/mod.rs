//! The brain of churnd: decides what events and silence change.
//!
//! Owns states, windows, rules, factors, scores, levels and what is announced. Knows no clock, no runtime, no NATS and no
//! SQL: time comes in as `now` and `as_of`, everything that must happen goes out in a [`checkpoint::Checkpoint`].
//!
//! Invariant: order and repetition of a customer's events do not change its state. Bad input never fails here: it comes
//! back as data.

#![warn(clippy::wildcard_enum_match_arm)]

pub mod checkpoint;
pub mod state;
pub(crate) mod names;
pub(crate) mod usage;
pub(crate) mod recent_ids;
pub(crate) mod stripe;
pub mod rules;
pub(crate) mod rules_file;
pub mod score;
pub mod silence;
pub mod words;
pub mod alert;
pub(crate) mod announce;
pub mod fleet;
pub(crate) mod link;
pub(crate) mod packed;
pub mod snapshot;
pub(crate) mod resident;
pub mod partition;
pub mod offline;
pub mod replay;

#[cfg(test)]
mod tests;
