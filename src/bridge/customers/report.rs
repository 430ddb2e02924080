//! `GET /api/interventions/report`: what worked, by type.

use std::collections::BTreeMap;

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::super::{
    access::Reader,
    error::{ApiError, RefusedList},
    query::Checked,
    state::Bridge,
};
use crate::{
    event::{
        money::{Currency, Money},
        time::Timestamp,
    },
    store::{
        interventions::InterventionType,
        report::{CHANGE_AFTER_DAYS, ENOUGH_CASES, ReportQuery, Spread, Tally},
    },
};

/// Which interventions count.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ReportParameters {
    /// Those that began then or later; all if absent.
    #[param(value_type = String, format = DateTime, required = false)]
    since: Option<Timestamp>,
    /// Those that began before; all if absent.
    #[param(value_type = String, format = DateTime, required = false)]
    until: Option<Timestamp>,
}

/// What worked.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ReportAnswer {
    /// Those that began then or later.
    since: Option<Timestamp>,
    /// Those that began before.
    until: Option<Timestamp>,
    /// As of when.
    as_of: Timestamp,
    /// Fewer cases than these give no share.
    enough_cases: u64,
    /// After how many days scores are looked at again.
    score_change_after_days: i64,
    /// Interventions of all types.
    all: TallyEntry,
    /// By type, the most frequent first.
    types: Vec<TypeEntry>,
}

/// What became of the interventions of a type.
#[derive(Debug, Serialize, ToSchema)]
struct TypeEntry {
    /// The type; null for those of none.
    #[serde(rename = "type")]
    #[schema(value_type = Option<String>)]
    kind: Option<InterventionType>,
    #[serde(flatten)]
    tally: TallyEntry,
}

/// What became of some interventions.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct TallyEntry {
    /// How many began.
    opened: u64,
    /// How many go on.
    open: u64,
    /// How many ended.
    closed: u64,
    /// How many ended in which way.
    outcomes: Outcomes,
    /// The saved among those that were saved, lost or did not reply; null where they are too few.
    share_saved: Option<f64>,
    /// There are too few for a share.
    few_cases: bool,
    /// The customers' scores when the interventions began.
    score_at_start: SpreadEntry,
    /// By how much the scores had changed after some days, for interventions that began long enough ago; less is better.
    score_change: SpreadEntry,
    /// What customers who were saved bring a month, by currency.
    mrr_saved: Vec<Money>,
    /// What customers who were lost brought.
    mrr_lost: Vec<Money>,
}

/// How many interventions ended in which way.
#[derive(Debug, Serialize, ToSchema)]
struct Outcomes {
    saved: u64,
    lost: u64,
    no_reply: u64,
    not_needed: u64,
}

/// Numbers in a few words.
#[derive(Debug, Serialize, ToSchema)]
struct SpreadEntry {
    /// How many there are.
    cases: u64,
    /// Their mean.
    mean: Option<f64>,
    /// Their median.
    median: Option<f64>,
}

/// What worked
///
/// What became of interventions, by type: how they ended, how the customers' scores went on, and what the customers bring.
#[utoipa::path(
    get, path = "/api/interventions/report", tag = "Customers",
    params(ReportParameters),
    responses((status = OK, description = "The report", body = ReportAnswer), RefusedList),
    security(("secretKey" = [])),
)]
pub(super) async fn report(
    State(bridge): State<Bridge>,
    Reader(grant): Reader,
    Checked(asked): Checked<ReportParameters>,
) -> Result<Json<ReportAnswer>, ApiError> {
    let ReportParameters { since, until } = asked;
    let as_of = bridge.now();
    let report = bridge.store.intervention_report(grant.account(), &ReportQuery { since, until, now: as_of }).await?;
    let mut types: Vec<TypeEntry> =
        report.types.iter().map(|(kind, tally)| TypeEntry { kind: kind.clone(), tally: entry_of(tally) }).collect();
    types.sort_by_key(|entry| std::cmp::Reverse(entry.tally.opened));
    let all = entry_of(&report.all);
    let score_change_after_days = CHANGE_AFTER_DAYS;
    Ok(Json(ReportAnswer { since, until, as_of, enough_cases: ENOUGH_CASES, score_change_after_days, all, types }))
}

fn entry_of(tally: &Tally) -> TallyEntry {
    TallyEntry {
        opened: tally.opened,
        open: tally.open,
        closed: tally.closed(),
        outcomes: Outcomes {
            saved: tally.saved,
            lost: tally.lost,
            no_reply: tally.no_reply,
            not_needed: tally.not_needed,
        },
        share_saved: tally.share_saved().map(|share| rounded(share, 10_000.0)),
        few_cases: tally.share_saved().is_none(),
        score_at_start: spread(tally.score_at_start),
        score_change: spread(tally.score_change),
        mrr_saved: moneys(&tally.mrr_saved),
        mrr_lost: moneys(&tally.mrr_lost),
    }
}

fn spread(spread: Spread) -> SpreadEntry {
    let two_digits = |number: f64| rounded(number, 100.0);
    SpreadEntry { cases: spread.cases, mean: spread.mean.map(two_digits), median: spread.median.map(two_digits) }
}

/// To so many parts of one.
fn rounded(number: f64, parts: f64) -> f64 {
    (number * parts).round() / parts
}

fn moneys(by_currency: &BTreeMap<Currency, i64>) -> Vec<Money> {
    by_currency.iter().map(|(currency, minor)| Money { minor: *minor, currency: *currency }).collect()
}
