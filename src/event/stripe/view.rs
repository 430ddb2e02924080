//! Views of Stripe's JSON: the few fields that matter, read so that no other can disturb.
//!
//! Invariant: what is skipped is skipped without recursion, however deep it nests.

use std::str;

use serde::{Deserialize, Deserializer, de::Error};
use serde_json::{error::Category, value::RawValue};

use super::{CustomerRef, StripeEvent};
use crate::event::{
    decode::{MAX_NAME_CHARACTERS, Reject},
    time::Timestamp,
};

/// The last second of the year 9999.
const MAX_SECONDS: i64 = 253_402_300_799;
/// The longest id that Stripe gives.
const MAX_ID_BYTES: usize = 255;

/// Reads a field if it has the expected form; it is absent otherwise.
pub(super) fn lax<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    let raw = <&RawValue>::deserialize(deserializer)?;
    Ok(serde_json::from_str(raw.get()).ok())
}

/// A list object's elements, those of the expected form.
#[derive(Deserialize)]
#[serde(bound = "T: Deserialize<'de>")]
pub(super) struct List<T> {
    #[serde(default, deserialize_with = "lax_elements")]
    pub(super) data: Vec<T>,
    #[serde(default, deserialize_with = "lax")]
    pub(super) has_more: Option<bool>,
}

fn lax_elements<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    let elements: Vec<&RawValue> = lax(deserializer)?.unwrap_or_default();
    Ok(elements.into_iter().filter_map(|element| serde_json::from_str(element.get()).ok()).collect())
}

/// An object's id, whether the field holds just the id or the whole object.
pub(super) struct Id(pub(super) String);

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Expanded {
            #[serde(default, deserialize_with = "lax")]
            id: Option<String>,
        }
        let raw = <&RawValue>::deserialize(deserializer)?.get();
        let id = if raw.starts_with('"') {
            serde_json::from_str::<String>(raw).ok()
        } else if raw.starts_with('{') {
            serde_json::from_str::<Expanded>(raw).ok().and_then(|expanded| expanded.id)
        } else {
            None
        };
        let usable =
            |id: &String| (1..=MAX_ID_BYTES).contains(&id.len()) && !id.chars().any(|character| character.is_control());
        id.filter(usable).map(Self).ok_or_else(|| D::Error::custom("no id"))
    }
}

/// A time in whole seconds.
#[derive(Clone, Copy)]
pub(super) struct Seconds(pub(super) Timestamp);

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match i64::deserialize(deserializer)? {
            seconds @ 0..=MAX_SECONDS => Ok(Self(Timestamp::from_seconds(seconds))),
            _ => Err(D::Error::custom("no time")),
        }
    }
}

/// Any object that belongs to a customer.
#[derive(Deserialize)]
pub(super) struct Owned {
    #[serde(default, deserialize_with = "lax")]
    customer: Option<Id>,
    /// Set instead of `customer` where a merchant's customers are accounts.
    #[serde(default, deserialize_with = "lax")]
    customer_account: Option<Id>,
}

impl Owned {
    pub(super) fn customer(self) -> Option<String> {
        self.customer.or(self.customer_account).map(|id| id.0)
    }
}

/// A webhook's outermost object.
#[derive(Deserialize)]
pub(super) struct Envelope<'a> {
    #[serde(default, deserialize_with = "lax")]
    id: Option<Id>,
    #[serde(default, deserialize_with = "lax")]
    object: Option<String>,
    #[serde(default, deserialize_with = "lax")]
    created: Option<Seconds>,
    #[serde(default, deserialize_with = "lax", rename = "type")]
    kind: Option<String>,
    #[serde(default, deserialize_with = "lax", borrow)]
    data: Option<Data<'a>>,
    #[serde(default, deserialize_with = "lax", borrow)]
    related_object: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Data<'a> {
    #[serde(default, deserialize_with = "lax", borrow)]
    object: Option<&'a RawValue>,
    #[serde(default, deserialize_with = "lax", borrow)]
    previous_attributes: Option<&'a RawValue>,
}

impl<'a> Envelope<'a> {
    pub(super) fn read(body: &'a [u8]) -> Result<Self, Reject> {
        let json = str::from_utf8(body).map_err(|error| Reject::NotUtf8 { position: error.valid_up_to() })?;
        let envelope = serde_json::from_str::<Self>(json).map_err(|error| unreadable(json, &error))?;
        if is_object(json) { Ok(envelope) } else { Err(Reject::NotAnObject) }
    }

    /// Stripe's type, of snapshot events only.
    pub(super) fn kind(&self) -> Result<&str, Reject> {
        let object = self.data.as_ref().and_then(|data| data.object);
        let named_thin = self.object.as_deref().is_some_and(|object| object.starts_with("v2.core.event"));
        if named_thin || (object.is_none() && self.related_object.is_some_and(|related| is_object(related.get()))) {
            return Err(Reject::ThinEvent);
        }
        self.kind.as_deref().ok_or_else(|| missing("type"))
    }

    pub(super) fn webhook(self, name: &'static str) -> Result<Webhook<'a>, Reject> {
        let id = self.id.ok_or_else(|| missing("id"))?.0;
        if id.chars().count() > MAX_NAME_CHARACTERS {
            return Err(Reject::MalformedWebhook { field: "id", problem: "has more than 100 characters" });
        }
        let created = self.created.ok_or_else(|| missing("created"))?.0;
        let data = self.data.ok_or_else(|| missing("data.object"))?;
        let object = data.object.map(RawValue::get).filter(|object| is_object(object));
        let object = object.ok_or_else(|| missing("data.object"))?;
        Ok(Webhook { id, created, name, object, previous: data.previous_attributes.map(RawValue::get) })
    }
}

/// A webhook that is going to say something.
pub(super) struct Webhook<'a> {
    pub(super) id: String,
    pub(super) created: Timestamp,
    pub(super) name: &'static str,
    object: &'a str,
    previous: Option<&'a str>,
}

impl<'a> Webhook<'a> {
    /// A view of the object.
    pub(super) fn object<T: Deserialize<'a>>(&self) -> Result<T, Reject> {
        let twice = Reject::MalformedWebhook { field: "data.object", problem: "gives a field twice" };
        serde_json::from_str(self.object).map_err(|_| twice)
    }

    /// A view of what an update changed, as it was before.
    pub(super) fn previous<T: Deserialize<'a>>(&self) -> Option<T> {
        serde_json::from_str(self.previous?).ok()
    }

    /// The object's customer; webhooks that cannot do without are refused.
    pub(super) fn required_customer(&self) -> Result<String, Reject> {
        self.object::<Owned>()?.customer().ok_or_else(|| missing("data.object.customer"))
    }

    /// The event, with nothing yet but its name and whom it concerns.
    pub(super) fn event(self, customer: CustomerRef) -> StripeEvent {
        StripeEvent {
            id: self.id,
            created: self.created,
            name: self.name,
            customer,
            facts: Vec::new(),
            charges: Vec::new(),
            reference: None,
        }
    }
}

/// Refuses a webhook for a field that is not there, or that is not what it should be.
pub(super) fn missing(field: &'static str) -> Reject {
    Reject::MalformedWebhook { field, problem: "is missing or of another kind than expected" }
}

fn unreadable(json: &str, error: &serde_json::Error) -> Reject {
    match error.classify() {
        // Each field takes any value, so nothing is left to dislike in an object but a field given twice.
        Category::Data if is_object(json) => Reject::MalformedWebhook { field: "body", problem: "gives a field twice" },
        _ => Reject::of_json(error),
    }
}

fn is_object(json: &str) -> bool {
    json.trim_start().starts_with('{')
}
