//! `GET /api/customers/{id}/export`: everything that is known of a customer, as one JSON document.
//!
//! It is written while it is read, page by page, so its length does not matter. What came under the ids of Stripe customers
//! that are linked to it belongs to it too. The last member is `complete`: a document without it was cut off.

use std::fmt::Write as _;

use axum::{
    body::Body,
    extract::State,
    http::{HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use serde::Serialize;
use serde_json::{Value, json};
use tracing::error;
use uuid::Uuid;

use super::{
    super::{
        error::{ApiError, Refused},
        state::Bridge,
    },
    Asked, Named, alerts,
    events::EventEntry,
    history::ScoreEntry,
};
use crate::{
    engine::{snapshot, words},
    event::{
        ids::{AccountId, CustomerId, StreamSequence},
        subject,
        time::Timestamp,
    },
    pipeline::interventions::InterventionEntry,
    store::{
        StoreError,
        deliveries::{DeliveryQuery, StoredDelivery},
        interventions::InterventionQuery,
        queries::AlertQuery,
        subject_access::StoredLink,
    },
};

/// Rows that are held in memory at once.
const ROWS_AT_ONCE: usize = 100;
/// A customer has fewer alerts.
const ACKNOWLEDGEMENTS: usize = 10_000;
const DISPOSITION: (HeaderName, HeaderValue) =
    (header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment; filename=\"customer.json\""));

/// Everything that is known of a customer
///
/// For whoever asks what is stored about them: profile, links, state in words, scores, events, alerts, interventions,
/// deliveries. The document ends with `"complete":true`.
#[utoipa::path(
    get, path = "/api/customers/{id}/export", tag = "Customers",
    params(("id" = String, Path, description = "The customer's id, percent-encoded", min_length = 1)),
    responses((status = OK, description = "One JSON document", body = serde_json::Map<String, serde_json::Value>), Refused),
    security(("secretKey" = [])),
)]
pub(super) async fn export(State(bridge): State<Bridge>, Asked(grant, named): Asked) -> Result<Response, ApiError> {
    let account = grant.account().clone();
    let links = bridge.store.links_of(&account, &named.customer).await?;
    let head = head(&bridge, &account, &named, &links).await?;
    let walk = Walk::new(bridge, account, &named, links);
    let rest = stream::try_unfold(walk, async |walk| {
        let step = walk.step().await;
        step.inspect_err(|error| error!("an export was cut off: {error}"))
    });
    let whole = stream::once(std::future::ready(Ok(Bytes::from(head)))).chain(rest);
    let content_type = (header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(([content_type, DISPOSITION], Body::from_stream(whole)).into_response())
}

/// The members that stand in one row each, without the document's end.
async fn head(bridge: &Bridge, account: &AccountId, named: &Named, links: &[StoredLink]) -> Result<String, ApiError> {
    let risk = bridge.risk_now(account, named).await?;
    let profile = bridge.store.profile(account, &named.customer).await?.map(|profile| {
        json!({
            "companyName": profile.contact.company_name,
            "email": profile.contact.email,
            "contactAt": profile.contact_at,
            "mrr": profile.mrr,
            "createdAt": profile.created_at,
            "updatedAt": profile.updated_at,
        })
    });
    let stored = bridge.store.state_of(account, named.token.as_str()).await?;
    let state = stored.and_then(|stored| snapshot::decode(&stored.snapshot).ok());
    let links: Vec<Value> =
        links.iter().map(|link| json!({"stripeCustomerId": link.stripe_customer, "at": link.at})).collect();
    let seen = bridge.store.acknowledgements_of(account, named.token.as_str(), ACKNOWLEDGEMENTS).await?;
    let acknowledgements: Vec<Value> =
        seen.iter().map(|seen| json!({"alertId": seen.alert_id, "by": seen.by, "at": seen.at})).collect();
    let members = json!({
        "account": account,
        "customerId": named.customer,
        "exportedAt": bridge.now(),
        "profile": profile,
        "links": links,
        "acknowledgements": acknowledgements,
        "risk": risk,
        "state": state.as_ref().map(words::in_words),
    });
    let mut text = members.to_string();
    text.truncate(text.len() - 1);
    Ok(text)
}

/// A member that has many rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Section {
    Scores,
    Events,
    Alerts,
    Interventions,
    Charges,
    Deliveries,
}

const SECTIONS: [Section; 6] =
    [Section::Scores, Section::Events, Section::Alerts, Section::Interventions, Section::Charges, Section::Deliveries];

/// Where a section goes on.
#[derive(Clone, Debug)]
enum Place {
    Row(u64),
    Event(Timestamp, StreamSequence),
    Intervention(Timestamp, Uuid),
    Charge(String),
}

/// An id that the customer goes by.
struct Subject {
    id: String,
    token: String,
}

/// The way through all sections, for each through all ids of the customer, page by page.
struct Walk {
    bridge: Bridge,
    account: AccountId,
    subjects: Vec<Subject>,
    section: usize,
    subject: usize,
    place: Option<Place>,
    /// Rows of the section that were written.
    written: usize,
    ended: bool,
}

impl Walk {
    fn new(bridge: Bridge, account: AccountId, named: &Named, links: Vec<StoredLink>) -> Self {
        let linked = links.into_iter().filter_map(|link| CustomerId::parse(&link.stripe_customer).ok());
        let subject_of = |customer: CustomerId| Subject {
            token: subject::encode(&customer).as_str().to_owned(),
            id: customer.as_str().to_owned(),
        };
        let subjects = std::iter::once(named.customer.clone()).chain(linked).map(subject_of).collect();
        Self { bridge, account, subjects, section: 0, subject: 0, place: None, written: 0, ended: false }
    }

    /// Writes the next page; `None` after the document's end.
    async fn step(mut self) -> Result<Option<(Bytes, Self)>, StoreError> {
        if self.ended {
            return Ok(None);
        }
        let Some(section) = SECTIONS.get(self.section).copied() else {
            self.ended = true;
            return Ok(Some((Bytes::from_static(b",\"complete\":true}\n"), self)));
        };
        let begins = self.subject == 0 && self.place.is_none();
        let (rows, place) = self.fetch(section).await?;
        let mut text = if begins { format!(",\"{}\":[", section.name()) } else { String::new() };
        for row in rows {
            let comma = if self.written == 0 { "" } else { "," };
            write!(text, "{comma}{row}").expect("a text takes whatever is written");
            self.written += 1;
        }
        self.go_on(place, &mut text);
        Ok(Some((Bytes::from(text), self)))
    }

    /// Moves to the next page, id or section.
    fn go_on(&mut self, place: Option<Place>, text: &mut String) {
        self.place = place;
        if self.place.is_some() {
            return;
        }
        self.subject += 1;
        if self.subject == self.subjects.len() {
            text.push(']');
            (self.section, self.subject, self.written) = (self.section + 1, 0, 0);
        }
    }

    /// A page of a section, and where the next one begins.
    async fn fetch(&self, section: Section) -> Result<(Vec<Value>, Option<Place>), StoreError> {
        let (store, account, limit) = (&self.bridge.store, &self.account, ROWS_AT_ONCE);
        let Subject { id, token } = &self.subjects[self.subject];
        let row = match self.place {
            Some(Place::Row(id)) => Some(id),
            _ => None,
        };
        match section {
            Section::Scores => {
                let rows = store.score_history(account, token, row, limit).await?;
                let place = rows.last().map(|last| Place::Row(last.id));
                Ok(page(rows.into_iter().map(|row| with_id(id, &ScoreEntry::of(row))), place))
            }
            Section::Events => {
                let before = match self.place {
                    Some(Place::Event(at, sequence)) => Some((at, sequence)),
                    _ => None,
                };
                let rows = store.timeline(account, token, before, limit).await?;
                let place = rows.last().map(|last| Place::Event(last.stored_at, last.sequence));
                Ok(page(rows.into_iter().map(|row| with_id(id, &EventEntry::of(row))), place))
            }
            Section::Alerts => {
                let query = AlertQuery { token: Some(token), before: row, limit, ..AlertQuery::default() };
                let rows = store.list_alerts(account, &query).await?;
                let place = rows.last().map(|last| Place::Row(last.id));
                Ok(page(rows.into_iter().map(alerts::entry_of), place))
            }
            Section::Interventions => {
                let before = match self.place {
                    Some(Place::Intervention(at, id)) => Some((at, id)),
                    _ => None,
                };
                let query = InterventionQuery { token: Some(token), before, limit, ..InterventionQuery::default() };
                let rows = store.list_interventions(account, &query).await?;
                let place = rows.last().map(|last| Place::Intervention(last.created_at, last.id));
                Ok(page(rows.into_iter().map(|row| json!(InterventionEntry::of(row))), place))
            }
            Section::Charges => {
                let after = match &self.place {
                    Some(Place::Charge(charge)) => Some(charge.as_str()),
                    _ => None,
                };
                let rows = store.stripe_charges_of(account, id, after, limit).await?;
                let place = rows.last().map(|last| Place::Charge(last.charge.clone()));
                let entry = |row: &_| {
                    let crate::store::subject_access::StoredCharge { charge, at } = row;
                    json!({"stripeCustomerId": id, "id": charge, "at": at})
                };
                Ok(page(rows.iter().map(entry), place))
            }
            Section::Deliveries => {
                let query = DeliveryQuery { token: Some(token), before: row, limit, ..DeliveryQuery::default() };
                let rows = store.list_deliveries(account, &query).await?;
                let place = rows.last().map(|last| Place::Row(last.id));
                let entry = |row: &StoredDelivery| {
                    json!({
                        "alertId": row.alert_id, "kind": row.kind, "channel": row.channel, "state": row.state,
                        "attempts": row.attempts, "createdAt": row.created_at, "deliveredAt": row.delivered_at,
                    })
                };
                Ok(page(rows.iter().map(entry), place))
            }
        }
    }
}

impl Section {
    fn name(self) -> &'static str {
        match self {
            Self::Scores => "scores",
            Self::Events => "events",
            Self::Alerts => "alerts",
            Self::Interventions => "interventions",
            Self::Charges => "charges",
            Self::Deliveries => "deliveries",
        }
    }
}

/// The rows, and the place after them if there may be more.
fn page(rows: impl Iterator<Item = Value>, place: Option<Place>) -> (Vec<Value>, Option<Place>) {
    let rows: Vec<Value> = rows.collect();
    let is_full = rows.len() == ROWS_AT_ONCE;
    (rows, place.filter(|_| is_full))
}

/// An entry with the id that it came under.
fn with_id(id: &str, entry: &impl Serialize) -> Value {
    let mut value = json!(entry);
    value["customerId"] = id.into();
    value
}
