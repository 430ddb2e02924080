//! `GET /api/customers/{id}/history`: how a customer's score came about.

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    super::{
        cursor::List,
        error::{ApiError, Refused},
        query::{Checked, Limit},
        state::Bridge,
    },
    Asked,
};
use crate::{
    engine::checkpoint::{Factor, Level, Status},
    event::time::Timestamp,
    store::queries::StoredScore,
};

/// Which page of a list to answer.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PageQuery {
    /// The most entries of a page.
    #[serde(default)]
    #[param(value_type = u16, minimum = 1, maximum = 200, default = 50, required = false)]
    pub(super) limit: Limit,
    /// `nextCursor` of the page before.
    #[param(value_type = String, required = false)]
    pub(super) cursor: Option<String>,
}

/// A page of scores, the newest first.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ScorePage {
    /// A line for each change.
    scores: Vec<ScoreEntry>,
    /// Where the next page begins; null on the last.
    next_cursor: Option<String>,
}

/// A score as it was from an instant on.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ScoreEntry {
    /// From when on it held.
    at: Timestamp,
    /// 0 safe, 100 at risk.
    #[schema(maximum = 100)]
    score: u8,
    /// The score's level.
    level: Level,
    /// Where the customer stood in its life.
    status: Status,
    /// The reasons in plain words.
    factors: Vec<String>,
    /// The reasons with their points.
    details: Vec<Factor>,
}

/// A customer's scores
///
/// A line for each change, the newest first.
#[utoipa::path(
    get, path = "/api/customers/{id}/history", tag = "Customers",
    params(("id" = String, Path, description = "The customer's id, percent-encoded", min_length = 1), PageQuery),
    responses((status = OK, description = "A page of scores", body = ScorePage), Refused),
    security(("secretKey" = [])),
)]
pub(super) async fn history(
    State(bridge): State<Bridge>,
    Asked(grant, named): Asked,
    Checked(query): Checked<PageQuery>,
) -> Result<Json<ScorePage>, ApiError> {
    let (account, token) = (grant.account(), named.token.as_str());
    let list = List::new(account, "history", &token);
    let before = query.cursor.as_deref().map(|text| list.read(text)).transpose()?;
    let rows = bridge.store.score_history(account, token, before, query.limit.0 + 1).await?;
    let rows = bridge.known(account, &named, rows).await?;
    let (rows, next_cursor) = list.page(rows, query.limit, |row| row.id);
    Ok(Json(ScorePage { scores: rows.into_iter().map(ScoreEntry::of).collect(), next_cursor }))
}

impl ScoreEntry {
    pub(super) fn of(row: StoredScore) -> Self {
        Self {
            at: row.at,
            score: row.score,
            level: row.level,
            status: row.status,
            factors: row.factors.iter().map(|factor| factor.reason.clone()).collect(),
            details: row.factors,
        }
    }
}
