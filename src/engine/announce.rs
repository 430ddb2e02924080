//! Alert messages: a decision put into the body that receivers read.

use data_encoding::BASE32HEX_NOPAD;
use xxhash_rust::xxh3::xxh3_128;

use super::{
    alert::{AlertBody, Decision, SCALE},
    checkpoint::{OutboxKind, OutboxRow},
    link::Subject,
    rules::Rules,
    score::describe,
    silence::forecast,
    state::{CustomerState, Evaluation},
};
use crate::event::subject;

/// The message that a decision asks for.
pub(crate) fn alert(
    decision: Decision,
    of: Subject<'_>,
    state: &CustomerState,
    rules: &Rules,
    evaluation: Evaluation,
) -> Option<OutboxRow> {
    let (outbox_kind, kind, previous_level, previous_score) = match decision {
        Decision::Announce { kind, previous_level, previous_score } => {
            (OutboxKind::Alert, kind, previous_level, previous_score)
        }
        Decision::Hold { kind, previous_level, previous_score } => {
            (OutboxKind::HeldAlert, kind, previous_level, previous_score)
        }
        Decision::Nothing => return None,
    };
    let token = subject::encode(of.customer);
    let told = format!("{}.{token}.{}.{}", of.account, of.at.millis(), state.alerts.told);
    let id = BASE32HEX_NOPAD.encode(&xxh3_128(told.as_bytes()).to_be_bytes()).to_ascii_lowercase();
    let assessment = describe(state, rules, of.at, evaluation);
    let body = AlertBody {
        body_type: "io.churnd.alert.v1",
        id: &id,
        account: of.account,
        customer_id: Some(of.customer),
        kind,
        level: evaluation.level,
        previous_level,
        score: evaluation.score,
        previous_score,
        factors: assessment.factors.iter().map(|factor| factor.reason.as_str()).collect(),
        details: &assessment.factors,
        suggested_action: assessment.suggested_action.as_deref(),
        mrr: state.mrr(),
        forecast: forecast(state, rules, of.at),
        at: of.at,
        scale: SCALE,
    };
    Some(OutboxRow {
        account: of.account.clone(),
        token: token.as_str().into(),
        customer: of.customer.clone(),
        message_id: format!("{}:alert:{id}", of.account),
        subject: subject::alert_subject(of.account, evaluation.level.as_str(), &token, &id),
        body: serde_json::to_vec(&body).expect("an alert has only plain values"),
        kind: outbox_kind,
        at: of.at,
    })
}
