//! Segment's messages as events: what its SDKs send, read and mapped one by one.
//!
//! `track` becomes the event of its name, `identify` and `group` become `identify`, `page` and `screen` become `page_view`
//! or, on the pages that are listed, `billing_page_view`. Of the context only the group and `active` are looked at: addresses,
//! devices and user agents are not kept. Customers are identified, so a message without one is not mapped.
//!
//! Pure and total: the time of receipt comes in, and any bytes give an event's body or an [`Unmapped`] with a stable name.

mod clock; // which time counts
mod message; // one message and its event
mod request; // a body and the messages in it
#[cfg(test)]
mod tests;

use super::{decode::Reject, time::Timestamp};

pub use self::{
    message::map,
    request::{Form, Request},
};

/// What a message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    /// Somebody did something.
    Track,
    /// Who somebody is.
    Identify,
    /// A page was seen.
    Page,
    /// An app's screen was seen.
    Screen,
    /// Which company somebody belongs to.
    Group,
    /// Two ids are one.
    Alias,
}

impl Call {
    /// The call of a message's `type`.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Track, Self::Identify, Self::Page, Self::Screen, Self::Group, Self::Alias]
            .into_iter()
            .find(|call| call.as_str() == text)
    }

    /// The call as it stands in a message's `type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Track => "track",
            Self::Identify => "identify",
            Self::Page => "page",
            Self::Screen => "screen",
            Self::Group => "group",
            Self::Alias => "alias",
        }
    }
}

/// Which of Segment's ids is the customer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CustomerOf {
    /// `userId`: each user is a customer.
    User,
    /// The group: a company is a customer, and its users act for it.
    Group,
}

impl CustomerOf {
    /// The choice of that name.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::User, Self::Group].into_iter().find(|choice| choice.as_str() == text)
    }

    /// The choice as it stands in settings and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Group => "group",
        }
    }
}

/// How messages are mapped.
#[derive(Clone, Copy, Debug)]
pub struct Mapping<'m> {
    /// Which id is the customer.
    pub customer: CustomerOf,
    /// Paths, and names of pages, that are about billing.
    pub billing_pages: &'m [String],
    /// Whether a trait says who a person is and is left out.
    pub drops_trait: fn(&str) -> bool,
    /// When the request came.
    pub received_at: Timestamp,
}

/// Why a message does not become an event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unmapped {
    /// It cannot be read.
    #[error(transparent)]
    Reject(#[from] Reject),
    /// A known field twice: two readers could understand it differently.
    #[error("a field is given twice: send each once")]
    DuplicateField,
    /// It is none of Segment's calls.
    #[error("the field `type` is none of track, identify, page, screen, group, alias")]
    UnknownCall,
    /// A Stripe id that is none.
    #[error("the trait `stripeCustomerId` is not a Stripe customer's id: it begins with cus_")]
    InvalidStripeCustomer,
    /// Nobody is identified.
    #[error("no `userId` is given: only customers that are identified are scored")]
    NoUser,
    /// No group is given where groups are the customers.
    #[error("no group is given: send `groupId` in the call to group, and `context.groupId` in all others")]
    NoGroup,
    /// It tells of nothing that the customer did.
    #[error("`context.active` is false: this is no activity of the customer")]
    Inactive,
    /// Two ids are one: there is nothing to join, since what is anonymous is not kept.
    #[error("alias has no effect: events without a user are not kept, so there is nothing to join")]
    Alias,
}

impl Unmapped {
    /// The reason's stable name.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Reject(reject) => reject.code(),
            Self::DuplicateField => "duplicate_field",
            Self::UnknownCall => "unknown_call",
            Self::InvalidStripeCustomer => "invalid_stripe_customer",
            Self::NoUser => "no_user",
            Self::NoGroup => "no_group",
            Self::Inactive => "inactive",
            Self::Alias => "alias",
        }
    }

    /// The sender made no mistake: such messages are meant to have no effect.
    pub fn is_harmless(&self) -> bool {
        matches!(self, Self::Inactive | Self::Alias)
    }
}
