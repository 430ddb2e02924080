//! Alerts that reach people: what `CHURN_ALERTS` says becomes messages to Slack, to mailboxes and to webhooks.
//!
//! An alert becomes one row of `deliveries` for each channel that takes it, in one transaction, and is acknowledged then: from
//! there on the table is the queue. Every channel is worked on by itself, so one that hangs holds up no other, and nothing here
//! can hold up the scoring. A message is sent at least once, each time under the same key.

pub mod alert; // what an alert says
pub mod message; // what a person is sent
mod answer; // what an HTTP answer means for a message
pub mod settings; // how messages are sent
pub mod webhook; // signed, to a URL
mod slack; // to a Slack channel
mod mail; // to mailboxes
pub mod sender; // one try, whatever kind of target
pub mod preview; // what would be sent
mod words; // amounts, instants and names as people read them
pub mod templates; // the texts, built in or a channel's own
pub mod sample; // one of each kind, to look at
pub mod check; // what can be said of a channel before anything is sent
pub mod send; // one try at one target, and what came of it
mod quiet; // when nothing is sent
mod plan; // what is sent now, alone or together, and what waits
mod retry; // when to try again
pub mod intake; // alerts of the stream become deliveries
pub mod dispatcher; // sends what waits
