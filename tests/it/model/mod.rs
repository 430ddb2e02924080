//! Scoring written a second time, as plainly as the contract allows, to compare the real one with.
//!
//! Knows nothing of the engine: the whole history is kept, and everything is recomputed by scanning it. No state, no
//! windows that slide, no order of arrival. Where this module and the engine differ, one of them misreads the contract.

pub(crate) mod instant; // RFC 3339 read and written without a library
pub(crate) mod scoring; // the five factors of the default rules
pub(crate) mod stripe; // what subscriptions add
pub(crate) mod generate; // files of events that lie on every edge
pub(crate) mod traffic; // much traffic for the crash tests
