//! Stripe webhooks: what each type says of a customer's risk, as one event with facts.
//!
//! Reads small tolerant views of snapshot events in any API version: a field that is missing, null, expanded or of another
//! kind than expected never breaks the reading of the others. Both shapes are understood, before and after 2025-03-31
//! ("basil"), which moved the period's end from the subscription to its items. Does not check signatures
//! ([`signature`] does), does not find the own customer behind Stripe's.
//!
//! Decisions:
//! - Every name begins with `payment_` or `subscription_`, so that none counts as usage.
//! - A name tells the outcome, not Stripe's type: `payment_failed` whether the invoice, the charge or the intent says so.
//!   All of them may come for one attempt; being the same name at about the same time they count once.
//! - Subscriptions, invoices and disputes must be complete enough to be used, else the webhook is refused by name and can be
//!   replayed. Every other type without a customer (a guest's charge, say) says nothing and is passed over.
//! - A customer's deletion says nothing itself: Stripe cancels its subscriptions and tells so one by one.

use serde::{Deserialize, Serialize};

use super::{
    decode::Reject,
    fact::{Change, InvoiceOutcome, StripeFact},
    ids::CustomerId,
    time::Timestamp,
};

use view::Webhook;

pub mod signature; // who sent it
mod card;
mod payment;
mod recurring;
mod subscription;
mod view;

/// What one webhook says, under our names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StripeEvent {
    /// `evt_…`, the same on every delivery.
    pub id: String,
    /// When Stripe created the event: the guard of its facts.
    pub created: Timestamp,
    /// Our name for it; begins with `payment_` or `subscription_`.
    pub name: &'static str,
    /// Whom it concerns.
    pub customer: CustomerRef,
    /// What it says of Stripe's objects.
    pub facts: Vec<StripeFact>,
    /// Charges and payment intents (`ch_…`, `py_…`, `pi_…`) that it shows to be the customer's.
    pub charges: Vec<String>,
    /// The own customer's id that a checkout was started with (`client_reference_id`).
    pub reference: Option<String>,
}

/// Whom a webhook concerns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CustomerRef {
    /// A Stripe customer, `cus_…`.
    Customer(String),
    /// Whoever paid by one of these charges or payment intents: all that a dispute tells.
    Charge(Vec<String>),
}

/// What a type of webhook is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Topic {
    Subscription(Change),
    Invoice(InvoiceOutcome),
    /// A charge or payment intent.
    Payment,
    Dispute {
        closed: bool,
    },
    FraudWarning,
    Card {
        attached: bool,
    },
    Checkout,
    /// Says no more than its name, and whom it concerns.
    Mention,
}

/// Stripe's types that say something of risk, and our names for them.
const TYPES: &[(&str, &str, Topic)] = &[
    ("customer.subscription.created", "subscription_created", Topic::Subscription(Change::Created)),
    ("customer.subscription.updated", "subscription_updated", Topic::Subscription(Change::Updated)),
    ("customer.subscription.deleted", "subscription_canceled", Topic::Subscription(Change::Deleted)),
    ("customer.subscription.paused", "subscription_paused", Topic::Subscription(Change::Updated)),
    ("customer.subscription.resumed", "subscription_resumed", Topic::Subscription(Change::Updated)),
    ("customer.subscription.trial_will_end", "subscription_trial_will_end", Topic::Subscription(Change::Updated)),
    ("customer.subscription.pending_update_applied", "subscription_updated", Topic::Subscription(Change::Updated)),
    ("customer.subscription.pending_update_expired", "subscription_updated", Topic::Subscription(Change::Updated)),
    ("invoice.payment_failed", "payment_failed", Topic::Invoice(InvoiceOutcome::Failed)),
    // Nobody paid in time, or the dunning was given up: failures too, if late ones.
    ("invoice.overdue", "payment_failed", Topic::Invoice(InvoiceOutcome::Failed)),
    ("invoice.marked_uncollectible", "payment_failed", Topic::Invoice(InvoiceOutcome::Failed)),
    ("invoice.paid", "payment_succeeded", Topic::Invoice(InvoiceOutcome::Paid)),
    ("invoice.payment_succeeded", "payment_succeeded", Topic::Invoice(InvoiceOutcome::Paid)),
    ("invoice.voided", "payment_voided", Topic::Invoice(InvoiceOutcome::Voided)),
    // The bank asks the customer to confirm: no failure yet. If the attempt fails, Stripe says so too.
    ("invoice.payment_action_required", "payment_action_required", Topic::Mention),
    ("charge.failed", "payment_failed", Topic::Payment),
    ("charge.succeeded", "payment_succeeded", Topic::Payment),
    ("charge.refunded", "payment_refunded", Topic::Payment),
    ("payment_intent.payment_failed", "payment_failed", Topic::Payment),
    ("payment_intent.succeeded", "payment_succeeded", Topic::Payment),
    ("payment_intent.requires_action", "payment_action_required", Topic::Payment),
    ("charge.dispute.created", "payment_disputed", Topic::Dispute { closed: false }),
    ("charge.dispute.updated", "payment_dispute_updated", Topic::Dispute { closed: false }),
    ("charge.dispute.funds_withdrawn", "payment_dispute_updated", Topic::Dispute { closed: false }),
    ("charge.dispute.funds_reinstated", "payment_dispute_updated", Topic::Dispute { closed: false }),
    ("charge.dispute.closed", "payment_dispute_closed", Topic::Dispute { closed: true }),
    ("radar.early_fraud_warning.created", "payment_fraud_warning", Topic::FraudWarning),
    ("payment_method.attached", "payment_method_updated", Topic::Card { attached: true }),
    ("payment_method.updated", "payment_method_updated", Topic::Card { attached: true }),
    ("payment_method.automatically_updated", "payment_method_updated", Topic::Card { attached: true }),
    ("payment_method.card_automatically_updated", "payment_method_updated", Topic::Card { attached: true }),
    ("payment_method.detached", "payment_method_removed", Topic::Card { attached: false }),
    ("customer.source.created", "payment_method_updated", Topic::Card { attached: true }),
    ("customer.source.updated", "payment_method_updated", Topic::Card { attached: true }),
    ("customer.source.expiring", "payment_method_expiring", Topic::Card { attached: true }),
    ("customer.source.deleted", "payment_method_removed", Topic::Card { attached: false }),
    ("checkout.session.completed", "payment_checkout_completed", Topic::Checkout),
    ("checkout.session.async_payment_succeeded", "payment_succeeded", Topic::Checkout),
    ("checkout.session.async_payment_failed", "payment_failed", Topic::Checkout),
    ("customer.discount.deleted", "subscription_discount_ended", Topic::Mention),
    ("subscription_schedule.expiring", "subscription_schedule_expiring", Topic::Mention),
    ("billing_portal.session.created", "subscription_portal_opened", Topic::Mention),
];

/// Reads one webhook's body, its signature checked already; `None` is a type that says nothing of risk.
pub fn read_webhook(body: &[u8]) -> Result<Option<StripeEvent>, Reject> {
    let envelope = view::Envelope::read(body)?;
    let kind = envelope.kind()?;
    let Some(&(_, name, topic)) = TYPES.iter().find(|(known, ..)| *known == kind) else { return Ok(None) };
    let webhook = envelope.webhook(name)?;
    match topic {
        Topic::Subscription(change) => subscription::read(webhook, change).map(Some),
        Topic::Invoice(outcome) => payment::read_invoice(webhook, outcome).map(Some),
        Topic::Dispute { closed } => payment::read_dispute(webhook, closed).map(Some),
        Topic::FraudWarning => payment::read_charged(webhook),
        Topic::Payment => payment::read_payment(webhook),
        Topic::Checkout => payment::read_checkout(webhook),
        Topic::Card { attached } => card::read(webhook, attached),
        Topic::Mention => read_mention(webhook),
    }
}

/// The id of a webhook's event, whatever its type says; `None` if the body shows none.
pub fn event_id(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Named {
        #[serde(default, deserialize_with = "view::lax")]
        id: Option<view::Id>,
    }
    serde_json::from_slice::<Named>(body).ok()?.id.map(|view::Id(id)| id)
}

/// Whether a type of event says something of risk.
pub fn is_known_type(kind: &str) -> bool {
    TYPES.iter().any(|(known, ..)| *known == kind)
}

fn read_mention(webhook: Webhook<'_>) -> Result<Option<StripeEvent>, Reject> {
    let owned: view::Owned = webhook.object()?;
    Ok(owned.customer().map(|customer| webhook.event(CustomerRef::Customer(customer))))
}

/// The event's body for `CHURN_EVENTS`: the same bytes for the same webhook.
pub fn event_body(event: &StripeEvent) -> Vec<u8> {
    body(event, None)
}

/// Like [`event_body`], with the customer's full id, which a hashed subject token needs.
pub fn event_body_for(event: &StripeEvent, customer: &CustomerId) -> Vec<u8> {
    body(event, Some(customer))
}

fn body(event: &StripeEvent, customer: Option<&CustomerId>) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        event: &'a str,
        id: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        customer_id: Option<&'a str>,
        timestamp: Timestamp,
        #[serde(skip_serializing_if = "<[StripeFact]>::is_empty")]
        facts: &'a [StripeFact],
    }
    let body = Body {
        event: event.name,
        id: &event.id,
        customer_id: customer.map(CustomerId::as_str),
        timestamp: event.created,
        facts: &event.facts,
    };
    serde_json::to_vec(&body).expect("texts, times and facts have a JSON form")
}

#[cfg(test)]
mod tests;
