//! One message and the event that it becomes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Call, CustomerOf, Mapping, Request, Unmapped, clock};
use crate::event::{
    decode::{MAX_EVENT_BYTES, Reject, is_stripe_customer},
    ids::CustomerId,
    time::Timestamp,
};

const STRIPE_CUSTOMER: &str = "stripeCustomerId";
/// How the trait is spelled.
const STRIPE_TRAITS: [&str; 2] = [STRIPE_CUSTOMER, "stripe_customer_id"];
/// Properties of a page that are addresses; their queries are cut off, which may hold anything.
const ADDRESSES: [&str; 3] = ["url", "referrer", "path"];
/// The query by itself.
const QUERY: &str = "search";
/// Events that are never activity, so that `context.active` says nothing about them.
const NOT_ACTIVITY: [&str; 2] = ["support_ticket", "identify"];
const NOT_ACTIVITY_PREFIXES: [&str; 2] = ["payment_", "subscription_"];

/// A message as it is sent; all that is not named here has no effect.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Message<'a> {
    #[serde(borrow)]
    r#type: Option<&'a RawValue>,
    #[serde(borrow)]
    message_id: Option<&'a RawValue>,
    #[serde(borrow)]
    user_id: Option<&'a RawValue>,
    #[serde(borrow)]
    group_id: Option<&'a RawValue>,
    #[serde(borrow)]
    event: Option<&'a RawValue>,
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    #[serde(borrow)]
    category: Option<&'a RawValue>,
    #[serde(borrow)]
    properties: Option<&'a RawValue>,
    #[serde(borrow)]
    traits: Option<&'a RawValue>,
    #[serde(borrow)]
    context: Option<&'a RawValue>,
    #[serde(borrow)]
    timestamp: Option<&'a RawValue>,
    #[serde(borrow)]
    original_timestamp: Option<&'a RawValue>,
    #[serde(borrow)]
    sent_at: Option<&'a RawValue>,
}

/// The circumstances of a message, as far as they matter here. What cannot be read is taken as absent.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Context<'a> {
    #[serde(borrow)]
    group_id: Option<&'a RawValue>,
    #[serde(borrow)]
    active: Option<&'a RawValue>,
    #[serde(borrow)]
    page: Option<&'a RawValue>,
}

impl<'a> Context<'a> {
    pub(super) fn read(raw: Option<&'a RawValue>) -> Self {
        raw.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default()
    }

    /// A message's own context goes before what is said for all.
    fn over(self, all: Self) -> Self {
        Self {
            group_id: self.group_id.or(all.group_id),
            active: self.active.or(all.active),
            page: self.page.or(all.page),
        }
    }

    fn is_inactive(&self) -> bool {
        self.active.is_some_and(|active| active.get() == "false")
    }
}

/// The event's body as it is published.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    event: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    customer_id: &'a CustomerId,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    properties: Option<Properties<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Properties<'a> {
    /// As they came.
    Raw(&'a RawValue),
    Made(BTreeMap<String, Property<'a>>),
}

#[derive(Serialize)]
#[serde(untagged)]
enum Property<'a> {
    Raw(&'a RawValue),
    Text(String),
    Object(BTreeMap<String, &'a RawValue>),
}

/// Maps one message of a request. `call` is what the request's path says; without it the message's `type` does.
pub fn map(
    raw: &RawValue,
    call: Option<Call>,
    request: &Request<'_>,
    mapping: &Mapping<'_>,
) -> Result<Vec<u8>, Unmapped> {
    let bytes = raw.get().len();
    if bytes > MAX_EVENT_BYTES {
        return Err(Reject::Oversize { bytes, limit: MAX_EVENT_BYTES }.into());
    }
    let message: Message<'_> = fields(raw)?;
    let call = match call {
        Some(call) => call,
        None => text(message.r#type, "type")?.as_deref().and_then(Call::parse).ok_or(Unmapped::UnknownCall)?,
    };
    if call == Call::Alias {
        return Err(Unmapped::Alias);
    }
    let context = Context::read(message.context).over(request.context);
    let (customer, user_id) = message.customer(call, &context, mapping.customer)?;
    let (event, properties) = message.content(call, &context, mapping)?;
    let body = Body {
        id: text(message.message_id, "messageId")?,
        timestamp: message.happened_at(request, mapping.received_at)?,
        customer_id: &customer,
        event,
        user_id,
        properties,
    };
    Ok(serde_json::to_vec(&body).expect("a body has text keys and plain values"))
}

impl<'a> Message<'a> {
    /// The customer, and the user who acts for it where that is somebody else.
    fn customer(
        &self,
        call: Call,
        context: &Context<'_>,
        of: CustomerOf,
    ) -> Result<(CustomerId, Option<String>), Unmapped> {
        let user = filled(self.user_id, "userId")?;
        let (id, user) = match of {
            CustomerOf::User => (user.ok_or(Unmapped::NoUser)?, None),
            CustomerOf::Group => {
                let (own, of_context) = (filled(self.group_id, "groupId")?, filled(context.group_id, "groupId")?);
                let group = if call == Call::Group { own.or(of_context) } else { of_context.or(own) };
                (group.ok_or(Unmapped::NoGroup)?, user)
            }
        };
        Ok((CustomerId::parse(&id).map_err(|_| Reject::InvalidCustomerId)?, user))
    }

    /// The event's name and properties.
    fn content(
        &self,
        call: Call,
        context: &Context<'_>,
        mapping: &Mapping<'_>,
    ) -> Result<(String, Option<Properties<'a>>), Unmapped> {
        match call {
            Call::Track => self.tracked(context),
            Call::Page | Call::Screen if context.is_inactive() => Err(Unmapped::Inactive),
            Call::Page | Call::Screen => self.view(context, mapping.billing_pages),
            Call::Identify | Call::Group | Call::Alias => {
                let properties = self.identity(call, mapping)?;
                Ok(("identify".to_owned(), Some(Properties::Made(properties))))
            }
        }
    }

    fn tracked(&self, context: &Context<'_>) -> Result<(String, Option<Properties<'a>>), Unmapped> {
        let name = text(self.event, "event")?.ok_or(Reject::MissingEvent)?;
        let is_activity = !NOT_ACTIVITY.contains(&name.as_str())
            && !NOT_ACTIVITY_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
        if is_activity && context.is_inactive() {
            return Err(Unmapped::Inactive);
        }
        match self.properties {
            None => Ok((name, None)),
            Some(raw) if raw.get().starts_with('{') => Ok((name, Some(Properties::Raw(raw)))),
            Some(_) => Err(Reject::PropertiesNotAnObject.into()),
        }
    }

    /// A page or a screen that was seen.
    fn view(
        &self,
        context: &Context<'_>,
        billing_pages: &[String],
    ) -> Result<(String, Option<Properties<'a>>), Unmapped> {
        let given = object(self.properties).map_err(|()| Reject::PropertiesNotAnObject)?;
        let (name, category) = (text(self.name, "name")?, text(self.category, "category")?);
        let path = path_of(&given).or_else(|| path_of(&object(context.page).unwrap_or_default()));
        let is_billing = billing_pages.iter().any(|page| names_page(page, path.as_deref(), name.as_deref()));
        let mut properties: BTreeMap<String, Property<'a>> =
            given.into_iter().filter(|(name, _)| name != QUERY).map(without_query).collect();
        for (field, value) in [("name", name), ("category", category)] {
            if let Some(value) = value {
                properties.insert(field.to_owned(), Property::Text(value));
            }
        }
        let event = if is_billing { "billing_page_view" } else { "page_view" };
        Ok((event.to_owned(), Some(Properties::Made(properties))))
    }

    /// Traits, the Stripe id among them, and the group that a user joins.
    fn identity(&self, call: Call, mapping: &Mapping<'_>) -> Result<BTreeMap<String, Property<'a>>, Unmapped> {
        let mut traits = object(self.traits).map_err(|()| Reject::TraitsNotAnObject)?;
        let mut properties = BTreeMap::new();
        // A group's Stripe id is not its users': each of them would take it from the one before.
        let of_customer = call != Call::Group || mapping.customer == CustomerOf::Group;
        for name in STRIPE_TRAITS {
            let Some(id) = filled(traits.remove(name), "traits.stripeCustomerId")?.filter(|_| of_customer) else {
                continue;
            };
            if !is_stripe_customer(&id) {
                return Err(Unmapped::InvalidStripeCustomer);
            }
            properties.entry(STRIPE_CUSTOMER.to_owned()).or_insert(Property::Text(id));
        }
        if call == Call::Group {
            match mapping.customer {
                CustomerOf::User => {
                    let group = filled(self.group_id, "groupId")?.map(Property::Text);
                    properties.extend(group.map(|group| ("groupId".to_owned(), group)));
                }
                // A group's name is its company's, no person's.
                CustomerOf::Group => {
                    let name = traits.remove("name").filter(|_| !traits.contains_key("company"));
                    traits.extend(name.map(|name| ("companyName".to_owned(), name)));
                }
            }
        }
        traits.retain(|name, _| !(mapping.drops_trait)(name));
        properties.insert("traits".to_owned(), Property::Object(traits));
        Ok(properties)
    }

    /// When it happened; nothing is said where the sender says nothing.
    fn happened_at(&self, request: &Request<'_>, received_at: Timestamp) -> Result<Option<Timestamp>, Unmapped> {
        let read =
            |raw: &RawValue| clock::parse(raw).ok_or(Reject::InvalidTimestamp { problem: "is not a time with a date" });
        // Where both are given, somebody has corrected the time already.
        let (told, is_corrected) = match (self.timestamp, self.original_timestamp) {
            (Some(told), original) => (told, original.is_some()),
            (None, Some(original)) => (original, false),
            (None, None) => return Ok(None),
        };
        let told = read(told)?;
        let skew = request.skew(self.sent_at.and_then(clock::parse), received_at);
        let at = if is_corrected { told } else { skew.correct(told) };
        Ok(Some(at.min(received_at)))
    }
}

/// An object's known fields.
pub(super) fn fields<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Result<T, Unmapped> {
    serde_json::from_str(raw.get()).map_err(|error| {
        // Any value fits a field, so an object can only fail by having one twice.
        if raw.get().starts_with('{') { Unmapped::DuplicateField } else { Reject::of_json(&error).into() }
    })
}

/// A field that is a text, or a whole number, which some send as an id; `null` is the same as absent.
pub(super) fn text(raw: Option<&RawValue>, field: &'static str) -> Result<Option<String>, Reject> {
    let Some(json) = raw.map(RawValue::get).filter(|json| *json != "null") else { return Ok(None) };
    if json.parse::<i64>().is_ok() {
        return Ok(Some(json.to_owned()));
    }
    if !json.starts_with('"') {
        return Err(Reject::NotAString { field });
    }
    // Its JSON is whole, so only halves of surrogate pairs are left to fail.
    serde_json::from_str(json).map(Some).map_err(|_| Reject::LoneSurrogate { position: 0 })
}

fn filled(raw: Option<&RawValue>, field: &'static str) -> Result<Option<String>, Reject> {
    Ok(text(raw, field)?.filter(|text| !text.is_empty()))
}

fn object(raw: Option<&RawValue>) -> Result<BTreeMap<String, &RawValue>, ()> {
    match raw.map(RawValue::get) {
        None | Some("null") => Ok(BTreeMap::new()),
        Some(json) => serde_json::from_str(json).map_err(|_| ()),
    }
}

fn path_of(page: &BTreeMap<String, &RawValue>) -> Option<String> {
    let field = |name: &str| text(page.get(name).copied(), "path").ok().flatten();
    let path = field("path").filter(|path| path.starts_with('/'));
    path.or_else(|| {
        let url = field("url")?;
        let (_, rest) = url.split_once("://")?;
        Some(rest[rest.find('/')?..].to_owned())
    })
}

/// An entry that begins with `/` is a path and what lies below it; any other is a page's or screen's name.
fn names_page(page: &str, path: Option<&str>, name: Option<&str>) -> bool {
    if !page.starts_with('/') {
        return name.is_some_and(|name| name.eq_ignore_ascii_case(page));
    }
    let rest = path.and_then(|path| path.strip_prefix(page.trim_end_matches('/')));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?', '#']))
}

fn without_query((name, raw): (String, &RawValue)) -> (String, Property<'_>) {
    if !ADDRESSES.contains(&name.as_str()) {
        return (name, Property::Raw(raw));
    }
    let property = match text(Some(raw), "url") {
        Ok(Some(address)) => Property::Text(address.split(['?', '#']).next().unwrap_or_default().to_owned()),
        _ => Property::Raw(raw),
    };
    (name, property)
}
