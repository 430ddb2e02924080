//! Channels over HTTP: where an account's alerts go, and how deliveries went. Secret keys only; secrets come in and never
//! go out again.

use axum::{
    Json,
    body::Body,
    extract::{FromRequestParts, Path, State},
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    access::Reader,
    cursor::List,
    error::{ApiError, Problem, Refused, RefusedList},
    query::{Checked, Limit},
    state::Bridge,
};
use crate::{
    event::{ids::AccountId, time::Timestamp},
    notify::sample,
    store::{
        StoreError,
        channels::{Channel, ChannelChange, ChannelKind, NewChannel, Settings, Target, Templates, new_webhook_secret},
        deliveries::{DeliveryQuery, DeliveryState, HeldReason, NewDelivery, StoredDelivery},
    },
};

/// The most bytes of a body: three templates.
const MAX_BODY_BYTES: usize = 256 * 1024;

/// The routes about channels and deliveries.
pub fn routes() -> OpenApiRouter<Bridge> {
    OpenApiRouter::new()
        .routes(routes!(list, add))
        .routes(routes!(change, remove))
        .routes(routes!(resume))
        .routes(routes!(test))
        .routes(routes!(deliveries))
        .layer(axum::middleware::map_response(not_stored))
}

async fn not_stored(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Where messages go.
#[derive(Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case", rename_all_fields = "camelCase", deny_unknown_fields)]
enum TargetRequest {
    /// Slack: an incoming webhook's `url`, or a `token` and a `channel`.
    Slack {
        /// An incoming webhook's URL.
        #[schema(value_type = Option<String>, write_only)]
        url: Option<SecretString>,
        /// A bot's token.
        #[schema(value_type = Option<String>, write_only)]
        token: Option<SecretString>,
        /// The Slack channel's id, or `#name`.
        channel: Option<String>,
    },
    /// Mail.
    Email {
        /// Addresses.
        to: Vec<String>,
    },
    /// Signed messages to a URL.
    Webhook {
        /// Where to.
        #[schema(value_type = String, write_only)]
        url: SecretString,
        /// What they are signed with, the newest first; one is made, and answered once, if it is absent.
        #[schema(value_type = Option<Vec<String>>, write_only)]
        secrets: Option<Vec<SecretString>>,
    },
}

/// A channel to be added.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ChannelRequest {
    /// What it is called; unique within the account.
    #[schema(min_length = 1, max_length = 64)]
    name: String,
    /// Where messages go.
    target: TargetRequest,
    /// Which alerts it takes, and when.
    #[serde(default)]
    settings: Settings,
    /// Your own words.
    #[serde(default)]
    templates: Templates,
}

/// What is changed; what is absent stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ChangeRequest {
    /// Another name.
    #[schema(min_length = 1, max_length = 64)]
    name: Option<String>,
    /// Another target, of the same kind.
    target: Option<TargetRequest>,
    /// All settings anew.
    settings: Option<Settings>,
    /// All templates anew.
    templates: Option<Templates>,
}

/// A channel, without anything secret.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ChannelEntry {
    /// Its id.
    #[schema(value_type = String, format = "uuid")]
    id: Uuid,
    /// What it is called.
    name: String,
    /// What kind it is of.
    kind: ChannelKind,
    /// Where it leads, without anything secret.
    to: String,
    /// Which alerts it takes, and when.
    settings: Settings,
    /// Your own words.
    templates: Templates,
    /// Since when it sends nothing.
    paused_at: Option<Timestamp>,
    /// Why.
    paused_reason: Option<String>,
    /// Since when nothing arrives.
    failing_since: Option<Timestamp>,
    /// Why the last try failed.
    last_error: Option<String>,
    /// Since when it is there.
    created_at: Timestamp,
    /// The secret that was made for it; told once.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

/// An account's channels by name.
#[derive(Serialize, ToSchema)]
struct ChannelList {
    /// The channels.
    channels: Vec<ChannelEntry>,
}

/// An alert on its way to a channel.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct DeliveryEntry {
    /// Its id.
    id: u64,
    /// The channel's id.
    #[schema(value_type = String, format = "uuid")]
    channel_id: Uuid,
    /// What the channel was called.
    channel: String,
    /// What kind it is of.
    kind: ChannelKind,
    /// The alert's id.
    alert_id: String,
    /// The customer's id; null where it is about the account.
    customer_id: Option<String>,
    /// Somebody tried the channel out.
    test: bool,
    /// What became of it.
    state: DeliveryState,
    /// How often it was tried.
    attempts: u32,
    /// When it is tried next; null where it ended.
    next_attempt_at: Option<Timestamp>,
    /// Why it waits.
    held_reason: Option<HeldReason>,
    /// What receivers recognize the message by.
    message_key: Option<String>,
    /// Why the last try failed.
    last_error: Option<String>,
    /// When it came.
    created_at: Timestamp,
    /// When it arrived.
    delivered_at: Option<Timestamp>,
}

/// A sample that is on its way.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct TestAccepted {
    /// The delivery's id.
    delivery_id: u64,
}

/// A page of deliveries, the newest first.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct DeliveryPage {
    /// The deliveries.
    deliveries: Vec<DeliveryEntry>,
    /// Where the next page begins; null on the last.
    next_cursor: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct DeliveriesQuery {
    /// Only those of which this became.
    #[param(inline, value_type = DeliveryState, required = false)]
    state: Option<DeliveryState>,
    /// The most deliveries of a page.
    #[serde(default)]
    #[param(value_type = u16, minimum = 1, maximum = 200, default = 50, required = false)]
    limit: Limit,
    /// `nextCursor` of the page before, with the same other parameters.
    #[param(value_type = String, required = false)]
    cursor: Option<String>,
}

/// Channels
///
/// Where the account's alerts go, by name.
#[utoipa::path(
    get, path = "/api/channels", tag = "Channels",
    responses((status = OK, description = "All channels", body = ChannelList), RefusedList),
    security(("secretKey" = [])),
)]
async fn list(State(bridge): State<Bridge>, Reader(grant): Reader) -> Result<Json<ChannelList>, ApiError> {
    let channels = bridge.store.list_channels(grant.account()).await?;
    Ok(Json(ChannelList { channels: channels.into_iter().map(ChannelEntry::of).collect() }))
}

/// Add a channel
///
/// From now on it takes the account's alerts.
#[utoipa::path(
    post, path = "/api/channels", tag = "Channels",
    request_body(content = ChannelRequest, description = "JSON"),
    responses(
        (status = CREATED, description = "It is there", body = ChannelEntry),
        (status = CONFLICT, description = "There is one of this name", body = inline(Problem<'static>), content_type = "application/problem+json"),
        RefusedList,
    ),
    security(("secretKey" = [])),
)]
async fn add(
    State(bridge): State<Bridge>,
    Reader(grant): Reader,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let request: ChannelRequest = bridge.read_channel(&headers, body).await?;
    let (target, secret) = request.target.read()?;
    let new = NewChannel { name: request.name, target, settings: request.settings, templates: request.templates };
    refuse(&new.problems())?;
    refuse(&bridge.checks.problems(Some(&new.target), Some(&new.templates)))?;
    let id = bridge.store.add_channel(grant.account(), &new).await.map_err(refused)?;
    let stored = bridge.store.channel(grant.account(), id).await?.ok_or_else(unknown_channel)?;
    let secret = secret.map(|secret| secret.expose_secret().to_owned());
    Ok((StatusCode::CREATED, Json(ChannelEntry { secret, ..ChannelEntry::of(stored) })).into_response())
}

/// Change a channel
///
/// What waits is sent as the channel is then to be.
#[utoipa::path(
    patch, path = "/api/channels/{channelId}", tag = "Channels",
    params(("channelId" = String, Path, description = "The channel's id", format = "uuid")),
    request_body(content = ChangeRequest, description = "JSON"),
    responses(
        (status = OK, description = "It is changed", body = ChannelEntry),
        (status = CONFLICT, description = "There is another one of this name, or it is of another kind", body = inline(Problem<'static>), content_type = "application/problem+json"),
        Refused,
    ),
    security(("secretKey" = [])),
)]
async fn change(
    State(bridge): State<Bridge>,
    Reader(grant): Reader,
    ChannelPath(id): ChannelPath,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<ChannelEntry>, ApiError> {
    let request: ChangeRequest = bridge.read_channel(&headers, body).await?;
    let before = bridge.store.channel(grant.account(), id).await?.ok_or_else(unknown_channel)?;
    let target = request.target.map(TargetRequest::read).transpose()?;
    let (target, secret) = target.map_or((None, None), |(target, secret)| (Some(target), secret));
    if target.as_ref().is_some_and(|target| target.kind() != before.kind()) {
        let detail = "the channel is of another kind and stays so: add a new channel";
        return Err(ApiError::new(StatusCode::CONFLICT, "channel_kind", detail));
    }
    let change = ChannelChange { name: request.name, target, settings: request.settings, templates: request.templates };
    refuse(&change.problems())?;
    refuse(&bridge.checks.problems(change.target.as_ref(), change.templates.as_ref()))?;
    bridge.store.change_channel(grant.account(), id, &change).await.map_err(refused)?;
    let stored = bridge.store.channel(grant.account(), id).await?.ok_or_else(unknown_channel)?;
    let secret = secret.map(|secret| secret.expose_secret().to_owned());
    Ok(Json(ChannelEntry { secret, ..ChannelEntry::of(stored) }))
}

/// Remove a channel
///
/// With its secrets, and what it had not sent.
#[utoipa::path(
    delete, path = "/api/channels/{channelId}", tag = "Channels",
    params(("channelId" = String, Path, description = "The channel's id", format = "uuid")),
    responses((status = NO_CONTENT, description = "It is gone"), Refused),
    security(("secretKey" = [])),
)]
async fn remove(
    State(bridge): State<Bridge>,
    Reader(grant): Reader,
    ChannelPath(id): ChannelPath,
) -> Result<StatusCode, ApiError> {
    let removed = bridge.store.remove_channel(grant.account(), id).await?;
    if removed { Ok(StatusCode::NO_CONTENT) } else { Err(unknown_channel()) }
}

/// Resume a channel
///
/// What waited is sent now, whatever it failed with before.
#[utoipa::path(
    post, path = "/api/channels/{channelId}/resume", tag = "Channels",
    params(("channelId" = String, Path, description = "The channel's id", format = "uuid")),
    responses((status = NO_CONTENT, description = "It sends again"), Refused),
    security(("secretKey" = [])),
)]
async fn resume(
    State(bridge): State<Bridge>,
    Reader(grant): Reader,
    ChannelPath(id): ChannelPath,
) -> Result<StatusCode, ApiError> {
    let resumed = bridge.store.resume_channel(grant.account(), id).await?;
    if resumed { Ok(StatusCode::NO_CONTENT) } else { Err(unknown_channel()) }
}

/// Test a channel
///
/// Sends a sample that says that it is one, to a paused channel too, and once only. `GET /api/deliveries` tells under the
/// answered id what became of it.
#[utoipa::path(
    post, path = "/api/channels/{channelId}/test", tag = "Channels",
    params(("channelId" = String, Path, description = "The channel's id", format = "uuid")),
    responses((status = ACCEPTED, description = "It is on its way", body = TestAccepted), Refused),
    security(("secretKey" = [])),
)]
async fn test(
    State(bridge): State<Bridge>,
    Reader(grant): Reader,
    ChannelPath(id): ChannelPath,
) -> Result<Response, ApiError> {
    let delivery_id = bridge.test_channel(grant.account(), id).await?.ok_or_else(unknown_channel)?;
    Ok((StatusCode::ACCEPTED, Json(TestAccepted { delivery_id })).into_response())
}

/// Deliveries
///
/// Alerts on their way to channels, and how that went, the newest first.
#[utoipa::path(
    get, path = "/api/deliveries", tag = "Channels",
    params(DeliveriesQuery),
    responses((status = OK, description = "A page of deliveries", body = DeliveryPage), RefusedList),
    security(("secretKey" = [])),
)]
async fn deliveries(
    State(bridge): State<Bridge>,
    Reader(grant): Reader,
    Checked(query): Checked<DeliveriesQuery>,
) -> Result<Json<DeliveryPage>, ApiError> {
    let account = grant.account();
    let list = List::new(account, "deliveries", &query.state);
    let before = query.cursor.as_deref().map(|text| list.read(text)).transpose()?;
    let asked = DeliveryQuery { state: query.state, before, limit: query.limit.0 + 1, ..DeliveryQuery::default() };
    let rows = bridge.store.list_deliveries(account, &asked).await?;
    let (rows, next_cursor) = list.page(rows, query.limit, |row| row.id);
    Ok(Json(DeliveryPage { deliveries: rows.into_iter().map(DeliveryEntry::of).collect(), next_cursor }))
}

/// The channel that a path names.
struct ChannelPath(Uuid);

impl FromRequestParts<Bridge> for ChannelPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, bridge: &Bridge) -> Result<Self, ApiError> {
        // What is no id is the id of no channel.
        let path = Path::<Uuid>::from_request_parts(parts, bridge).await;
        path.map(|Path(id)| Self(id)).map_err(|_| unknown_channel())
    }
}

fn unknown_channel() -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "unknown_channel", "there is no channel of this id in this account")
}

fn invalid(detail: &str) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, "invalid_body", detail)
}

fn refuse(problems: &[String]) -> Result<(), ApiError> {
    if problems.is_empty() { Ok(()) } else { Err(invalid(&problems.join("; "))) }
}

fn refused(error: StoreError) -> ApiError {
    match error {
        StoreError::ChannelExists(_) => {
            let detail = "the account has a channel of this name already: change that one, or take another name";
            ApiError::new(StatusCode::CONFLICT, "channel_exists", detail)
        }
        error => error.into(),
    }
}

impl Bridge {
    /// Puts a sample on its way to a channel, if the account has it; gives back the delivery's id.
    pub(super) async fn test_channel(&self, account: &AccountId, channel: Uuid) -> Result<Option<u64>, StoreError> {
        if self.store.channel(account, channel).await?.is_none() {
            return Ok(None);
        }
        let (alert_id, at) = (format!("test-{}", Uuid::now_v7()), self.now());
        let body = serde_json::to_vec(&sample::test_alert(&alert_id, account, at)).unwrap_or_default();
        let new = NewDelivery { account, alert_id: &alert_id, token: None, body: &body, is_test: true, at };
        Ok(self.store.enqueue_alert(&new, &[channel]).await?.first().copied())
    }

    async fn read_channel<T: DeserializeOwned>(&self, headers: &HeaderMap, body: Body) -> Result<T, ApiError> {
        let body = self.read_json(headers, body, MAX_BODY_BYTES).await?;
        // What cannot be read may hold a secret, so only the place is told.
        serde_json::from_slice(&body).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            invalid(&format!("the body cannot be read: see line {line}, column {column}, and /openapi.json"))
        })
    }
}

impl TargetRequest {
    /// The target, and a secret that was made for it.
    fn read(self) -> Result<(Target, Option<SecretString>), ApiError> {
        match self {
            Self::Slack { url: Some(url), token: None, channel: None } => Ok((Target::SlackWebhook { url }, None)),
            Self::Slack { url: None, token: Some(token), channel: Some(channel) } => {
                Ok((Target::SlackApp { token, channel }, None))
            }
            Self::Slack { .. } => Err(invalid("target: give either `url`, or `token` and `channel`")),
            Self::Email { to } => Ok((Target::Email { to }, None)),
            Self::Webhook { url, secrets: Some(secrets) } => Ok((Target::Webhook { url, secrets }, None)),
            Self::Webhook { url, secrets: None } => {
                let made = new_webhook_secret();
                Ok((Target::Webhook { url, secrets: vec![made.clone()] }, Some(made)))
            }
        }
    }
}

impl ChannelEntry {
    fn of(channel: Channel) -> Self {
        let (paused_at, paused_reason) = channel.paused.clone().unzip();
        Self {
            id: channel.id,
            kind: channel.kind(),
            to: channel.target.shown(),
            name: channel.name,
            settings: channel.settings,
            templates: channel.templates,
            paused_at,
            paused_reason,
            failing_since: channel.failing_since,
            last_error: channel.last_error,
            created_at: channel.created_at,
            secret: None,
        }
    }
}

impl DeliveryEntry {
    fn of(row: StoredDelivery) -> Self {
        let body: Value = serde_json::from_slice(&row.body).unwrap_or_default();
        let waits = row.state == DeliveryState::Pending;
        Self {
            id: row.id,
            channel_id: row.channel_id,
            channel: row.channel,
            kind: row.kind,
            alert_id: row.alert_id,
            customer_id: body["customerId"].as_str().map(str::to_owned),
            test: row.is_test,
            state: row.state,
            attempts: row.attempts,
            next_attempt_at: waits.then_some(row.next_attempt_at),
            held_reason: row.held.filter(|_| waits),
            message_key: row.message_key,
            last_error: row.last_error,
            created_at: row.created_at,
            delivered_at: row.delivered_at,
        }
    }
}
