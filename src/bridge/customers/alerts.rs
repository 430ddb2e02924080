//! `GET /api/alerts`: what was announced about customers, and what was kept back because it had been announced lately.

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::{IntoParams, ToSchema};

use super::super::{
    access::Reader,
    cursor::List,
    error::{ApiError, RefusedList},
    query::{Checked, Limit, ShortText},
    state::Bridge,
};
use crate::{
    engine::{
        alert::AlertKind,
        checkpoint::{Factor, Level, OutboxKind},
        score::ForecastStep,
    },
    event::{ids::CustomerId, money::Money, subject, time::Timestamp},
    store::{outbox::StoredOutboxRow, queries::AlertQuery},
};

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct AlertsQuery {
    /// Only alerts about this customer.
    #[param(value_type = String, min_length = 1, max_length = 255, required = false)]
    customer: Option<ShortText>,
    /// Only alerts that told of this level.
    #[param(inline, value_type = Level, required = false)]
    level: Option<Level>,
    /// Only alerts of this kind.
    #[param(inline, value_type = AlertKind, required = false)]
    kind: Option<AlertKind>,
    /// Only those kept back, or only those published.
    #[param(value_type = bool, required = false)]
    held: Option<bool>,
    /// The most alerts of a page.
    #[serde(default)]
    #[param(value_type = u16, minimum = 1, maximum = 200, default = 50, required = false)]
    limit: Limit,
    /// `nextCursor` of the page before, with the same other parameters.
    #[param(value_type = String, required = false)]
    cursor: Option<String>,
}

/// A page of alerts, the newest first.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct AlertPage {
    /// The alerts.
    #[schema(value_type = Vec<Alert>)]
    alerts: Vec<Value>,
    /// Where the next page begins; null on the last.
    next_cursor: Option<String>,
}

/// An alert as it was published, and whether it was.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "it describes the body, which is answered as it was published")]
struct Alert {
    /// `io.churnd.alert.v1`.
    r#type: String,
    /// The alert's id.
    id: String,
    /// The account.
    account: String,
    /// The customer's id; null where the alert concerns the whole account, as `ingest.anomaly` does.
    customer_id: Option<CustomerId>,
    /// What happened.
    kind: AlertKind,
    /// The level from then on.
    level: Level,
    /// The level that was told before.
    previous_level: Level,
    /// 0 safe, 100 at risk.
    #[schema(maximum = 100)]
    score: u8,
    /// The score that was told before.
    #[schema(maximum = 100)]
    previous_score: u8,
    /// The reasons in plain words.
    factors: Vec<String>,
    /// The reasons with their points.
    details: Vec<Factor>,
    /// What to do first.
    suggested_action: Option<String>,
    /// What the customer brings a month.
    mrr: Option<Money>,
    /// What silence would do next.
    forecast: Vec<ForecastStep>,
    /// When it came up.
    at: Timestamp,
    /// What scores mean.
    scale: String,
    /// It was kept back, because the same level had been announced lately.
    held: bool,
    /// When it was published; null if it was kept back or waits.
    published_at: Option<Timestamp>,
}

/// Alerts
///
/// What was announced about the account's customers, the newest first, for as long as it is kept.
#[utoipa::path(
    get, path = "/api/alerts", tag = "Customers",
    params(AlertsQuery),
    responses((status = OK, description = "A page of alerts", body = AlertPage), RefusedList),
    security(("secretKey" = [])),
)]
pub(super) async fn alerts(
    State(bridge): State<Bridge>,
    Reader(grant): Reader,
    Checked(query): Checked<AlertsQuery>,
) -> Result<Json<AlertPage>, ApiError> {
    let account = grant.account();
    let list = List::new(account, "alerts", &(&query.customer, query.level, query.kind, query.held));
    let before = query.cursor.as_deref().map(|text| list.read(text)).transpose()?;
    let customer = query.customer.as_ref().map(|ShortText(id)| CustomerId::parse(id)).transpose();
    // No customer has an id that is too long.
    let Ok(customer) = customer else { return Ok(Json(AlertPage { alerts: Vec::new(), next_cursor: None })) };
    let token = customer.as_ref().map(subject::encode);
    let asked = AlertQuery {
        token: token.as_ref().map(subject::Token::as_str),
        level: query.level,
        kind: query.kind,
        held: query.held,
        before,
        limit: query.limit.0 + 1,
    };
    let rows = bridge.store.list_alerts(account, &asked).await?;
    let (rows, next_cursor) = list.page(rows, query.limit, |row| row.id);
    Ok(Json(AlertPage { alerts: rows.into_iter().map(entry_of).collect(), next_cursor }))
}

/// An alert's body with what became of it.
pub(super) fn entry_of(stored: StoredOutboxRow) -> Value {
    // It was written by the engine as an object.
    let mut body: Map<String, Value> = serde_json::from_slice(&stored.row.body).unwrap_or_default();
    body.insert("held".to_owned(), json!(stored.row.kind == OutboxKind::HeldAlert));
    body.insert("publishedAt".to_owned(), json!(stored.published_at));
    body.into()
}
