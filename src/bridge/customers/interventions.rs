//! Interventions: what people did about a risk, with the customer's score when they began and when they ended.
//!
//! A client may give an intervention's id: sending the same again finds what it made the first time.

use axum::{
    Json,
    body::Body,
    extract::{FromRequestParts, Path, State},
    http::{HeaderMap, StatusCode, request::Parts},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{
    super::{
        access::Reader,
        cursor::List,
        error::{ApiError, Problem, Refused, RefusedList},
        query::{Checked, Limit},
        state::Bridge,
    },
    Asked,
    history::PageQuery,
};
use crate::{
    engine::{alert::RiskReport, checkpoint::Level},
    event::{
        ids::{AccountId, CustomerId},
        money::Money,
        time::Timestamp,
    },
    store::interventions::{Closing, Intervention, InterventionQuery, NewIntervention, Outcome, Standing},
};

/// The most bytes of a body.
const MAX_BODY_BYTES: usize = 32 * 1024;
/// The most characters of an action, and of a name.
const MAX_ACTION_CHARACTERS: usize = 200;
/// The most characters of a note.
const MAX_NOTE_CHARACTERS: usize = 2_000;

/// What is done about a customer's risk.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct InterventionRequest {
    /// Your id of it; one is made if it is absent. The same request with the same id makes no second intervention.
    #[schema(value_type = Option<String>, format = "uuid")]
    id: Option<Uuid>,
    /// What is done.
    #[schema(min_length = 1, max_length = 200, example = "Call about the failed payment")]
    action: String,
    /// Anything else.
    #[schema(max_length = 2_000)]
    note: Option<String>,
    /// Who does it.
    #[schema(max_length = 200)]
    created_by: Option<String>,
}

/// How an intervention ended.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ClosingRequest {
    /// How it ended.
    outcome: Outcome,
    /// A note instead of the one it has.
    #[schema(max_length = 2_000)]
    note: Option<String>,
}

/// An intervention.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct InterventionEntry {
    /// Its id.
    #[schema(value_type = String, format = "uuid")]
    id: Uuid,
    /// The customer's id.
    customer_id: CustomerId,
    /// Whether it goes on.
    status: InterventionStatus,
    /// What is done.
    action: String,
    /// Anything else.
    note: Option<String>,
    /// Who does it.
    created_by: Option<String>,
    /// How it ended.
    outcome: Option<Outcome>,
    /// The customer's score when it began.
    #[schema(maximum = 100)]
    score_at_start: Option<u8>,
    /// The customer's level when it began.
    level_at_start: Option<Level>,
    /// The customer's score when it ended.
    #[schema(maximum = 100)]
    score_at_end: Option<u8>,
    /// The customer's level when it ended.
    level_at_end: Option<Level>,
    /// What the customer brought a month when it began.
    mrr: Option<Money>,
    /// When it began.
    created_at: Timestamp,
    /// When it ended.
    closed_at: Option<Timestamp>,
}

/// Whether an intervention goes on.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum InterventionStatus {
    /// It goes on.
    Open,
    /// It ended.
    Closed,
}

/// A page of interventions, the newest first.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct InterventionPage {
    /// The interventions.
    interventions: Vec<InterventionEntry>,
    /// Where the next page begins; null on the last.
    next_cursor: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct InterventionsQuery {
    /// Which interventions.
    #[serde(default)]
    #[param(inline, required = false)]
    status: StatusFilter,
    /// The most interventions of a page.
    #[serde(default)]
    #[param(value_type = u16, minimum = 1, maximum = 200, default = 50, required = false)]
    limit: Limit,
    /// `nextCursor` of the page before, with the same other parameters.
    #[param(value_type = String, required = false)]
    cursor: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum StatusFilter {
    #[default]
    Open,
    Closed,
    Any,
}

/// Begin an intervention
///
/// Notes what is done about a customer's risk, with its score as it is now.
#[utoipa::path(
    post, path = "/api/customers/{id}/interventions", tag = "Customers",
    params(("id" = String, Path, description = "The customer's id, percent-encoded", min_length = 1)),
    request_body(content = InterventionRequest, description = "JSON"),
    responses(
        (status = CREATED, description = "It is stored", body = InterventionEntry),
        (status = OK, description = "It was stored before, under this id", body = InterventionEntry),
        (status = CONFLICT, description = "The id stands for another intervention", body = inline(Problem<'static>), content_type = "application/problem+json"),
        Refused,
    ),
    security(("secretKey" = [])),
)]
pub(super) async fn open(
    State(bridge): State<Bridge>,
    Asked(grant, named): Asked,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let request: InterventionRequest = bridge.read_intervention(&headers, body).await?;
    request.check()?;
    let account = grant.account();
    let report = bridge.risk_now(account, &named).await?;
    let new = NewIntervention {
        id: request.id.unwrap_or_else(Uuid::now_v7),
        customer: &named.customer,
        token: &named.token,
        action: &request.action,
        note: request.note.as_deref(),
        created_by: request.created_by.as_deref(),
        standing: standing(&report),
        mrr: report.mrr,
        at: bridge.now(),
    };
    let is_new = bridge.store.open_intervention(account, &new).await?;
    let stored = bridge.store.intervention(account, new.id).await?.ok_or_else(unknown_intervention)?;
    if stored.customer != named.customer || stored.action != request.action {
        let detail = "the account has another intervention of this id: use a new id for a new intervention";
        return Err(ApiError::new(StatusCode::CONFLICT, "intervention_exists", detail));
    }
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(InterventionEntry::of(stored))).into_response())
}

/// A customer's interventions
///
/// Open and closed ones, the newest first.
#[utoipa::path(
    get, path = "/api/customers/{id}/interventions", tag = "Customers",
    params(("id" = String, Path, description = "The customer's id, percent-encoded", min_length = 1), PageQuery),
    responses((status = OK, description = "A page of interventions", body = InterventionPage), Refused),
    security(("secretKey" = [])),
)]
pub(super) async fn of_customer(
    State(bridge): State<Bridge>,
    Asked(grant, named): Asked,
    Checked(query): Checked<PageQuery>,
) -> Result<Json<InterventionPage>, ApiError> {
    let (account, token) = (grant.account(), named.token.as_str());
    let list = List::new(account, "interventions of", &token);
    let asked = InterventionQuery { token: Some(token), ..InterventionQuery::default() };
    let rows = bridge.list_interventions(account, list, query.cursor.as_deref(), query.limit, asked).await?;
    let rows = bridge.known(account, &named, rows).await?;
    Ok(Json(InterventionPage::of(list, rows, query.limit)))
}

/// Interventions
///
/// Those of all customers of the account, the newest first; the open ones if nothing else is asked for.
#[utoipa::path(
    get, path = "/api/interventions", tag = "Customers",
    params(InterventionsQuery),
    responses((status = OK, description = "A page of interventions", body = InterventionPage), RefusedList),
    security(("secretKey" = [])),
)]
pub(super) async fn of_account(
    State(bridge): State<Bridge>,
    Reader(grant): Reader,
    Checked(query): Checked<InterventionsQuery>,
) -> Result<Json<InterventionPage>, ApiError> {
    let account = grant.account();
    let list = List::new(account, "interventions", &query.status);
    let open = match query.status {
        StatusFilter::Open => Some(true),
        StatusFilter::Closed => Some(false),
        StatusFilter::Any => None,
    };
    let asked = InterventionQuery { open, ..InterventionQuery::default() };
    let rows = bridge.list_interventions(account, list, query.cursor.as_deref(), query.limit, asked).await?;
    Ok(Json(InterventionPage::of(list, rows, query.limit)))
}

/// End an intervention
///
/// Notes how it ended, with the customer's score as it is now. Ending it again in the same way changes nothing.
#[utoipa::path(
    patch, path = "/api/interventions/{interventionId}", tag = "Customers",
    params(("interventionId" = String, Path, description = "The intervention's id", format = "uuid")),
    request_body(content = ClosingRequest, description = "JSON"),
    responses(
        (status = OK, description = "It has ended", body = InterventionEntry),
        (status = CONFLICT, description = "It had ended with another outcome", body = inline(Problem<'static>), content_type = "application/problem+json"),
        Refused,
    ),
    security(("secretKey" = [])),
)]
pub(super) async fn close(
    State(bridge): State<Bridge>,
    Reader(grant): Reader,
    InterventionPath(id): InterventionPath,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<InterventionEntry>, ApiError> {
    let request: ClosingRequest = bridge.read_intervention(&headers, body).await?;
    check_length("note", request.note.as_deref(), 0, MAX_NOTE_CHARACTERS)?;
    let account = grant.account();
    let before = bridge.store.intervention(account, id).await?.ok_or_else(unknown_intervention)?;
    if before.outcome.is_none() {
        let report = bridge.desk.risk(account, &before.token, None).await?;
        let (note, at) = (request.note.as_deref(), bridge.now());
        let closing = Closing { outcome: request.outcome, note, standing: standing(&report), at };
        bridge.store.close_intervention(account, id, &closing).await?;
    }
    // Whoever closed it first decided how it ended.
    let after = bridge.store.intervention(account, id).await?.ok_or_else(unknown_intervention)?;
    if after.outcome != Some(request.outcome) {
        let detail = "the intervention has ended with another outcome already: begin a new one";
        return Err(ApiError::new(StatusCode::CONFLICT, "intervention_closed", detail));
    }
    Ok(Json(InterventionEntry::of(after)))
}

/// The intervention that a path names.
pub(super) struct InterventionPath(Uuid);

impl FromRequestParts<Bridge> for InterventionPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, bridge: &Bridge) -> Result<Self, ApiError> {
        // What is no id is the id of no intervention.
        let path = Path::<Uuid>::from_request_parts(parts, bridge).await;
        path.map(|Path(id)| Self(id)).map_err(|_| unknown_intervention())
    }
}

fn unknown_intervention() -> ApiError {
    let detail = "there is no intervention of this id in this account";
    ApiError::new(StatusCode::NOT_FOUND, "unknown_intervention", detail)
}

fn standing(report: &RiskReport) -> Standing {
    Standing { score: report.score, level: report.level }
}

fn check_length(field: &str, text: Option<&str>, least: usize, most: usize) -> Result<(), ApiError> {
    match text.map(|text| text.chars().count()) {
        Some(length) if !(least..=most).contains(&length) => {
            let detail = format!("the field `{field}` has {length} characters: send {least} to {most}");
            Err(ApiError::new(StatusCode::BAD_REQUEST, "invalid_body", detail))
        }
        _ => Ok(()),
    }
}

impl InterventionRequest {
    fn check(&self) -> Result<(), ApiError> {
        check_length("action", Some(&self.action), 1, MAX_ACTION_CHARACTERS)?;
        check_length("note", self.note.as_deref(), 0, MAX_NOTE_CHARACTERS)?;
        check_length("createdBy", self.created_by.as_deref(), 0, MAX_ACTION_CHARACTERS)
    }
}

impl Bridge {
    async fn read_intervention<T: DeserializeOwned>(&self, headers: &HeaderMap, body: Body) -> Result<T, ApiError> {
        let body = self.read_json(headers, body, MAX_BODY_BYTES).await?;
        serde_json::from_slice(&body).map_err(|error| {
            let problem: String = error.to_string().chars().take(300).collect();
            ApiError::new(StatusCode::BAD_REQUEST, "invalid_body", format!("the body cannot be read: {problem}"))
        })
    }

    async fn list_interventions(
        &self,
        account: &AccountId,
        list: List,
        cursor: Option<&str>,
        limit: Limit,
        asked: InterventionQuery<'_>,
    ) -> Result<Vec<Intervention>, ApiError> {
        let before = cursor.map(|text| list.read::<(i64, Uuid)>(text)).transpose()?;
        let before = before.map(|(at, id)| (Timestamp::from_millis(at), id));
        let asked = InterventionQuery { before, limit: limit.0 + 1, ..asked };
        Ok(self.store.list_interventions(account, &asked).await?)
    }
}

impl InterventionPage {
    fn of(list: List, rows: Vec<Intervention>, limit: Limit) -> Self {
        let (rows, next_cursor) = list.page(rows, limit, |row| (row.created_at.millis(), row.id));
        Self { interventions: rows.into_iter().map(InterventionEntry::of).collect(), next_cursor }
    }
}

impl InterventionEntry {
    pub(super) fn of(row: Intervention) -> Self {
        Self {
            id: row.id,
            customer_id: row.customer,
            status: if row.outcome.is_some() { InterventionStatus::Closed } else { InterventionStatus::Open },
            action: row.action,
            note: row.note,
            created_by: row.created_by,
            outcome: row.outcome,
            score_at_start: row.score_at_start,
            level_at_start: row.level_at_start,
            score_at_end: row.score_at_end,
            level_at_end: row.level_at_end,
            mrr: row.mrr,
            created_at: row.created_at,
            closed_at: row.closed_at,
        }
    }
}
