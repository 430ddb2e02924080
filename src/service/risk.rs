//! The risk service: questions from NATS, answers from the risk desk.

use async_nats::Client;
use bytes::Bytes;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::warn;

use crate::{
    event::{ids::AccountId, subject::Token},
    pipeline::risk::{RiskDesk, RiskError},
    stream::{
        StreamError,
        risk_service::{self, Question, Refusal},
    },
};

/// Answers until `stop`.
pub(super) async fn serve(
    client: Client,
    tracker: TaskTracker,
    stop: CancellationToken,
    desk: RiskDesk,
) -> Result<(), StreamError> {
    risk_service::serve(&client, &tracker, stop, move |question| {
        let desk = desk.clone();
        async move { answer(&desk, question).await }
    })
    .await
}

async fn answer(desk: &RiskDesk, question: Question) -> Result<Bytes, Refusal> {
    let refused = |code, text: String| Refusal { code, text };
    let account = AccountId::parse(&question.account).map_err(|error| refused(400, error.to_string()))?;
    let token = Token::parse(&question.token).map_err(|error| refused(400, error.to_string()))?;
    match desk.risk(&account, token.as_str(), question.as_of).await {
        Ok(report) => Ok(serde_json::to_vec(&report).expect("a report has only plain values").into()),
        Err(error @ RiskError::UnknownCustomer) => Err(refused(404, error.to_string())),
        Err(error @ RiskError::TooEarly { .. }) => Err(refused(400, error.to_string())),
        Err(error @ (RiskError::Store(_) | RiskError::Snapshot(_))) => {
            warn!("cannot answer a question about a customer's risk: {error:?}");
            Err(refused(503, error.to_string()))
        }
    }
}
