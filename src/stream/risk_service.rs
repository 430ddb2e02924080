//! The risk service: answers `churn.risk.<account>.<customer>` as a NATS micro service (ADR-32).

use std::{future::Future, sync::Arc};

use async_nats::{Client, service::ServiceExt as _, service::error::Error as ServiceError};
use bytes::Bytes;
use futures_util::StreamExt as _;
use serde::Deserialize;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::debug;

use super::StreamError;
use crate::event::time::Timestamp;

/// The service's name.
pub const SERVICE: &str = "churnd-risk";
/// Questions that are answered at the same time.
const AT_ONCE: usize = 256;

/// What somebody wants to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The tenant, as the subject names it.
    pub account: String,
    /// The customer's subject token.
    pub token: String,
    /// As of when; now if absent.
    pub as_of: Option<Timestamp>,
}

/// Why a question has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// As HTTP would say it.
    pub code: usize,
    /// What is wrong and what to do.
    pub text: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    #[serde(default)]
    as_of: Option<Timestamp>,
}

/// Answers questions until `stop`. All instances together form one queue group: each question is answered once.
pub async fn serve<Answer, Answering>(
    client: &Client,
    tracker: &TaskTracker,
    stop: CancellationToken,
    answer: Answer,
) -> Result<(), StreamError>
where
    Answer: Fn(Question) -> Answering + Send + Sync + 'static,
    Answering: Future<Output = Result<Bytes, Refusal>> + Send,
{
    let unavailable = |error: async_nats::Error| StreamError::unavailable("offer the risk service", error);
    let service = client
        .service_builder()
        .description("Churn risk of a customer: 0 safe, 100 at risk")
        .start(SERVICE, env!("CARGO_PKG_VERSION"))
        .await
        .map_err(unavailable)?;
    let mut requests = service.endpoint("churn.risk.*.*").await.map_err(unavailable)?;
    let answer = Arc::new(answer);
    let slots = Arc::new(tokio::sync::Semaphore::new(AT_ONCE));
    loop {
        let request = tokio::select! {
            () = stop.cancelled() => break,
            request = requests.next() => request,
        };
        let Some(request) = request else { break };
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { break };
        let answer = Arc::clone(&answer);
        tracker.spawn(async move {
            let answered = match question(&request.message.subject, &request.message.payload) {
                Ok(question) => answer(question).await,
                Err(refusal) => Err(refusal),
            };
            let answered = answered.map_err(|refusal| ServiceError { status: refusal.text, code: refusal.code });
            if let Err(error) = request.respond(answered).await {
                debug!("an answer could not be sent: {error}");
            }
            drop(slot);
        });
    }
    service.stop().await.map_err(unavailable)
}

fn question(subject: &str, payload: &[u8]) -> Result<Question, Refusal> {
    let mut tokens = subject.split('.').skip(2);
    let (Some(account), Some(token)) = (tokens.next(), tokens.next()) else {
        return Err(Refusal { code: 400, text: "ask churn.risk.<account>.<customer>".to_owned() });
    };
    let request = if payload.is_empty() {
        Request { as_of: None }
    } else {
        serde_json::from_slice(payload).map_err(|error| Refusal {
            code: 400,
            text: format!("the request must be empty or {{\"asOf\":\"2026-03-01T12:00:00Z\"}}: {error}"),
        })?
    };
    Ok(Question { account: account.to_owned(), token: token.to_owned(), as_of: request.as_of })
}
