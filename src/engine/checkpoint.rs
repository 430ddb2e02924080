//! What one checkpoint must store: everything a partition changed since the one before, as plain values.
//!
//! The pipeline adds the lease's epoch and the watermark; the store writes all of it in one transaction or nothing.

use serde::Serialize;

use crate::event::{
    ids::{AccountId, CustomerId, PartitionId},
    money::Money,
    time::Timestamp,
};

/// How much a customer is at risk.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, serde::Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Nothing to do.
    #[default]
    Low,
    /// Worth a look.
    Medium,
    /// Act now.
    High,
}

impl Level {
    /// The level as it stands in subjects, tables and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

/// Where a customer stands in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It can still be kept.
    #[default]
    Active,
    /// Its last subscription ended.
    Churned,
    /// It was a Stripe id that now belongs to another customer; only a signpost is left.
    Moved,
}

impl Status {
    /// The status as it stands in tables and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Churned => "churned",
            Self::Moved => "moved",
        }
    }
}

/// One reason for a score.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Factor {
    /// The rule's name.
    pub factor: String,
    /// What it adds to the score.
    pub points: u8,
    /// The reason in plain words.
    pub reason: String,
}

/// One customer's state, ready to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateRow {
    /// The tenant.
    pub account: AccountId,
    /// The customer's subject token; unique within the account.
    pub token: Box<str>,
    /// The customer's full id.
    pub customer: CustomerId,
    /// The state as an encoded snapshot.
    pub snapshot: Vec<u8>,
    /// The score at the last evaluation, 0 to 100.
    pub score: u8,
    /// The level at the last evaluation.
    pub level: Level,
    /// The status at the last evaluation.
    pub status: Status,
    /// What the customer brings a month.
    pub mrr: Option<Money>,
    /// When the customer must be evaluated again if nothing happens.
    pub due_at: Option<Timestamp>,
    /// The customer has never been stored.
    pub is_new: bool,
}

/// One change of a score: a line of the customer's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScoreRow {
    /// The tenant.
    pub account: AccountId,
    /// The customer's subject token.
    pub token: Box<str>,
    /// The customer's full id.
    pub customer: CustomerId,
    /// As of when the score holds.
    pub at: Timestamp,
    /// 0 to 100.
    pub score: u8,
    /// The score's level.
    pub level: Level,
    /// The customer's status.
    pub status: Status,
    /// Why.
    pub factors: Vec<Factor>,
}

/// A message that must be published once the transaction that holds it is committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxRow {
    /// The tenant.
    pub account: AccountId,
    /// The customer's subject token.
    pub token: Box<str>,
    /// The customer's full id.
    pub customer: CustomerId,
    /// `Nats-Msg-Id`; unique, and the same each time the same message is tried.
    pub message_id: String,
    /// The whole subject to publish to.
    pub subject: String,
    /// JSON.
    pub body: Vec<u8>,
    /// What kind of message it is: decides the stream and whether it is an alert to be listed.
    pub kind: OutboxKind,
    /// When it came up.
    pub at: Timestamp,
}

/// What an outbox row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OutboxKind {
    /// An alert for `CHURN_ALERTS`.
    Alert,
    /// An alert kept back by the cooldown: stored to be seen, never published.
    HeldAlert,
    /// An event for `CHURN_EVENTS`, such as the facts of a customer that was linked to another id.
    Event,
}

impl OutboxKind {
    /// The kind as it stands in the table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alert => "alert",
            Self::HeldAlert => "held_alert",
            Self::Event => "event",
        }
    }
}

/// A Stripe customer's link to a customer of ours; of two links of the same Stripe customer the one with the later `at` counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkRow {
    /// The tenant.
    pub account: AccountId,
    /// `cus_…`.
    pub stripe_customer: String,
    /// The customer's full id.
    pub customer: CustomerId,
    /// When it was said.
    pub at: Timestamp,
}

/// How many live product events of an account were stored in a quarter of an hour, see [`fleet`](super::fleet).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeRow {
    /// The tenant.
    pub account: AccountId,
    /// The quarter of an hour, counted from 1970.
    pub slot: i64,
    /// To be added to what is stored.
    pub events: u64,
}

/// How many messages had which end. `received = applied + duplicate + late + dead + suppressed` at any commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Messages of the partition taken from the stream.
    pub received: u64,
    /// Changed a state.
    pub applied: u64,
    /// Dropped as repeats.
    pub duplicate: u64,
    /// Older than everything the state still counts.
    pub late: u64,
    /// Sent to the dead letters.
    pub dead: u64,
    /// Dropped, to be overwritten, because their customer was erased.
    pub suppressed: u64,
}

/// What a partition changed since its last checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The partition.
    pub partition: PartitionId,
    /// Each dirty customer once.
    pub states: Vec<StateRow>,
    /// Scores that changed.
    pub scores: Vec<ScoreRow>,
    /// Messages to publish after the commit.
    pub outbox: Vec<OutboxRow>,
    /// Stripe customers that were linked.
    pub links: Vec<LinkRow>,
    /// What is added to the accounts' volumes; by account and slot, each once.
    pub volume: Vec<VolumeRow>,
    /// What is added to the partition's counters.
    pub counters: Counters,
}
