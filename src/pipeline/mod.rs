//! The shell around the engine: takes events from the stream, stores checkpoints, publishes what follows from them.
//!
//! Data flows one way: reader → worker → checkpoint → outbox. Each stage is a task or a value handed on; no stage reaches
//! back. What a failure means is decided here, once.

pub mod config; // what can be set
pub mod rulebook; // the rules in force, from files
pub mod accounts; // which accounts exist
pub mod ownership; // leases: which partitions are ours
pub mod tasks; // where tasks are started
pub(crate) mod rollback; // where to read on in a stream that is not what it was
pub mod doubling; // twice as many partitions
pub mod worker; // the one task that owns partitions
pub(crate) mod warm; // clean customers outside the partitions
pub mod outbox; // publishes what was committed
mod scores; // puts scores into the bucket, unless somebody newer has
pub mod fleet; // accounts whose events stop coming
pub mod mutant; // planted bugs for the crash tests and the simulation
pub mod normalizer; // Stripe's webhooks become events
pub mod erasure; // erases customers, message by message
pub mod archive; // every event as a row
pub mod risk; // reading a customer's risk
pub mod second_chance; // whether a dead letter would be accepted today
pub mod bookkeeper; // notes every hour how accounts stand
pub mod interventions; // noting what people do about it
