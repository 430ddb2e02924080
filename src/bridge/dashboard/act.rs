//! What visitors do about a customer: acknowledge an alert, begin an intervention, end it.

use axum::{
    extract::{Path, State},
    response::Redirect,
};
use uuid::Uuid;

use super::{
    super::{error::ApiError, state::Bridge},
    customer::{Known, known},
    error::PageError,
    form::Posted,
};
use crate::store::interventions::{Change, Closing, InterventionType, NewIntervention, Outcome, Standing};

const MAX_ACTION_CHARACTERS: usize = 200;
const MAX_NOTE_CHARACTERS: usize = 2_000;

/// `POST /dashboard/customers/{token}/alerts/{alert}/acknowledge`
pub(super) async fn acknowledge(
    State(bridge): State<Bridge>,
    Path((token, alert)): Path<(String, String)>,
    Posted { visitor, .. }: Posted,
) -> Result<Redirect, PageError> {
    let Known { token, .. } = known(&bridge, &visitor.account, &token).await?;
    bridge.store.acknowledge(&visitor.account, token.as_str(), &alert, &visitor.name(), bridge.now()).await?;
    Ok(back_to(token.as_str(), "timeline"))
}

/// `POST /dashboard/customers/{token}/interventions`
pub(super) async fn begin(
    State(bridge): State<Bridge>,
    Path(token): Path<String>,
    Posted { visitor, fields }: Posted,
) -> Result<Redirect, PageError> {
    let Known { token, report } = known(&bridge, &visitor.account, &token).await?;
    let action = fields.filled("action").ok_or_else(|| refused("Say what is done."))?;
    check_length("what is done", action, MAX_ACTION_CHARACTERS)?;
    check_length("the note", fields.get("note"), MAX_NOTE_CHARACTERS)?;
    let kind =
        fields.filled("type").map(InterventionType::parse).transpose().map_err(|error| refused(error.to_string()))?;
    // The form brings an id, so that sending it twice begins one intervention.
    let id = fields.filled("id").and_then(|id| Uuid::parse_str(id).ok()).unwrap_or_else(Uuid::now_v7);
    let name = visitor.name();
    let new = NewIntervention {
        id,
        customer: &report.customer_id,
        token: &token,
        kind: kind.as_ref(),
        action,
        note: fields.filled("note"),
        created_by: Some(&name),
        standing: Standing { score: report.score, level: report.level },
        mrr: report.mrr,
        at: bridge.now(),
    };
    bridge.store.open_intervention(&visitor.account, &new).await?;
    Ok(back_to(token.as_str(), "interventions"))
}

/// `POST /dashboard/customers/{token}/interventions/{id}/close`
pub(super) async fn end(
    State(bridge): State<Bridge>,
    Path((token, id)): Path<(String, String)>,
    Posted { visitor, fields }: Posted,
) -> Result<Redirect, PageError> {
    let Known { token, report } = known(&bridge, &visitor.account, &token).await?;
    let id = Uuid::parse_str(&id).map_err(|_| PageError::NotFound)?;
    let stored = bridge.store.intervention(&visitor.account, id).await?.ok_or(PageError::NotFound)?;
    if *stored.token != *token.as_str() {
        return Err(PageError::NotFound);
    }
    let outcome = match fields.get("outcome") {
        "saved" => Outcome::Saved,
        "lost" => Outcome::Lost,
        "no_reply" => Outcome::NoReply,
        "not_needed" => Outcome::NotNeeded,
        _ => return Err(refused("Choose how it ended.")),
    };
    check_length("the note", fields.get("note"), MAX_NOTE_CHARACTERS)?;
    let closing = Closing {
        outcome,
        change: Change { note: fields.filled("note"), ..Change::default() },
        standing: Standing { score: report.score, level: report.level },
        at: bridge.now(),
    };
    // Whoever closed it first decided how it ended; the page shows it.
    bridge.store.close_intervention(&visitor.account, id, &closing).await?;
    Ok(back_to(token.as_str(), "interventions"))
}

fn back_to(token: &str, place: &str) -> Redirect {
    Redirect::to(&format!("/dashboard/customers/{token}#{place}"))
}

fn check_length(field: &str, text: &str, most: usize) -> Result<(), PageError> {
    let length = text.chars().count();
    if length <= most { Ok(()) } else { Err(refused(format!("{field} has {length} characters: at most {most} fit"))) }
}

fn refused(text: impl Into<String>) -> PageError {
    ApiError::new(axum::http::StatusCode::BAD_REQUEST, "invalid_form", text).into()
}
