//! The way into the event stream: a body is checked as the pipeline will check it, and counts as accepted after its PubAck.
//!
//! The body is published as it came; its id, given or made here, is the message's id, so that repeats within the stream's
//! duplicate window are stored once. Concurrent requests share the publisher's pipeline. What the daemon's own parts tell
//! each other by events cannot be sent from outside.

use std::{str, time::Duration};

use async_nats::HeaderMap as MessageHeaders;
use axum::http::StatusCode;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use tokio::time::Instant;
use uuid::Uuid;

use super::error::ApiError;
use crate::{
    engine::link,
    event::{
        decode::{Encoding, Event, Reject, decode},
        ids::{AccountId, CustomerId},
        subject::{encode, event_subject},
    },
    stream::publisher::{Outgoing, PublishError, Publisher},
    telemetry::metrics::{IngestLabels, Metrics},
};

/// How many of a batch's events wait for their PubAck at once.
const BATCH_WINDOW: usize = 256;

/// An event that was checked and can be published.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// Its id.
    pub id: String,
    outgoing: Outgoing,
}

/// Why an event is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// It is no event.
    #[error(transparent)]
    Reject(#[from] Reject),
    /// Its id cannot stand in a message's header.
    #[error("the field `id` holds a control character: use printable characters")]
    ControlCharacterInId,
    /// Only the daemon itself sends such events.
    #[error("events named `{name}` are the daemon's own: choose another name")]
    ReservedName {
        /// The name.
        name: &'static str,
    },
    /// Only the daemon itself sends this field.
    #[error("the field `facts` is the daemon's own: put what you want to say into `properties`")]
    ReservedField,
}

impl Refusal {
    /// The reason's stable name.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Reject(reject) => reject.code(),
            Self::ControlCharacterInId => "invalid_id",
            Self::ReservedName { .. } => "reserved_event",
            Self::ReservedField => "reserved_field",
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal {
            Refusal::Reject(Reject::Oversize { .. }) => StatusCode::PAYLOAD_TOO_LARGE,
            _ => StatusCode::BAD_REQUEST,
        };
        Self::new(status, refusal.code(), refusal.to_string())
    }
}

/// Publishes events; clones share the publisher's window.
#[derive(Clone, Debug)]
pub struct Intake {
    publisher: Publisher,
    metrics: Metrics,
    patience: Duration,
}

impl Intake {
    /// Publishes with a patience for each request.
    pub fn new(publisher: Publisher, metrics: Metrics, patience: Duration) -> Self {
        Self { publisher, metrics, patience }
    }

    /// Publishes an event and waits until it is stored.
    pub async fn publish(&self, source: &'static str, event: Prepared) -> Result<String, ApiError> {
        let deadline = Instant::now() + self.patience;
        let begun = Instant::now();
        let bytes = event.outgoing.payload.len() as u64;
        let outcome = self.publisher.publish_until(&event.outgoing, deadline).await;
        self.metrics.publish_ack_duration_seconds.observe(begun.elapsed().as_secs_f64());
        match outcome {
            Ok(ack) => {
                self.count(source, if ack.duplicate { "duplicate" } else { "accepted" });
                self.metrics.ingest_bytes.inc_by(bytes);
                Ok(event.id)
            }
            Err(error) => {
                self.count(source, "unavailable");
                Err(unpublished(error))
            }
        }
    }

    /// Publishes many, several at once; the results come in their order.
    pub async fn publish_all(&self, source: &'static str, events: Vec<Prepared>) -> Vec<Result<String, ApiError>> {
        let publish = |event| self.publish(source, event);
        stream::iter(events).map(publish).buffered(BATCH_WINDOW).collect().await
    }

    /// Publishes any other message: a webhook's body.
    pub async fn publish_message(&self, outgoing: &Outgoing) -> Result<(), ApiError> {
        let deadline = Instant::now() + self.patience;
        self.publisher.publish_until(outgoing, deadline).await.map(|_| ()).map_err(unpublished)
    }

    /// Counts what became of an event.
    pub fn count(&self, source: &'static str, result: &'static str) {
        self.metrics.ingest_events.get_or_create(&IngestLabels { source, result }).inc();
    }
}

/// Checks an event's body and addresses it to the customer that it names.
pub fn prepare(account: &AccountId, body: Bytes, headers: &MessageHeaders) -> Result<Prepared, Refusal> {
    let mut scratch = Vec::new();
    let (id, customer) = {
        let event = decode(&body, Encoding::Json, &mut scratch)?;
        check_reserved(&event)?;
        let customer = event.customer_id.as_deref().ok_or(Reject::MissingCustomer)?;
        let customer = CustomerId::parse(customer).map_err(|_| Reject::InvalidCustomerId)?;
        let id = event.id.as_deref().map_or_else(|| Uuid::now_v7().simple().to_string(), str::to_owned);
        (id, customer)
    };
    address(account, &customer, id, body, headers)
}

/// Addresses an event whose body was made here.
pub fn address(
    account: &AccountId,
    customer: &CustomerId,
    id: String,
    body: impl Into<Bytes>,
    headers: &MessageHeaders,
) -> Result<Prepared, Refusal> {
    if id.chars().any(char::is_control) {
        return Err(Refusal::ControlCharacterInId);
    }
    let subject = event_subject(account, encode(customer).as_str());
    let outgoing = Outgoing::new(subject, body).with_headers(headers.clone()).with_id(format!("{account}:{id}"));
    Ok(Prepared { id, outgoing })
}

/// Refuses what only the daemon's own parts tell each other.
fn check_reserved(event: &Event<'_>) -> Result<(), Refusal> {
    if let Some(name) = link::RESERVED_NAMES.into_iter().find(|name| *name == event.name) {
        return Err(Refusal::ReservedName { name });
    }
    if event.has_facts() { Err(Refusal::ReservedField) } else { Ok(()) }
}

/// Nothing else than "later" is told: what is wrong lies on our side.
fn unpublished(error: PublishError) -> ApiError {
    let seconds = if matches!(error, PublishError::Full { .. }) { 30 } else { 1 };
    // The error itself names the subject, and so the customer.
    ApiError::unavailable("the event could not be stored now: send it again, with the same id", seconds)
        .because(anyhow::Error::msg(error.reason()))
}
