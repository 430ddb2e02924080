//! The simulation: the real worker, outbox, lease rounds and reader, in worlds that are drawn from a seed.
//!
//! A world has a log and tables in memory (`log`, `tables`), one to three instances (`instance`), traffic (`traffic`)
//! and faults (`story`), all on one thread with a clock that jumps from timer to timer. A seed decides everything, so a
//! world can be lived through again, line for line. Once its faults have ended a world must come to rest, and is judged
//! (`judge`): by an undisturbed run over the same log, and by the naive model of `tests/it/model`.
//!
//! A seed that fails prints its trace and how to see it again:
//!
//! ```text
//! CHURND_SIM_SEED=123 cargo nextest run --features mutants --no-capture -E 'binary(sim) and test(replay)'
//! ```
//!
//! `CHURND_SIM_SEEDS=1000000` makes all tests together live through so many worlds instead of 10,000.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../it/model/mod.rs"]
#[expect(dead_code, reason = "the simulation needs less of the model than tests/it does")]
mod model;

mod bugs;
mod conformance;
mod fakes;
mod instance;
mod judge;
mod log;
mod outages;
mod rollback;
mod seeds;
mod story;
mod tables;
mod traffic;
mod world;
