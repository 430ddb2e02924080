//! Stripe facts: what one webhook says about one object, small enough to travel inside an event.
//!
//! A fact is not a command. Facts about the same object are joined by their guard (the webhook's `created`), so their
//! order and repetition do not matter.

use serde::{Deserialize, Serialize};

use super::{money::Money, time::Timestamp};

/// What a webhook says about one Stripe object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum StripeFact {
    /// A subscription as it stood when the webhook was created.
    Subscription(SubscriptionFact),
    /// An attempt to collect an invoice, or its end.
    Invoice(InvoiceFact),
    /// A card that pays for the customer.
    Card(CardFact),
    /// A disputed charge.
    Dispute(DisputeFact),
}

/// How a subscription's webhook came about; of two in the same second the later variant is newer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// `customer.subscription.created`.
    Created,
    /// `customer.subscription.updated` and its relatives.
    Updated,
    /// `customer.subscription.deleted`.
    Deleted,
}

/// A subscription's status, as Stripe spells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are Stripe's own")]
pub enum SubscriptionStatus {
    Incomplete,
    IncompleteExpired,
    Trialing,
    Active,
    PastDue,
    Canceled,
    Unpaid,
    Paused,
}

impl SubscriptionStatus {
    /// Canceled and expired subscriptions never come back: Stripe starts a new one instead.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Canceled | Self::IncompleteExpired)
    }

    /// The customer has something to lose: it is served, or would be once it pays.
    pub fn is_live(self) -> bool {
        matches!(self, Self::Trialing | Self::Active | Self::PastDue | Self::Unpaid | Self::Paused)
    }
}

/// A subscription as one webhook shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscriptionFact {
    /// `sub_…`.
    pub id: String,
    /// The webhook's `created`.
    pub created: Timestamp,
    /// How the webhook came about.
    pub change: Change,
    /// The status then.
    pub status: SubscriptionStatus,
    /// When it is going to end by itself: `cancel_at`, or the period's end where `cancel_at_period_end` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel_at: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// What it brings a month.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mrr: Option<Money>,
    /// This webhook shows a lower monthly amount than before it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub downgraded: bool,
}

/// What an invoice's webhook says of its payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InvoiceOutcome {
    /// An attempt to collect it failed, or it is overdue.
    Failed,
    /// It was voided: nobody owes it any more.
    Voided,
    /// It was paid, by whatever way.
    Paid,
}

/// An invoice's payment as one webhook shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvoiceFact {
    /// `in_…`.
    pub id: String,
    /// The webhook's `created`.
    pub created: Timestamp,
    /// What happened.
    pub outcome: InvoiceOutcome,
}

/// A card as one webhook shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CardFact {
    /// `pm_…`, `card_…` or `src_…`.
    pub id: String,
    /// The webhook's `created`.
    pub created: Timestamp,
    /// It still belongs to the customer.
    pub attached: bool,
    /// The first instant at which it is no longer valid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
}

/// A dispute as one webhook shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DisputeFact {
    /// `du_…` or `dp_…`.
    pub id: String,
    /// The webhook's `created`.
    pub created: Timestamp,
    /// It is not decided yet.
    pub open: bool,
}
