//! `GET /api/customers/{id}/events`: what a customer did, from the archive.

use axum::{Json, extract::State};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{
    super::{
        cursor::List,
        error::{ApiError, Refused},
        query::Checked,
        state::Bridge,
    },
    Asked,
    history::PageQuery,
};
use crate::{
    event::{ids::StreamSequence, time::Timestamp},
    store::archive::ArchivedEvent,
};

/// A page of events, the newest first.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct EventPage {
    /// The events by when they came, which may be long after they happened.
    events: Vec<EventEntry>,
    /// Where the next page begins; null on the last.
    next_cursor: Option<String>,
}

/// An event as it came.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct EventEntry {
    /// What happened.
    event: String,
    /// The event's id, if it has one.
    id: Option<String>,
    /// When it happened.
    timestamp: Timestamp,
    /// When it came.
    received_at: Timestamp,
    /// Which of the customer's users did it.
    user_id: Option<String>,
    /// Anything else, as it came.
    #[schema(value_type = Option<serde_json::Map<String, serde_json::Value>>)]
    properties: Option<Box<RawValue>>,
}

/// A customer's events
///
/// From the archive, some seconds after they came, for as long as it keeps them; the newest first.
#[utoipa::path(
    get, path = "/api/customers/{id}/events", tag = "Customers",
    params(("id" = String, Path, description = "The customer's id, percent-encoded", min_length = 1), PageQuery),
    responses((status = OK, description = "A page of events", body = EventPage), Refused),
    security(("secretKey" = [])),
)]
pub(super) async fn events(
    State(bridge): State<Bridge>,
    Asked(grant, named): Asked,
    Checked(query): Checked<PageQuery>,
) -> Result<Json<EventPage>, ApiError> {
    let (account, token) = (grant.account(), named.token.as_str());
    let list = List::new(account, "events", &token);
    let before = query.cursor.as_deref().map(|text| list.read::<(i64, u64)>(text)).transpose()?;
    let before = before.map(|(at, sequence)| (Timestamp::from_millis(at), StreamSequence(sequence)));
    let rows = bridge.store.timeline(account, token, before, query.limit.0 + 1).await?;
    let rows = bridge.known(account, &named, rows).await?;
    let (rows, next_cursor) = list.page(rows, query.limit, |row| (row.stored_at.millis(), row.sequence.0));
    Ok(Json(EventPage { events: rows.into_iter().map(EventEntry::of).collect(), next_cursor }))
}

impl EventEntry {
    pub(super) fn of(row: ArchivedEvent) -> Self {
        Self {
            event: row.name,
            id: row.event_id,
            timestamp: row.occurred_at,
            received_at: row.stored_at,
            user_id: row.user_id,
            // It was checked on its way in.
            properties: row.properties.and_then(|json| RawValue::from_string(json).ok()),
        }
    }
}
