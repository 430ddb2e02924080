//! What both the real servers and the simulation's must do: one suite, told as a transcript, for each kind of server.
//!
//! `tests/sim` plays it to the servers in memory, `tests/it` to nats-server and Postgres. Where the transcripts differ the
//! simulation would prove something about servers that do not exist.

pub(crate) mod log;
pub(crate) mod tables;
