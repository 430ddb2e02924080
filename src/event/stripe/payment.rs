//! Payments: invoices, charges, payment intents, checkouts, and the disputes over them.
//!
//! Only invoices and disputes give facts. Charges and payment intents give their name, and show whose they are: a dispute
//! names nothing else. (Invoices stopped naming theirs in 2025, so the charges must tell.)

use serde::Deserialize;

use super::{
    CustomerRef, StripeEvent,
    view::{Id, List, Owned, Webhook, lax, missing},
};
use crate::event::{
    decode::Reject,
    fact::{DisputeFact, InvoiceFact, InvoiceOutcome, StripeFact},
};

/// The most charges one webhook is believed to name.
const MAX_CHARGES: usize = 64;

#[derive(Deserialize)]
struct Invoice {
    #[serde(default, deserialize_with = "lax")]
    id: Option<Id>,
    #[serde(default, deserialize_with = "lax")]
    amount_due: Option<i64>,
    #[serde(default, deserialize_with = "lax")]
    amount_paid: Option<i64>,
    /// Present where the endpoint has them expanded.
    #[serde(default, deserialize_with = "lax")]
    payments: Option<List<InvoicePayment>>,
}

#[derive(Deserialize)]
struct InvoicePayment {
    #[serde(default, deserialize_with = "lax")]
    payment: Option<Links>,
}

/// The charges that an object names, by whatever field.
#[derive(Deserialize)]
struct Links {
    #[serde(default, deserialize_with = "lax")]
    charge: Option<Id>,
    #[serde(default, deserialize_with = "lax")]
    latest_charge: Option<Id>,
    #[serde(default, deserialize_with = "lax")]
    charges: Option<List<Id>>,
    #[serde(default, deserialize_with = "lax")]
    payment_intent: Option<Id>,
}

impl Links {
    fn ids(self) -> impl Iterator<Item = String> {
        let listed = self.charges.into_iter().flat_map(|charges| charges.data);
        let named = [self.charge, self.latest_charge, self.payment_intent].into_iter().flatten();
        named.chain(listed).map(|id| id.0)
    }
}

/// The object's own id.
#[derive(Deserialize)]
struct Itself {
    #[serde(default, deserialize_with = "lax")]
    id: Option<Id>,
}

/// Reads an invoice's webhook.
pub(super) fn read_invoice(webhook: Webhook<'_>, outcome: InvoiceOutcome) -> Result<StripeEvent, Reject> {
    let customer = webhook.required_customer()?;
    let invoice: Invoice = webhook.object()?;
    let links: Links = webhook.object()?;
    // A free trial's invoice is "paid" at once. Nobody has paid, so it must not look like a payment that went through.
    let nothing_due = invoice.amount_due == Some(0) && invoice.amount_paid.unwrap_or(0) == 0;
    let id = invoice.id.ok_or_else(|| missing("data.object.id"))?.0;
    let fact = StripeFact::Invoice(InvoiceFact { id, created: webhook.created, outcome });
    let mut event = webhook.event(CustomerRef::Customer(customer));
    if outcome == InvoiceOutcome::Paid && nothing_due {
        event.name = "payment_not_due";
    }
    event.facts.push(fact);
    let payments = invoice.payments.into_iter().flat_map(|payments| payments.data);
    let of_payments = payments.filter_map(|payment| payment.payment).flat_map(Links::ids);
    event.charges = distinct(links.ids().chain(of_payments));
    Ok(event)
}

/// Reads a charge's or payment intent's webhook; `None` for a guest's.
pub(super) fn read_payment(webhook: Webhook<'_>) -> Result<Option<StripeEvent>, Reject> {
    let Some(customer) = webhook.object::<Owned>()?.customer() else { return Ok(None) };
    let itself = webhook.object::<Itself>()?.id.map(|id| id.0);
    let links: Links = webhook.object()?;
    let mut event = webhook.event(CustomerRef::Customer(customer));
    event.charges = distinct(itself.into_iter().chain(links.ids()));
    Ok(Some(event))
}

#[derive(Deserialize)]
struct Checkout {
    #[serde(default, deserialize_with = "lax")]
    mode: Option<String>,
    #[serde(default, deserialize_with = "lax")]
    client_reference_id: Option<Id>,
}

/// Reads a checkout's webhook; `None` for a guest's.
pub(super) fn read_checkout(webhook: Webhook<'_>) -> Result<Option<StripeEvent>, Reject> {
    let Some(customer) = webhook.object::<Owned>()?.customer() else { return Ok(None) };
    let checkout: Checkout = webhook.object()?;
    let links: Links = webhook.object()?;
    let mut event = webhook.event(CustomerRef::Customer(customer));
    if event.name == "payment_checkout_completed" && checkout.mode.as_deref() == Some("subscription") {
        event.name = "subscription_checkout_completed";
    }
    event.reference = checkout.client_reference_id.map(|id| id.0);
    event.charges = distinct(links.ids());
    Ok(Some(event))
}

#[derive(Deserialize)]
struct Dispute {
    #[serde(default, deserialize_with = "lax")]
    id: Option<Id>,
    #[serde(default, deserialize_with = "lax")]
    status: Option<String>,
}

/// Reads a dispute's webhook.
pub(super) fn read_dispute(webhook: Webhook<'_>, closed: bool) -> Result<StripeEvent, Reject> {
    let dispute: Dispute = webhook.object()?;
    let decided = matches!(dispute.status.as_deref(), Some("won" | "lost" | "warning_closed" | "prevented"));
    let id = dispute.id.ok_or_else(|| missing("data.object.id"))?.0;
    let fact = DisputeFact { id, created: webhook.created, open: !closed && !decided };
    let mut event = read_charged(webhook)?.ok_or_else(|| missing("data.object.charge"))?;
    event.facts.push(StripeFact::Dispute(fact));
    Ok(event)
}

/// The customers of a dispute's charge or payment intent, where those are expanded.
#[derive(Deserialize)]
struct ExpandedLinks {
    #[serde(default, deserialize_with = "lax")]
    charge: Option<Owned>,
    #[serde(default, deserialize_with = "lax")]
    payment_intent: Option<Owned>,
}

/// Reads the webhook of what belongs to a charge; `None` if it names neither charge nor payment intent.
pub(super) fn read_charged(webhook: Webhook<'_>) -> Result<Option<StripeEvent>, Reject> {
    let charges = distinct(webhook.object::<Links>()?.ids());
    if charges.is_empty() {
        return Ok(None);
    }
    let links: ExpandedLinks = webhook.object()?;
    let customer = links.charge.and_then(Owned::customer).or_else(|| links.payment_intent?.customer());
    Ok(Some(match customer {
        Some(customer) => StripeEvent { charges, ..webhook.event(CustomerRef::Customer(customer)) },
        None => webhook.event(CustomerRef::Charge(charges)),
    }))
}

/// Each id once, and no more than any honest webhook names.
fn distinct(ids: impl Iterator<Item = String>) -> Vec<String> {
    let mut distinct = Vec::new();
    for id in ids.take(MAX_CHARGES) {
        if !distinct.contains(&id) {
            distinct.push(id);
        }
    }
    distinct
}
