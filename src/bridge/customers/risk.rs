//! `GET /api/customers/{id}/risk`: how likely a customer is to leave, why, and what silence would do next.

use axum::{Json, extract::State};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    super::{
        error::{ApiError, Refused},
        query::Checked,
        state::Bridge,
    },
    Asked,
};
use crate::{engine::alert::RiskReport, event::time::Timestamp};

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct RiskQuery {
    /// As of when, not before the customer's newest event; now if absent. An instant in the future tells what it will be if
    /// nothing happens until then.
    #[param(value_type = String, format = DateTime, required = false)]
    as_of: Option<Timestamp>,
}

/// A customer's risk
///
/// The same that the NATS service `churn.risk.<account>.<customer>` answers.
#[utoipa::path(
    get, path = "/api/customers/{id}/risk", tag = "Customers",
    params(("id" = String, Path, description = "The customer's id, percent-encoded", min_length = 1), RiskQuery),
    responses((status = OK, description = "The customer's risk", body = RiskReport), Refused),
    security(("secretKey" = [])),
)]
pub(super) async fn risk(
    State(bridge): State<Bridge>,
    Asked(grant, named): Asked,
    Checked(query): Checked<RiskQuery>,
) -> Result<Json<RiskReport>, ApiError> {
    Ok(Json(bridge.desk.risk(grant.account(), named.token.as_str(), query.as_of).await?))
}
