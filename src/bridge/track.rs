//! `/api/track`, `/api/track/batch`, `/api/identify`: events come in.

use axum::{
    Extension, Json,
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{
    ToSchema,
    openapi::{
        Ref,
        schema::{AnyOfBuilder, Array, ArrayBuilder, ObjectBuilder, SchemaType},
    },
};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    access::{Grant, Tracker},
    body::{self, BodyLimits},
    context::RequestContext,
    error::{ApiError, Problem},
    intake::{self, Prepared, Refusal},
    state::Bridge,
};
use crate::event::decode::MAX_EVENT_BYTES;

/// The most bytes of a batch, as sent and unpacked.
pub const MAX_BATCH_BYTES: usize = 500 * 1024;
/// The most events of a batch.
pub const MAX_BATCH_EVENTS: usize = 2_500;

/// The routes that track.
pub fn routes() -> OpenApiRouter<Bridge> {
    OpenApiRouter::new().routes(routes!(track)).routes(routes!(track_batch)).routes(routes!(super::identify::identify))
}

/// An event as it is sent.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "it describes the body, which is published as it came")]
pub(super) struct TrackRequest {
    /// The customer, as you name it: 1 to 255 bytes.
    #[schema(min_length = 1, max_length = 255, example = "c-17")]
    customer_id: String,
    /// What happened: 1 to 100 characters.
    #[schema(min_length = 1, max_length = 100, example = "login")]
    event: String,
    /// Your id of this event: repeats of it count once.
    #[schema(max_length = 100, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$", nullable)]
    id: Option<String>,
    /// When it happened, in RFC 3339; now if absent.
    #[schema(format = DateTime, min_length = 20, nullable)]
    timestamp: Option<String>,
    /// Which of the customer's users did it.
    #[schema(nullable)]
    user_id: Option<String>,
    /// Anything else.
    #[schema(nullable)]
    properties: Option<serde_json::Map<String, serde_json::Value>>,
}

/// An event that was stored.
#[derive(Serialize, ToSchema)]
pub(super) struct Tracked {
    /// The event's id: yours, or one that was made for it.
    pub(super) id: String,
}

/// Many events.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes the body, whose events are published as they came")]
struct BatchRequest {
    #[schema(schema_with = events)]
    events: Vec<TrackRequest>,
}

/// An item that is no event is rejected by itself, so any item may stand in a batch.
fn events() -> Array {
    let anything = ObjectBuilder::new().schema_type(SchemaType::AnyValue);
    let item = AnyOfBuilder::new().item(Ref::from_schema_name("TrackRequest")).item(anything);
    let description = "Up to 2,500 events in up to 500 KB; each is judged by itself.";
    ArrayBuilder::new().items(item).description(Some(description)).build()
}

#[derive(Deserialize)]
struct Batch<'a> {
    #[serde(borrow)]
    events: Vec<&'a RawValue>,
}

/// What became of a batch.
#[derive(Serialize, ToSchema)]
struct BatchAnswer {
    /// One result for each event, in their order.
    results: Vec<ItemResult>,
}

/// What became of one event of a batch.
#[derive(Serialize, ToSchema)]
#[serde(tag = "status", rename_all = "snake_case")]
enum ItemResult {
    /// It is stored.
    Accepted {
        /// The event's id.
        id: String,
    },
    /// It never will be: change it.
    Rejected {
        /// Its place in the batch, from 0.
        index: usize,
        /// Why, stable.
        code: &'static str,
        /// Why, and what to do.
        detail: String,
    },
    /// It is not stored now: send it again.
    Retry {
        /// Its place in the batch, from 0.
        index: usize,
        /// The event's id; send it with this id if you gave none.
        id: String,
    },
}

#[utoipa::path(
    post, path = "/api/track", tag = "Tracking",
    request_body(content = TrackRequest, description = "JSON, also as text/plain; at most 32 KB, gzip allowed"),
    responses(
        (status = ACCEPTED, description = "The event is stored", body = Tracked),
        (status = "default", description = "Why not", body = inline(Problem<'static>), content_type = "application/problem+json"),
    ),
    security(("publishableKey" = []), ("secretKey" = [])),
)]
async fn track(
    State(bridge): State<Bridge>,
    Tracker(grant): Tracker,
    Extension(context): Extension<RequestContext>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let body = bridge.read_json(&headers, body, MAX_EVENT_BYTES).await?;
    let event = prepare(&bridge, &grant, body, &context)?;
    let id = bridge.intake.publish("track", event).await?;
    Ok((StatusCode::ACCEPTED, Json(Tracked { id })).into_response())
}

fn prepare(bridge: &Bridge, grant: &Grant, body: Bytes, context: &RequestContext) -> Result<Prepared, Refusal> {
    intake::prepare(grant.account(), body, &context.message_headers(!grant.is_public()))
        .inspect_err(|_| bridge.intake.count("track", "rejected"))
}

#[utoipa::path(
    post, path = "/api/track/batch", tag = "Tracking",
    request_body(content = BatchRequest, description = "JSON, also as text/plain; at most 500 KB, gzip allowed"),
    responses(
        (status = ACCEPTED, description = "Each event that could be stored is stored", body = BatchAnswer),
        (status = SERVICE_UNAVAILABLE, description = "Some events are not stored now: send those again that say `retry`", body = BatchAnswer),
        (status = "default", description = "Why not", body = inline(Problem<'static>), content_type = "application/problem+json"),
    ),
    security(("publishableKey" = []), ("secretKey" = [])),
)]
async fn track_batch(
    State(bridge): State<Bridge>,
    Tracker(grant): Tracker,
    Extension(context): Extension<RequestContext>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let body = bridge.read_json(&headers, body, MAX_BATCH_BYTES).await?;
    let mut fates = Vec::new();
    let mut events = Vec::new();
    for prepared in prepare_batch(&bridge, &grant, &body, &context)? {
        fates.push(prepared.map(|event| {
            let id = event.id.clone();
            events.push(event);
            id
        }));
    }
    let outcomes = bridge.intake.publish_all("batch", events).await;
    Ok(answer_batch(fates, outcomes))
}

/// Puts the outcomes of the events that were sent between the refusals of the others.
fn answer_batch(fates: Vec<Result<String, Refusal>>, outcomes: Vec<Result<String, ApiError>>) -> Response {
    let mut outcomes = outcomes.into_iter();
    let mut retry_after = None;
    let results = fates.into_iter().enumerate().map(|(index, fate)| match fate {
        Err(refusal) => ItemResult::Rejected { index, code: refusal.code(), detail: refusal.to_string() },
        Ok(id) => match outcomes.next().expect("each event that was sent has an outcome") {
            Ok(id) => ItemResult::Accepted { id },
            Err(error) => {
                retry_after = retry_after.max(error.retry_after_seconds());
                ItemResult::Retry { index, id }
            }
        },
    });
    let answer = Json(BatchAnswer { results: results.collect() });
    match retry_after {
        None => (StatusCode::ACCEPTED, answer).into_response(),
        Some(seconds) => {
            (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, seconds.to_string())], answer).into_response()
        }
    }
}

fn prepare_batch(
    bridge: &Bridge,
    grant: &Grant,
    body: &Bytes,
    context: &RequestContext,
) -> Result<Vec<Result<Prepared, Refusal>>, ApiError> {
    let batch: Batch<'_> = serde_json::from_slice(body).map_err(|error| not_a_batch(&error))?;
    if batch.events.len() > MAX_BATCH_EVENTS {
        let detail = format!("the batch has {} events, more than {MAX_BATCH_EVENTS}: send several", batch.events.len());
        return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "batch_too_long", detail));
    }
    let headers = context.message_headers(!grant.is_public());
    let prepare = |event: &RawValue| {
        intake::prepare(grant.account(), body.slice_ref(event.get().as_bytes()), &headers)
            .inspect_err(|_| bridge.intake.count("batch", "rejected"))
    };
    Ok(batch.events.into_iter().map(prepare).collect())
}

fn not_a_batch(error: &serde_json::Error) -> ApiError {
    let detail = format!(
        "the body is not a batch at line {}, column {}: send {{\"events\":[{{\"customerId\":…,\"event\":…}}]}}",
        error.line(),
        error.column()
    );
    ApiError::new(StatusCode::BAD_REQUEST, "not_a_batch", detail)
}

impl Bridge {
    /// Reads a body of JSON, which may call itself text: that spares browsers a preflight.
    pub(super) async fn read_json(&self, headers: &HeaderMap, body: Body, bytes: usize) -> Result<Bytes, ApiError> {
        let essence = headers.get(header::CONTENT_TYPE).map(|value| {
            let text = value.to_str().unwrap_or_default();
            text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
        });
        if let Some(essence) = essence.filter(|essence| essence != "application/json" && essence != "text/plain") {
            let detail = format!("the body is {essence}: send application/json");
            return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail));
        }
        body::read(headers, body, BodyLimits { bytes, time: self.body_time, compressed: true }).await
    }
}
