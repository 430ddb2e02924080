//! NATS micro services (ADR-32): what is asked under a subject is answered once, by whichever instance takes it.

use std::{future::Future, sync::Arc};

use async_nats::{Client, service::ServiceExt as _, service::error::Error as ServiceError};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::debug;

use super::StreamError;

/// Requests that are answered at the same time.
const AT_ONCE: usize = 256;

/// What is offered.
#[derive(Clone, Copy, Debug)]
pub struct Offer {
    /// The service's name.
    pub name: &'static str,
    /// What it is good for.
    pub description: &'static str,
    /// Its endpoints: a name and the subject to ask.
    pub endpoints: &'static [(&'static str, &'static str)],
}

/// What somebody asks.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The subject.
    pub subject: String,
    /// The body.
    pub payload: Bytes,
}

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// As HTTP would say it.
    pub code: usize,
    /// What is wrong and what to do.
    pub text: String,
}

/// Answers requests until `stop`. All instances together form one queue group: each request is answered once.
pub async fn serve<Answer, Answering>(
    offer: Offer,
    client: &Client,
    tracker: &TaskTracker,
    stop: CancellationToken,
    answer: Answer,
) -> Result<(), StreamError>
where
    Answer: Fn(Asked) -> Answering + Send + Sync + 'static,
    Answering: Future<Output = Result<Bytes, Refusal>> + Send,
{
    let unavailable = |error: async_nats::Error| StreamError::unavailable(format!("offer {}", offer.name), error);
    let service = client
        .service_builder()
        .description(offer.description)
        .start(offer.name, env!("CARGO_PKG_VERSION"))
        .await
        .map_err(unavailable)?;
    let mut endpoints = Vec::with_capacity(offer.endpoints.len());
    for (name, subject) in offer.endpoints {
        let builder = service.endpoint_builder().name(*name);
        endpoints.push(builder.add(*subject).await.map_err(unavailable)?);
    }
    let mut requests = stream::select_all(endpoints);
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
            let message = &request.message;
            let asked = Asked { subject: message.subject.to_string(), payload: message.payload.clone() };
            let answered = answer(asked).await;
            let answered = answered.map_err(|refusal| ServiceError { status: refusal.text, code: refusal.code });
            if let Err(error) = request.respond(answered).await {
                debug!("an answer could not be sent: {error}");
            }
            drop(slot);
        });
    }
    service.stop().await.map_err(unavailable)
}
