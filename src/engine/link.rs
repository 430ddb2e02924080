//! Linking: a Stripe customer's events are moved to the customer they belong to.
//!
//! `identify` with a Stripe id makes a link. The Stripe id's own customer gets a `subscription_linked` event, hands over
//! what it has in one `subscription_transferred` event, and from then on is a signpost that forwards late comers. Each of
//! these is an event like any other and may be repeated: a state is joined in once, facts are idempotent.

use data_encoding::BASE64;
use serde_json::{Map, Value, json};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::{
    checkpoint::{LinkRow, OutboxKind, OutboxRow},
    rules::Rules,
    snapshot,
    state::{Applied, CustomerState},
};
use crate::event::{
    decode::Event,
    ids::{AccountId, CustomerId},
    subject,
    time::Timestamp,
};

/// The names of the events that the daemon sends itself.
pub(crate) const RESERVED_NAMES: [&str; 2] = [LINKED, TRANSFERRED];
/// Tells a Stripe customer that it belongs to another one; `properties.customerId` says to which.
pub(crate) const LINKED: &str = "subscription_linked";
/// Brings a Stripe customer's state to the customer it was linked to.
pub(crate) const TRANSFERRED: &str = "subscription_transferred";
/// What Stripe's customer ids begin with.
const STRIPE_CUSTOMER: &str = "cus_";

/// Who an event is about.
#[derive(Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) account: &'a AccountId,
    pub(crate) customer: &'a CustomerId,
    pub(crate) at: Timestamp,
}

/// The link that an `identify` event asks for. A Stripe customer that goes by its own id cannot take others in.
pub(crate) fn requested(event: &Event<'_>, of: Subject<'_>) -> Option<LinkRow> {
    if event.name != "identify" || is_stripe_customer(of.customer) {
        return None;
    }
    Some(LinkRow {
        account: of.account.clone(),
        stripe_customer: event.stripe_customer()?,
        customer: of.customer.clone(),
        at: of.at,
    })
}

/// The event that tells a Stripe customer where it belongs.
pub(crate) fn linked_event(link: &LinkRow) -> Option<OutboxRow> {
    let stripe_customer = CustomerId::parse(&link.stripe_customer).ok()?;
    let id = format!("link-{:016x}", xxh3_64(format!("{}\0{}", link.stripe_customer, link.customer).as_bytes()));
    let body = json!({
        "event": LINKED,
        "id": id,
        "customerId": stripe_customer,
        "timestamp": link.at,
        "properties": { "customerId": link.customer },
    });
    Some(outgoing(&link.account, stripe_customer, &id, &body, link.at))
}

/// The customer that a `subscription_linked` event names.
pub(crate) fn target(event: &Event<'_>) -> Option<CustomerId> {
    let target = event.property_str("customerId")?;
    CustomerId::parse(&target).ok().filter(|target| !is_stripe_customer(target))
}

/// Whether it goes by Stripe's own id: only such a customer can be linked to another, and only to one that does not.
pub(crate) fn is_stripe_customer(id: &CustomerId) -> bool {
    id.as_str().starts_with(STRIPE_CUSTOMER)
}

/// The event that brings what was kept of a Stripe customer to `to`.
pub(crate) fn transfer_event(of: Subject<'_>, to: &CustomerId, left: &CustomerState) -> OutboxRow {
    let id = format!("transfer-{:016x}", xxh3_64(format!("{}\0{to}", of.customer).as_bytes()));
    let body = json!({
        "event": TRANSFERRED,
        "id": id,
        "customerId": to,
        "timestamp": left.newest,
        "properties": { "from": of.customer, "state": BASE64.encode(&snapshot::encode(left)) },
    });
    outgoing(of.account, to.clone(), &id, &body, of.at)
}

/// Joins what a `subscription_transferred` event brings in.
pub(crate) fn join_transfer(state: &mut CustomerState, event: &Event<'_>, at: Timestamp, rules: &Rules) -> Applied {
    let (Some(from), Some(encoded)) = (event.property_str("from"), event.property_str("state")) else {
        return Applied::Late;
    };
    let joined = BASE64.decode(encoded.as_bytes()).ok().and_then(|bytes| snapshot::decode(&bytes).ok());
    match joined.filter(|joined| joined.newest <= at) {
        Some(joined) => state.join(&joined, xxh3_64(from.as_bytes()), rules),
        None => Applied::Late,
    }
}

/// An event that came to a signpost, on its way to where it belongs. `fallback_id` stands for an id it does not have.
pub(crate) fn forwarded_event(event: &Event<'_>, of: Subject<'_>, to: &CustomerId, fallback_id: &str) -> OutboxRow {
    let id = event.id.as_deref().unwrap_or(fallback_id);
    let mut body = Map::new();
    body.insert("event".into(), json!(event.name));
    body.insert("id".into(), json!(id));
    body.insert("customerId".into(), json!(to));
    body.insert("timestamp".into(), json!(of.at));
    let raw = |json: Option<&str>| json.and_then(|json| serde_json::from_str::<Value>(json).ok());
    body.extend(raw(event.properties_json()).map(|properties| ("properties".to_owned(), properties)));
    body.extend(raw(event.facts_json()).map(|facts| ("facts".to_owned(), facts)));
    body.extend(event.user_id.as_ref().map(|user| ("userId".to_owned(), json!(user))));
    // An id may hold anything, also what a header must not.
    let message_id = format!("forward-{:032x}", xxh3_128(format!("{}\0{id}", of.customer).as_bytes()));
    outgoing(of.account, to.clone(), &message_id, &Value::Object(body), of.at)
}

fn outgoing(account: &AccountId, customer: CustomerId, id: &str, body: &Value, at: Timestamp) -> OutboxRow {
    let token = subject::encode(&customer);
    OutboxRow {
        account: account.clone(),
        subject: subject::event_subject(account, &token),
        token: token.as_str().into(),
        customer,
        message_id: format!("{account}:{id}"),
        body: body.to_string().into_bytes(),
        kind: OutboxKind::Event,
        at,
    }
}
