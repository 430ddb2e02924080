//! Segment's HTTP tracking API: every official SDK works when its host is changed to this one.
//!
//! Answers are what the SDKs understand, not ours: `200 {"success":true}` for whatever could be read, `400` for what will
//! never be taken (an unknown key too: some SDKs repeat 401, 403 and 413 for ever), 429 and 503 with `Retry-After`. A message
//! that cannot be mapped does not fail its request; it is counted, and its reason is kept for a look at
//! `/api/segment/dropped`. With `X-Strict-Mode: 1` such a request is refused as a whole, and says why.
//!
//! The account is that of the request's key. A `writeKey` in single messages of a batch has no effect.

mod answer; // in Segment's words
mod settings; // what the browser and mobile SDKs ask for first
pub mod tail; // what was dropped lately

use axum::{
    Extension, Json,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, StatusCode},
    routing::post,
};
use bytes::Bytes;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use self::{
    answer::{Failure, Refused, Success, Taken},
    tail::{Dropped, DroppedList},
};
use super::{
    access::{Grant, Reader, client_of, credential},
    body::{self, BodyLimits},
    context::RequestContext,
    error::{ApiError, Problem},
    intake::{self, Prepared},
    state::Bridge,
    track::{MAX_BATCH_BYTES, MAX_BATCH_EVENTS},
};
use crate::{
    event::{
        contact::is_contact,
        segment::{self, Call, Form, Mapping, Unmapped},
    },
    store::keys::read_key,
    telemetry::metrics::ReasonLabel,
};

/// Where events came in, for the metrics.
const SOURCE: &str = "segment";

/// Other names of the same routes, which SDKs really use: they stand beside the documented ones. Each path also works with
/// a slash at its end.
const ALIASES: [(&str, Option<Call>); 8] = [
    ("/v1/import", None),
    ("/v1/b", None),
    ("/v1/t", Some(Call::Track)),
    ("/v1/i", Some(Call::Identify)),
    ("/v1/p", Some(Call::Page)),
    ("/v1/s", Some(Call::Screen)),
    ("/v1/g", Some(Call::Group)),
    ("/v1/a", Some(Call::Alias)),
];
const DOCUMENTED: [(&str, Option<Call>); 7] = [
    ("/v1/batch", None),
    ("/v1/track", Some(Call::Track)),
    ("/v1/identify", Some(Call::Identify)),
    ("/v1/page", Some(Call::Page)),
    ("/v1/screen", Some(Call::Screen)),
    ("/v1/group", Some(Call::Group)),
    ("/v1/alias", Some(Call::Alias)),
];

/// The routes of Segment's API, and the one that shows what was dropped.
pub fn routes() -> OpenApiRouter<Bridge> {
    let documented = OpenApiRouter::new()
        .routes(routes!(batch))
        .routes(routes!(track))
        .routes(routes!(identify))
        .routes(routes!(page))
        .routes(routes!(screen))
        .routes(routes!(group))
        .routes(routes!(alias))
        .routes(routes!(settings::settings))
        .routes(routes!(dropped));
    let slashed = DOCUMENTED.into_iter().chain(ALIASES).map(|(path, call)| (format!("{path}/"), call));
    let plain = ALIASES.into_iter().map(|(path, call)| (path.to_owned(), call));
    let with_aliases = plain.chain(slashed).fold(documented, |routes, (path, call)| {
        let handler = move |State(bridge), Extension(context), request| take(bridge, context, request, call);
        routes.route(&path, post(handler))
    });
    with_aliases
        .route("/v1/m", post(metrics))
        .route("/v1/m/", post(metrics))
        .route("/v1/projects/{key}/settings/", axum::routing::get(settings::settings))
}

/// Messages of one sender.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "it describes the body, which is read message by message")]
struct BatchBody {
    /// A publishable or secret key, where it is sent neither by Basic authentication nor as `x-api-key`.
    #[schema(nullable)]
    write_key: Option<String>,
    /// Up to 2,500 messages in up to 500 KB. One that cannot be used is dropped and counted.
    #[schema(max_items = 2_500)]
    batch: Vec<Value>,
}

/// One message, such as `{"userId":"c-17","event":"login","messageId":"…","timestamp":"…","properties":{}}`.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "it describes the body, which is read as it came")]
struct SingleBody {
    /// A publishable or secret key, where it is sent neither by Basic authentication nor as `x-api-key`.
    #[schema(nullable)]
    write_key: Option<String>,
    /// Segment's fields.
    #[serde(flatten)]
    fields: Map<String, Value>,
}

#[utoipa::path(
    post, path = "/v1/batch", tag = "Segment",
    request_body(content = BatchBody, description = "JSON, whatever it calls itself; at most 500 KB, gzip allowed"),
    responses(
        (status = OK, description = "What can be used is stored", body = Taken),
        (status = BAD_REQUEST, description = "Never to be taken: an unknown key too", body = inline(Refused<'static>)),
        (status = TOO_MANY_REQUESTS, description = "Too often: see Retry-After", body = inline(Refused<'static>)),
        (status = SERVICE_UNAVAILABLE, description = "Not now: send all of it again", body = inline(Refused<'static>)),
    ),
)]
async fn batch(
    State(bridge): State<Bridge>,
    Extension(context): Extension<RequestContext>,
    request: Request,
) -> Result<Success, Failure> {
    take(bridge, context, request, None).await
}

/// Declares the routes that take one message each.
macro_rules! single {
    ($($name:ident, $path:literal, $call:ident;)+) => {$(
        #[utoipa::path(
            post, path = $path, tag = "Segment",
            request_body(content = SingleBody, description = "JSON, whatever it calls itself; at most 32 KB, gzip allowed"),
            responses(
                (status = OK, description = "It is stored, or it cannot be used", body = Taken),
                (status = BAD_REQUEST, description = "Never to be taken: an unknown key too", body = inline(Refused<'static>)),
                (status = TOO_MANY_REQUESTS, description = "Too often: see Retry-After", body = inline(Refused<'static>)),
                (status = SERVICE_UNAVAILABLE, description = "Not now: send it again", body = inline(Refused<'static>)),
            ),
        )]
        async fn $name(
            State(bridge): State<Bridge>,
            Extension(context): Extension<RequestContext>,
            request: Request,
        ) -> Result<Success, Failure> {
            take(bridge, context, request, Some(Call::$call)).await
        }
    )+};
}

single! {
    track, "/v1/track", Track;
    identify, "/v1/identify", Identify;
    page, "/v1/page", Page;
    screen, "/v1/screen", Screen;
    group, "/v1/group", Group;
    alias, "/v1/alias", Alias;
}

/// What the browser SDK measures of itself. It is read, so that the connection can go on, and not looked at.
async fn metrics(State(bridge): State<Bridge>, headers: HeaderMap, body: Body) -> Result<Success, Failure> {
    bridge.read_segment(&headers, body).await?;
    Ok(Success)
}

#[utoipa::path(
    get, path = "/api/segment/dropped", tag = "Tracking",
    responses(
        (status = OK, description = "The messages of Segment's SDKs that this instance dropped lately, the newest first", body = DroppedList),
        (status = "default", description = "Why not", body = inline(Problem<'static>), content_type = "application/problem+json"),
    ),
    security(("secretKey" = [])),
)]
async fn dropped(State(bridge): State<Bridge>, Reader(grant): Reader) -> Json<DroppedList> {
    Json(bridge.dropped.of(grant.account()))
}

/// Takes a request: one message of the given call, or a batch.
async fn take(
    bridge: Bridge,
    context: RequestContext,
    request: Request,
    call: Option<Call>,
) -> Result<Success, Failure> {
    let (parts, body) = request.into_parts();
    let client = client_of(&parts);
    // A key in the head is looked at before the body is read. What is no key there may stand for something else: OAuth.
    let named = credential(&parts);
    let early = match named.as_deref().filter(|key| read_key(key).is_ok()) {
        Some(key) => Some(bridge.admit(key, &parts.headers, client).await?),
        None => None,
    };
    let body = bridge.read_segment(&parts.headers, body).await?;
    let form = if call.is_some() { Form::Single } else { Form::Batch };
    let request = segment::Request::read(&body, form).map_err(|error| unreadable(&error))?;
    let grant = match (early, request.write_key.as_ref().or(named.as_ref())) {
        (Some(grant), _) => grant,
        (None, Some(key)) => bridge.admit(key, &parts.headers, client).await?,
        (None, None) => return Err(bridge.without_key().into()),
    };
    if request.messages.len() > MAX_BATCH_EVENTS {
        let detail = format!("the batch has {} messages, more than {MAX_BATCH_EVENTS}", request.messages.len());
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "batch_too_long", detail).into());
    }
    let strict = parts.headers.get("x-strict-mode").is_some_and(|value| value == "1" || value == "true");
    let sorted = bridge.sort(&grant, &context, &request, call);
    bridge.note(&grant, &sorted.dropped);
    // One message by itself is refused where its size is the reason: its sender can hear it.
    let refused =
        sorted.dropped.iter().find(|dropped| strict && !dropped.harmless || call.is_some() && dropped.oversize);
    if let Some(dropped) = refused {
        return Err(dropped.refusal().into());
    }
    bridge.store_all(&grant, sorted.events).await.map_err(Failure::from).map(|()| Success)
}

/// The messages of a request: those that become events, and those that do not.
struct Sorted {
    events: Vec<Prepared>,
    dropped: Vec<Dropped>,
}

impl Bridge {
    async fn read_segment(&self, headers: &HeaderMap, body: Body) -> Result<Bytes, ApiError> {
        body::read(headers, body, BodyLimits { bytes: MAX_BATCH_BYTES, time: self.body_time, compressed: true }).await
    }

    fn sort(
        &self,
        grant: &Grant,
        context: &RequestContext,
        request: &segment::Request<'_>,
        call: Option<Call>,
    ) -> Sorted {
        let keep_contact: fn(&str) -> bool = |_| false;
        let mapping = Mapping {
            customer: self.segment.customer_of(grant.account()),
            billing_pages: &self.segment.billing_pages,
            drops_trait: if self.privacy.store_contact { keep_contact } else { is_contact },
            received_at: self.now(),
        };
        let headers = context.message_headers(!grant.is_public());
        let mut sorted = Sorted { events: Vec::with_capacity(request.messages.len()), dropped: Vec::new() };
        for (index, message) in request.messages.iter().enumerate() {
            let drop = |why: Unmapped| Dropped::unmapped(mapping.received_at, index, &why);
            match segment::map(message, call, request, &mapping).map_err(drop).and_then(|body| {
                intake::prepare(grant.account(), body.into(), &headers)
                    .map_err(|why| Dropped::refused(mapping.received_at, index, &why))
            }) {
                Ok(event) => sorted.events.push(event),
                Err(dropped) => sorted.dropped.push(dropped),
            }
        }
        sorted
    }

    /// Counts what was dropped, and keeps it for a look.
    fn note(&self, grant: &Grant, dropped: &[Dropped]) {
        for dropped in dropped {
            self.intake.count(SOURCE, if dropped.harmless { "ignored" } else { "rejected" });
            self.metrics.segment_dropped.get_or_create(&ReasonLabel { reason: dropped.code }).inc();
        }
        self.dropped.push(grant.account(), dropped);
    }

    /// Publishes all events; one that cannot be stored now fails the whole, whose repetition is harmless.
    async fn store_all(&self, grant: &Grant, events: Vec<Prepared>) -> Result<(), ApiError> {
        let received_at = self.now();
        let mut refused = Vec::new();
        for (index, outcome) in self.intake.publish_all(SOURCE, events).await.into_iter().enumerate() {
            match outcome {
                Ok(_) => {}
                Err(error) if error.status().is_client_error() => {
                    refused.push(Dropped::at_intake(received_at, index, &error));
                }
                Err(error) => return Err(error),
            }
        }
        self.note(grant, &refused);
        Ok(())
    }

    fn without_key(&self) -> ApiError {
        self.metrics.auth_failures.get_or_create(&ReasonLabel { reason: "missing" }).inc();
        let detail = "no key: set the SDK's writeKey to a publishable or secret key of churnd";
        ApiError::new(StatusCode::BAD_REQUEST, "missing_key", detail)
    }
}

fn unreadable(why: &Unmapped) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, why.code(), why.to_string())
}
