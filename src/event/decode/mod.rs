//! Decoding: any bytes become an [`Event`] or a [`Reject`] with a stable name.
//!
//! Owns the event's wire form, JSON or MessagePack. The event borrows from the payload (or, for MessagePack and escaped
//! texts, from `scratch` and the heap); properties stay raw until somebody asks for one.
//!
//! Decisions: unknown fields are ignored; a known field given twice is refused, since two readers could take different
//! ones; `null` is the same as absent. What Postgres cannot store is refused here, where it has a name: NUL characters,
//! halves of surrogate pairs, bottomless nesting. So nothing accepted can fail later.

use std::{borrow::Cow, fmt, str};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{
    fact::StripeFact,
    ids::CustomerId,
    sentiment::{self, Sentiment},
    subject::{self, DecodedToken},
    time::Timestamp,
};

pub use reject::Reject;

mod messagepack;
mod reject;
mod text;
mod timestamp;

/// The most bytes an event may have, as sent and as JSON.
pub const MAX_EVENT_BYTES: usize = 32 * 1024;
/// The most levels of arrays and objects an event may have.
pub const MAX_DEPTH: usize = 100;
/// The most characters of an event's name and of its id.
pub const MAX_NAME_CHARACTERS: usize = 100;

/// How an event is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// A JSON object.
    Json,
    /// A MessagePack map.
    MessagePack,
}

/// An event as its sender wrote it, checked field by field.
#[derive(Clone, Debug)]
pub struct Event<'a> {
    /// What happened: 1 to 100 characters.
    pub name: Cow<'a, str>,
    /// The sender's id of this event: 1 to 100 characters.
    pub id: Option<Cow<'a, str>>,
    /// The customer, if the body names it too.
    pub customer_id: Option<Cow<'a, str>>,
    /// When it happened, if the sender says.
    pub timestamp: Option<Timestamp>,
    /// Which of the customer's users did it.
    pub user_id: Option<Cow<'a, str>>,
    properties: Option<&'a RawValue>,
    facts: Option<&'a RawValue>,
}

/// Decodes one event; `scratch` holds the JSON of what comes as MessagePack.
pub fn decode<'a>(payload: &'a [u8], encoding: Encoding, scratch: &'a mut Vec<u8>) -> Result<Event<'a>, Reject> {
    if payload.len() > MAX_EVENT_BYTES {
        return Err(Reject::Oversize { bytes: payload.len(), limit: MAX_EVENT_BYTES });
    }
    let json = match encoding {
        Encoding::Json => payload,
        Encoding::MessagePack => {
            messagepack::transcode(payload, scratch)?;
            scratch.as_slice()
        }
    };
    let json = str::from_utf8(json).map_err(|error| Reject::NotUtf8 { position: error.valid_up_to() })?;
    text::check(json, MAX_DEPTH)?;
    let mut duplicate = None;
    let fields = Fields::read(json, &mut duplicate);
    match (duplicate, fields) {
        (Some(field), _) => Err(Reject::DuplicateField { field }),
        (None, Ok(fields)) => fields.check(),
        (None, Err(error)) => Err(Reject::of_json(&error)),
    }
}

/// The customer that subject and body agree on.
pub fn check_customer(event: &Event<'_>, token: &str) -> Result<CustomerId, Reject> {
    match (subject::decode(token)?, event.customer_id.as_deref()) {
        (DecodedToken::Plain(customer), None) => Ok(customer),
        (DecodedToken::Plain(customer), Some(id)) if customer.as_str() == id => Ok(customer),
        (DecodedToken::Hashed, None) => Err(Reject::HashedWithoutId),
        (DecodedToken::Hashed, Some(id)) => {
            let customer = CustomerId::parse(id).map_err(|_| Reject::InvalidCustomerId)?;
            if subject::encode(&customer).as_str() == token { Ok(customer) } else { Err(Reject::CustomerMismatch) }
        }
        (DecodedToken::Plain(_), Some(_)) => Err(Reject::CustomerMismatch),
    }
}

impl Event<'_> {
    /// The id that repeats of this event share: its own, else the message's without the account before it.
    pub fn identity<'s>(&'s self, account: &str, message_id: Option<&'s str>) -> Option<&'s str> {
        let of_message = || message_id?.strip_prefix(account)?.strip_prefix(':').filter(|id| !id.is_empty());
        self.id.as_deref().or_else(of_message)
    }

    /// The mood of a support interaction: as its sender says, else worked out from its message.
    pub fn sentiment(&self) -> Option<Sentiment> {
        let [said, message] = self.texts(["sentiment", "message"]);
        said.and_then(|said| Sentiment::parse(&said)).or_else(|| sentiment::of_text(&message?))
    }

    /// The Stripe customer that an `identify` links, `cus_…`.
    pub fn stripe_customer(&self) -> Option<String> {
        self.property_str("stripeCustomerId").filter(|id| is_stripe_customer(id))
    }

    /// The Stripe facts it carries; those that cannot be read, from a newer version say, are left out.
    pub fn facts(&self) -> Vec<StripeFact> {
        let facts = self.facts.and_then(|facts| serde_json::from_str::<Vec<&RawValue>>(facts.get()).ok());
        facts.into_iter().flatten().filter_map(|fact| serde_json::from_str(fact.get()).ok()).collect()
    }

    /// It carries Stripe facts, readable or not.
    pub fn has_facts(&self) -> bool {
        self.facts.is_some()
    }

    /// One of its properties, if that is a text.
    pub fn property_str(&self, name: &str) -> Option<String> {
        let [value] = self.texts([name]);
        value.map(Cow::into_owned)
    }

    /// Its properties as JSON.
    pub fn properties_json(&self) -> Option<&str> {
        self.properties.map(RawValue::get)
    }

    /// Its Stripe facts as JSON.
    pub fn facts_json(&self) -> Option<&str> {
        self.facts.map(RawValue::get)
    }

    fn texts<const N: usize>(&self, names: [&str; N]) -> [Option<Cow<'_, str>>; N] {
        let Some(properties) = self.properties else { return [const { None }; N] };
        let mut deserializer = serde_json::Deserializer::from_str(properties.get());
        Texts { names }.deserialize(&mut deserializer).unwrap_or([const { None }; N])
    }
}

/// Whether a text is a Stripe customer's id.
pub(in crate::event) fn is_stripe_customer(id: &str) -> bool {
    id.len() <= 255
        && id.strip_prefix("cus_").is_some_and(|rest| {
            !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
        })
}

/// The fields of an event as they come, before any is checked.
#[derive(Default)]
struct Fields<'a> {
    event: Text<'a>,
    id: Text<'a>,
    customer_id: Text<'a>,
    timestamp: Text<'a>,
    user_id: Text<'a>,
    properties: Option<&'a RawValue>,
    facts: Option<&'a RawValue>,
}

impl<'a> Fields<'a> {
    fn read(json: &'a str, duplicate: &mut Option<&'static str>) -> Result<Self, serde_json::Error> {
        let mut deserializer = serde_json::Deserializer::from_str(json);
        let fields = deserializer.deserialize_map(FieldsVisitor { duplicate })?;
        deserializer.end()?;
        Ok(fields)
    }

    fn check(self) -> Result<Event<'a>, Reject> {
        Ok(Event {
            name: checked_name(self.event)?,
            id: checked_id(self.id)?,
            customer_id: checked_customer(self.customer_id)?,
            timestamp: checked_timestamp(self.timestamp)?,
            user_id: self.user_id.optional("userId")?,
            properties: checked_properties(self.properties)?,
            facts: self.facts.filter(|facts| facts.get() != "null"),
        })
    }
}

fn checked_name(event: Text<'_>) -> Result<Cow<'_, str>, Reject> {
    let name = event.optional("event")?.ok_or(Reject::MissingEvent)?;
    match characters(&name) {
        1..=MAX_NAME_CHARACTERS => Ok(name),
        characters => Err(Reject::EventNameLength { characters }),
    }
}

fn checked_id(id: Text<'_>) -> Result<Option<Cow<'_, str>>, Reject> {
    let id = id.optional("id")?.filter(|id| !id.is_empty());
    match id.as_deref().map_or(0, characters) {
        0..=MAX_NAME_CHARACTERS => Ok(id),
        characters => Err(Reject::IdLength { characters }),
    }
}

/// The number of characters, counted only where it can be more than allowed.
fn characters(text: &str) -> usize {
    if text.len() <= MAX_NAME_CHARACTERS { text.len() } else { text.chars().count() }
}

fn checked_customer(customer: Text<'_>) -> Result<Option<Cow<'_, str>>, Reject> {
    match customer {
        Text::Absent => Ok(None),
        Text::Some(id) if (1..=255).contains(&id.len()) => Ok(Some(id)),
        Text::Some(_) | Text::Other => Err(Reject::InvalidCustomerId),
    }
}

fn checked_timestamp(timestamp: Text<'_>) -> Result<Option<Timestamp>, Reject> {
    match timestamp {
        Text::Absent => Ok(None),
        Text::Other => Err(Reject::InvalidTimestamp { problem: "is not a string" }),
        Text::Some(text) => match timestamp::parse(&text) {
            Some(instant) => Ok(Some(instant)),
            None => Err(Reject::InvalidTimestamp { problem: "is not a time with a date and an offset" }),
        },
    }
}

fn checked_properties(properties: Option<&RawValue>) -> Result<Option<&RawValue>, Reject> {
    match properties.map(RawValue::get) {
        None | Some("null") => Ok(None),
        Some(json) if json.starts_with('{') => Ok(properties),
        Some(_) => Err(Reject::PropertiesNotAnObject),
    }
}

/// A field that should be a text.
#[derive(Default)]
enum Text<'a> {
    #[default]
    Absent,
    Some(Cow<'a, str>),
    /// Something else was given.
    Other,
}

impl<'a> Text<'a> {
    fn optional(self, field: &'static str) -> Result<Option<Cow<'a, str>>, Reject> {
        match self {
            Self::Absent => Ok(None),
            Self::Some(text) => Ok(Some(text)),
            Self::Other => Err(Reject::NotAString { field }),
        }
    }
}

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any value")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Text<'de>, E> {
        Ok(Text::Some(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Text<'de>, E> {
        Ok(Text::Some(Cow::Owned(text.to_owned())))
    }

    fn visit_unit<E: Error>(self) -> Result<Text<'de>, E> {
        Ok(Text::Absent)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Text<'de>, E> {
        Ok(Text::Other)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Text<'de>, E> {
        Ok(Text::Other)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Text<'de>, E> {
        Ok(Text::Other)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Text<'de>, E> {
        Ok(Text::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Text<'de>, A::Error> {
        while sequence.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Text::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Text<'de>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Text::Other)
    }
}

#[derive(Clone, Copy)]
enum Field {
    Event,
    Id,
    CustomerId,
    Timestamp,
    UserId,
    Properties,
    Facts,
    Unknown,
}

impl Field {
    const NAMES: [&'static str; 8] = ["event", "id", "customerId", "timestamp", "userId", "properties", "facts", ""];

    fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_identifier(FieldVisitor)
    }
}

struct FieldVisitor;

impl Visitor<'_> for FieldVisitor {
    type Value = Field;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a field's name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Field, E> {
        Ok(match name {
            "event" => Field::Event,
            "id" => Field::Id,
            "customerId" => Field::CustomerId,
            "timestamp" => Field::Timestamp,
            "userId" => Field::UserId,
            "properties" => Field::Properties,
            "facts" => Field::Facts,
            _ => Field::Unknown,
        })
    }
}

/// Reads an object's fields in one pass; a second occurrence of one ends it, and is told through `duplicate`.
struct FieldsVisitor<'d> {
    duplicate: &'d mut Option<&'static str>,
}

impl<'de> Visitor<'de> for FieldsVisitor<'_> {
    type Value = Fields<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
        let mut fields = Fields::default();
        let mut seen = 0_u32;
        while let Some(field) = map.next_key::<Field>()? {
            if seen & 1 << field as u32 != 0 {
                *self.duplicate = Some(field.name());
                return Err(A::Error::custom("a field is given twice"));
            }
            if !matches!(field, Field::Unknown) {
                seen |= 1 << field as u32;
            }
            match field {
                Field::Event => fields.event = map.next_value()?,
                Field::Id => fields.id = map.next_value()?,
                Field::CustomerId => fields.customer_id = map.next_value()?,
                Field::Timestamp => fields.timestamp = map.next_value()?,
                Field::UserId => fields.user_id = map.next_value()?,
                Field::Properties => fields.properties = Some(map.next_value()?),
                Field::Facts => fields.facts = Some(map.next_value()?),
                Field::Unknown => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(fields)
    }
}

/// Picks the properties that have one of `names` and are texts; of two with one name the last.
struct Texts<'n, const N: usize> {
    names: [&'n str; N],
}

impl<'de, const N: usize> DeserializeSeed<'de> for Texts<'_, N> {
    type Value = [Option<Cow<'de, str>>; N];

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, const N: usize> Visitor<'de> for Texts<'_, N> {
    type Value = [Option<Cow<'de, str>>; N];

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut texts = [const { None }; N];
        while let Some(key) = map.next_key::<Text<'de>>()? {
            let Text::Some(key) = key else { return Err(A::Error::custom("a key is no text")) };
            match self.names.iter().position(|name| *name == key) {
                Some(at) => {
                    texts[at] = match map.next_value::<Text<'de>>()? {
                        Text::Some(text) => Some(text),
                        Text::Absent | Text::Other => None,
                    }
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(texts)
    }
}

#[cfg(test)]
mod tests;
