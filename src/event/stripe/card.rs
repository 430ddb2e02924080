//! Cards: until when they are valid, and whether they still belong to the customer.
//!
//! A card is valid to the end of its last month, in UTC. Payment methods without a card (bank debits, say) never expire
//! and give no fact. A detached payment method names its customer only among what changed.

use serde::Deserialize;

use super::{
    CustomerRef, StripeEvent,
    view::{Id, Owned, Webhook, lax, missing},
};
use crate::event::{
    decode::Reject,
    fact::{CardFact, StripeFact},
    time::Timestamp,
};

/// A payment method or source with its card, or an old card by itself.
#[derive(Deserialize)]
struct PaymentMethod {
    #[serde(default, deserialize_with = "lax")]
    id: Option<Id>,
    #[serde(default, deserialize_with = "lax")]
    object: Option<String>,
    #[serde(default, deserialize_with = "lax")]
    card: Option<Expiry>,
}

#[derive(Clone, Copy, Deserialize)]
struct Expiry {
    #[serde(default, deserialize_with = "lax")]
    exp_month: Option<u8>,
    #[serde(default, deserialize_with = "lax")]
    exp_year: Option<u16>,
}

impl Expiry {
    /// The first instant of the month after the last.
    fn instant(self) -> Option<Timestamp> {
        let year = self.exp_year.filter(|year| (1970..=9_000).contains(year))?;
        let (year, month) = match self.exp_month? {
            month @ 1..=11 => (year, month + 1),
            12 => (year + 1, 1),
            _ => return None,
        };
        format!("{year:04}-{month:02}-01T00:00:00Z").parse().ok()
    }
}

/// Reads a payment method's, source's or card's webhook.
pub(super) fn read(webhook: Webhook<'_>, attached: bool) -> Result<Option<StripeEvent>, Reject> {
    let owner = webhook.object::<Owned>()?.customer();
    let before = || webhook.previous::<Owned>().and_then(Owned::customer);
    let Some(customer) = owner.or_else(before) else { return Ok(None) };
    let method: PaymentMethod = webhook.object()?;
    let expiry = match (method.card, method.object.as_deref()) {
        (Some(card), _) => Some(card),
        (None, Some("card")) => Some(webhook.object()?),
        (None, _) => None,
    };
    let created = webhook.created;
    let mut event = webhook.event(CustomerRef::Customer(customer));
    if let Some(expiry) = expiry {
        let id = method.id.ok_or_else(|| missing("data.object.id"))?.0;
        event.facts.push(StripeFact::Card(CardFact { id, created, attached, expires: expiry.instant() }));
    }
    Ok(Some(event))
}
