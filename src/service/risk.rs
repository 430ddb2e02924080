//! The risk service: questions from NATS, answers from the risk desk.

use async_nats::Client;
use bytes::Bytes;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::warn;

use crate::{
    event::{ids::AccountId, subject::Token},
    pipeline::risk::{RiskDesk, RiskError},
    stream::{
        StreamError, risk_service,
        service::{self, Asked, Refusal},
    },
};

/// Answers until `stop`.
pub(super) async fn serve(
    client: Client,
    tracker: TaskTracker,
    stop: CancellationToken,
    desk: RiskDesk,
) -> Result<(), StreamError> {
    service::serve(risk_service::OFFER, &client, &tracker, stop, move |asked| {
        let desk = desk.clone();
        async move { answer(&desk, &asked).await }
    })
    .await
}

async fn answer(desk: &RiskDesk, asked: &Asked) -> Result<Bytes, Refusal> {
    let question = risk_service::question(asked)?;
    let refused = |code, text: String| Refusal { code, text };
    let account = AccountId::parse(&question.account).map_err(|error| refused(400, error.to_string()))?;
    let token = Token::parse(&question.token).map_err(|error| refused(400, error.to_string()))?;
    let report = desk.risk(&account, token.as_str(), question.as_of).await.map_err(refusal)?;
    Ok(serde_json::to_vec(&report).expect("a report has only plain values").into())
}

/// What is answered where a customer's risk cannot be told.
pub(super) fn refusal(error: RiskError) -> Refusal {
    let code = match &error {
        RiskError::UnknownCustomer => 404,
        RiskError::TooEarly { .. } => 400,
        RiskError::Store(_) | RiskError::Snapshot(_) => {
            warn!("cannot answer a question about a customer's risk: {error:?}");
            503
        }
    };
    Refusal { code, text: error.to_string() }
}
