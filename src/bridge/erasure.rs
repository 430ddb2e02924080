//! Erasing a customer: asking for it, and asking how far it is.
//!
//! A customer that nobody has heard of is erased all the same: its events may be on their way, and whoever erases must not
//! have to find out first. From the answer on nothing new of it is stored.

use axum::{
    Json,
    extract::{Path, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    access::Reader,
    error::{ApiError, Problem},
    state::Bridge,
};
use crate::{
    event::{
        ids::{AccountId, CustomerId},
        time::Timestamp,
    },
    store::{
        StoreError,
        erasure::{Erased, Erasure, ErasureState, Requested},
    },
};

/// The routes that erase.
pub fn routes() -> OpenApiRouter<Bridge> {
    OpenApiRouter::new().routes(routes!(erase_customer)).routes(routes!(show_erasure))
}

/// An erasure, and how far it is.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ErasureReport {
    /// Names the erasure: ask for it at `/api/erasures/{id}`.
    #[schema(value_type = String, format = "uuid")]
    id: Uuid,
    /// How far it is.
    state: Progress,
    /// When it was asked for.
    #[schema(value_type = String, format = DateTime)]
    requested_at: Timestamp,
    /// When nothing was left.
    #[schema(value_type = Option<String>, format = DateTime)]
    completed_at: Option<Timestamp>,
    /// What was erased so far.
    erased: ErasedCounts,
}

/// How far an erasure is.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Progress {
    /// Nothing new of the customer is stored any more; what is in memory is being dropped.
    Pending,
    /// Messages and rows are being erased, and looked for again.
    Running,
    /// Nothing is left.
    Completed,
}

/// What was erased.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ErasedCounts {
    /// Events in the stream.
    events: u64,
    /// Stripe's webhooks.
    webhooks: u64,
    /// Alerts.
    alerts: u64,
    /// Messages that could not be used.
    dead_letters: u64,
    /// Entries of the bucket of current scores.
    scores: u64,
    /// Rows of tables.
    rows: u64,
}

impl From<Erased> for ErasedCounts {
    fn from(erased: Erased) -> Self {
        let Erased { events, webhooks, alerts, dead_letters, scores, rows } = erased;
        Self { events, webhooks, alerts, dead_letters, scores, rows }
    }
}

impl From<Erasure> for ErasureReport {
    fn from(erasure: Erasure) -> Self {
        let state = match erasure.state {
            ErasureState::Waiting => Progress::Pending,
            ErasureState::Erasing | ErasureState::Checking | ErasureState::Sweeping => Progress::Running,
            ErasureState::Done => Progress::Completed,
        };
        Self {
            id: erasure.id,
            state,
            requested_at: erasure.requested_at,
            completed_at: erasure.completed_at,
            erased: erasure.erased.into(),
        }
    }
}

/// Erases a customer: its events, webhooks, alerts, scores and rows, those of the Stripe customers that are linked to it
/// too. What comes of it later is dropped. Asking again is harmless.
#[utoipa::path(
    delete, path = "/api/customers/{id}", tag = "Customers",
    params(("id" = String, Path, description = "The customer, as you name it; known or not")),
    responses(
        (status = ACCEPTED, description = "It is being erased; the header Location says where to ask how far that is", body = ErasureReport),
        (status = CONFLICT, description = "The id is one of Stripe's and linked to a customer: erase that one", body = inline(Problem<'static>), content_type = "application/problem+json"),
        (status = "default", description = "Why not", body = inline(Problem<'static>), content_type = "application/problem+json"),
    ),
    security(("secretKey" = [])),
)]
async fn erase_customer(
    State(bridge): State<Bridge>,
    Reader(grant): Reader,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let customer = CustomerId::parse(&id).ok().filter(|id| !id.as_str().contains('\0')).ok_or_else(invalid_id)?;
    match bridge.store.request_erasure(grant.account(), &customer).await.map_err(away)? {
        Requested::Accepted(id) => {
            let report = find(&bridge, grant.account(), id).await?;
            let place = [(header::LOCATION, format!("/api/erasures/{id}"))];
            Ok((StatusCode::ACCEPTED, place, Json(report)).into_response())
        }
        Requested::BelongsTo(customer) => {
            let detail =
                format!("this Stripe customer is linked to `{customer}`: erase that one, and this goes with it");
            Err(ApiError::new(StatusCode::CONFLICT, "linked_customer", detail))
        }
    }
}

/// Tells how far an erasure is.
#[utoipa::path(
    get, path = "/api/erasures/{id}", tag = "Customers",
    params(("id" = String, Path, format = "uuid", description = "The erasure, as the answer to its request named it")),
    responses(
        (status = OK, description = "How far it is", body = ErasureReport),
        (status = "default", description = "Why not", body = inline(Problem<'static>), content_type = "application/problem+json"),
    ),
    security(("secretKey" = [])),
)]
async fn show_erasure(
    State(bridge): State<Bridge>,
    Reader(grant): Reader,
    Path(id): Path<String>,
) -> Result<Json<ErasureReport>, ApiError> {
    let id = Uuid::parse_str(&id).map_err(|_| unknown())?;
    find(&bridge, grant.account(), id).await.map(Json)
}

async fn find(bridge: &Bridge, account: &AccountId, id: Uuid) -> Result<ErasureReport, ApiError> {
    let found = bridge.store.erasure(account, id).await.map_err(away)?;
    found.map(ErasureReport::from).ok_or_else(unknown)
}

/// One answer for erasures that never were and for those of other accounts.
fn unknown() -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "unknown_erasure", "there is no such erasure")
}

fn invalid_id() -> ApiError {
    let detail = "a customer id is 1 to 255 bytes of UTF-8 without NUL";
    ApiError::new(StatusCode::BAD_REQUEST, "invalid_customer_id", detail)
}

fn away(error: StoreError) -> ApiError {
    ApiError::unavailable("erasures cannot be looked up now: try again", 2).because(error)
}
