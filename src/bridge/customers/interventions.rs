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
    event::{ids::AccountId, time::Timestamp},
    pipeline::interventions::{
        InterventionChange, InterventionDesk, InterventionEntry, InterventionError, InterventionRequest, StatusFilter,
        TypeFilter,
    },
    store::interventions::{Intervention, InterventionQuery},
};

/// The most bytes of a body.
const MAX_BODY_BYTES: usize = 32 * 1024;

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
    /// Only those of this type; `unassigned` for those of none.
    #[serde(default, rename = "type")]
    #[param(value_type = String, pattern = "^[a-z0-9_]{1,40}$", required = false)]
    kind: TypeFilter,
    /// The most interventions of a page.
    #[serde(default)]
    #[param(value_type = u16, minimum = 1, maximum = 200, default = 50, required = false)]
    limit: Limit,
    /// `nextCursor` of the page before, with the same other parameters.
    #[param(value_type = String, required = false)]
    cursor: Option<String>,
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
    let (stored, is_new) = bridge.interventions().open(grant.account(), &named.customer, &request).await?;
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
    let list = List::new(account, "interventions", &(query.status, &query.kind));
    let asked =
        InterventionQuery { open: query.status.open(), kind: query.kind.of_type(), ..InterventionQuery::default() };
    let rows = bridge.list_interventions(account, list, query.cursor.as_deref(), query.limit, asked).await?;
    Ok(Json(InterventionPage::of(list, rows, query.limit)))
}

/// Change or end an intervention
///
/// With an outcome it ends, and the customer's score as it is now is noted; ending it again in the same way changes nothing.
/// What type it is of and what is noted about it can be changed at any time.
#[utoipa::path(
    patch, path = "/api/interventions/{interventionId}", tag = "Customers",
    params(("interventionId" = String, Path, description = "The intervention's id", format = "uuid")),
    request_body(content = InterventionChange, description = "JSON"),
    responses(
        (status = OK, description = "As it is now", body = InterventionEntry),
        (status = CONFLICT, description = "It had ended with another outcome", body = inline(Problem<'static>), content_type = "application/problem+json"),
        Refused,
    ),
    security(("secretKey" = [])),
)]
pub(super) async fn change(
    State(bridge): State<Bridge>,
    Reader(grant): Reader,
    InterventionPath(id): InterventionPath,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<InterventionEntry>, ApiError> {
    let request: InterventionChange = bridge.read_intervention(&headers, body).await?;
    Ok(Json(InterventionEntry::of(bridge.interventions().change(grant.account(), id, &request).await?)))
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
    InterventionError::Unknown.into()
}

impl From<InterventionError> for ApiError {
    fn from(error: InterventionError) -> Self {
        let (status, code) = match error {
            InterventionError::Risk(error) => return error.into(),
            InterventionError::Invalid(_) => (StatusCode::BAD_REQUEST, "invalid_body"),
            InterventionError::Unknown => (StatusCode::NOT_FOUND, "unknown_intervention"),
            InterventionError::Exists => (StatusCode::CONFLICT, "intervention_exists"),
            InterventionError::Closed => (StatusCode::CONFLICT, "intervention_closed"),
        };
        Self::new(status, code, error.to_string())
    }
}

impl Bridge {
    /// Where interventions are noted.
    pub(in crate::bridge) fn interventions(&self) -> InterventionDesk {
        InterventionDesk::new(self.desk.clone())
    }

    async fn read_intervention<T: DeserializeOwned>(&self, headers: &HeaderMap, body: Body) -> Result<T, ApiError> {
        let body = self.read_json(headers, body, MAX_BODY_BYTES).await?;
        // Lists of values would be taken for fields in their order.
        if body.trim_ascii_start().first() != Some(&b'{') {
            return Err(ApiError::new(StatusCode::BAD_REQUEST, "invalid_body", "the body must be a JSON object"));
        }
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
