//! Alerts that reach people: what `CHURN_ALERTS` says becomes messages to Slack, to mailboxes and to webhooks.
//!
//! An alert becomes one row of `deliveries` for each channel that takes it, in one transaction, and is acknowledged then: from
//! there on the table is the queue. Every channel is worked on by itself, so one that hangs holds up no other, and nothing here
//! can hold up the scoring. A message is sent at least once, each time under the same key.

pub mod alert; // what an alert says
pub mod message; // what a person is sent
pub mod send; // one try at one target, and what came of it
