//! The shell around the engine: takes events from the stream, stores checkpoints, publishes what follows from them.

pub mod config; // what can be set
