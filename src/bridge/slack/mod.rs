//! Installing the Slack app: a workspace lets churnd post into one of its channels, which becomes a channel of the account.
//!
//! It begins with a secret key (`POST /api/slack/install`), which gives a link that a browser opens once within ten minutes. The
//! browser gets a cookie and goes to Slack; who comes back without that cookie, or a second time, is sent away.

mod exchange; // a code for a token
mod page; // what the browser shows
mod pass; // signed, for a while, for one use

use std::{fmt, sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{Query, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use url::Url;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use self::{
    exchange::{Exchange, Installed},
    page::Page,
    pass::{Pass, Passes, Purpose},
};
use super::{
    access::Reader,
    error::{ApiError, Problem},
    state::Bridge,
};
use crate::{
    event::{ids::AccountId, time::Timestamp},
    store::{
        StoreError,
        channels::{ChannelChange, NewChannel, Settings, Target, Templates},
    },
    web::{Limits, Web, WebError},
};

/// What the app asks for: to post, also where nobody invited it, and which channel.
const SCOPES: &str = "chat:write,chat:write.public,incoming-webhook";
const COOKIE: &str = "churnd_slack_install";
/// How long an installation may take.
const MINUTES: i64 = 10;
/// The most that is read of Slack's answer.
const ANSWER_BYTES: usize = 64 * 1024;
/// The longest name of a channel.
const NAME_CHARACTERS: usize = 64;

/// The Slack app, and where it is installed from.
#[derive(Clone, Debug)]
pub struct SlackAppConfig {
    /// The app's client id.
    pub client_id: SecretString,
    /// The app's client secret.
    pub client_secret: SecretString,
    /// Where Slack's Web API is.
    pub api_url: String,
    /// The page on which people install the app.
    pub authorize_url: String,
    /// Where browsers reach this server.
    pub public_url: String,
}

/// Installs the app; clones share what was used up.
#[derive(Clone)]
pub struct SlackInstall(Arc<Parts>);

struct Parts {
    config: SlackAppConfig,
    exchange: Exchange,
    passes: Passes,
}

impl SlackInstall {
    /// For an app; Slack may take this long to answer.
    pub fn new(config: SlackAppConfig, patience: Duration) -> Result<Self, WebError> {
        let web = Web::new(Limits { time: patience, body_bytes: ANSWER_BYTES })?;
        let passes = Passes::new(&config.client_secret);
        Ok(Self(Arc::new(Parts { exchange: Exchange { web }, passes, config })))
    }

    fn redirect_uri(&self) -> String {
        format!("{}/slack/oauth/callback", self.0.config.public_url.trim_end_matches('/'))
    }
}

impl fmt::Debug for SlackInstall {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SlackInstall")
    }
}

/// The routes.
pub fn routes() -> OpenApiRouter<Bridge> {
    OpenApiRouter::new().routes(routes!(begin)).routes(routes!(install)).routes(routes!(callback))
}

/// Where an installation goes on.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Begun {
    /// The link that the browser of whoever installs the app must open, once.
    #[schema(format = "uri")]
    url: String,
    /// Until when.
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
}

/// Begin installing the Slack app
///
/// Gives a link that connects a Slack channel to the account. Whoever opens it chooses workspace and channel; alerts go there from
/// then on. Hand it to nobody outside: whoever opens it decides where alerts go.
#[utoipa::path(
    post, path = "/api/slack/install", tag = "Channels",
    responses(
        (status = OK, description = "The link", body = Begun),
        (status = CONFLICT, description = "The Slack app is not set up", body = inline(Problem<'static>), content_type = "application/problem+json"),
        (status = "default", description = "Why not", body = inline(Problem<'static>), content_type = "application/problem+json"),
    ),
    security(("secretKey" = [])),
)]
async fn begin(State(bridge): State<Bridge>, Reader(grant): Reader) -> Result<Json<Begun>, ApiError> {
    let slack = bridge.slack.as_ref().ok_or_else(|| {
        let detail = "set slack.client_id, slack.client_secret and http.public_url first";
        ApiError::new(StatusCode::CONFLICT, "slack_not_set_up", detail)
    })?;
    let expires_at = bridge.now().plus_millis(MINUTES * 60_000);
    let ticket = slack.0.passes.issue(Purpose::Link, grant.account(), expires_at, "");
    let url = format!("{}/slack/install?ticket={ticket}", slack.0.config.public_url.trim_end_matches('/'));
    Ok(Json(Begun { url, expires_at }))
}

#[derive(Deserialize)]
struct Opened {
    #[serde(default)]
    ticket: String,
}

/// Go on installing the Slack app
///
/// The link of `POST /api/slack/install`: sends the browser to Slack.
#[utoipa::path(
    get, path = "/slack/install", tag = "Channels",
    params(("ticket" = Option<String>, Query, description = "Of the link")),
    responses(
        (status = SEE_OTHER, description = "Go on at Slack"),
        (status = "default", description = "A page that says why not", body = String, content_type = "text/html"),
    ),
    security(()),
)]
async fn install(State(bridge): State<Bridge>, Query(opened): Query<Opened>) -> Response {
    let Some(slack) = &bridge.slack else { return Page::NotSetUp.into_response() };
    let Some(pass) = slack.0.passes.redeem(Purpose::Link, &opened.ticket, bridge.now()) else {
        return Page::Expired.into_response();
    };
    let secret = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
    let expires_at = bridge.now().plus_millis(MINUTES * 60_000);
    let state = slack.0.passes.issue(Purpose::State, &pass.account, expires_at, &hashed(&secret));
    let Ok(mut place) = Url::parse(&slack.0.config.authorize_url) else { return Page::NotSetUp.into_response() };
    place
        .query_pairs_mut()
        .append_pair("client_id", secrecy::ExposeSecret::expose_secret(&slack.0.config.client_id))
        .append_pair("scope", SCOPES)
        .append_pair("redirect_uri", &slack.redirect_uri())
        .append_pair("state", &state);
    let mut response = StatusCode::SEE_OTHER.into_response();
    let headers = response.headers_mut();
    page::guard(headers);
    match HeaderValue::from_str(place.as_str()) {
        Ok(place) => headers.insert(header::LOCATION, place),
        Err(_) => return Page::NotSetUp.into_response(),
    };
    set_cookie(headers, &slack.0.config.public_url, &secret, MINUTES * 60);
    response
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Returned {
    code: String,
    state: String,
    error: String,
}

/// Finish installing the Slack app
///
/// Slack sends the browser back here.
#[utoipa::path(
    get, path = "/slack/oauth/callback", tag = "Channels",
    params(
        ("code" = Option<String>, Query, description = "What Slack gives for the token"),
        ("state" = Option<String>, Query, description = "What we sent along"),
        ("error" = Option<String>, Query, description = "Why Slack gives no code"),
    ),
    responses(
        (status = OK, description = "A page that says what was connected", body = String, content_type = "text/html"),
        (status = "default", description = "A page that says why not", body = String, content_type = "text/html"),
    ),
    security(()),
)]
async fn callback(State(bridge): State<Bridge>, Query(returned): Query<Returned>, headers: HeaderMap) -> Response {
    let Some(slack) = &bridge.slack else { return Page::NotSetUp.into_response() };
    let mut response = finish(&bridge, slack, returned, &headers).await.into_response();
    set_cookie(response.headers_mut(), &slack.0.config.public_url, "", 0);
    response
}

async fn finish(bridge: &Bridge, slack: &SlackInstall, returned: Returned, headers: &HeaderMap) -> Page {
    // Checked before it is used up: who has not the cookie must not be able to spoil somebody's installation.
    let theirs = |pass: &Pass| cookie(headers).is_some_and(|secret| hashed(&secret) == pass.bound);
    let now = bridge.now();
    if !slack.0.passes.read(Purpose::State, &returned.state, now).is_some_and(|pass| theirs(&pass)) {
        return Page::Expired;
    }
    let Some(pass) = slack.0.passes.redeem(Purpose::State, &returned.state, now) else { return Page::Expired };
    if !returned.error.is_empty() || returned.code.is_empty() {
        return Page::Denied;
    }
    let config = &slack.0.config;
    match slack.0.exchange.exchange(config, &returned.code, &slack.redirect_uri()).await {
        Ok(installed) => match keep(bridge, &pass.account, &installed).await {
            Ok(name) => Page::Connected { account: pass.account.to_string(), name, installed },
            Err(error) => {
                tracing::error!(account = %pass.account, "a Slack channel cannot be stored: {error}");
                Page::NotStored
            }
        },
        Err(reason) => {
            tracing::warn!(account = %pass.account, "the Slack app cannot be installed: {reason}");
            Page::Failed { reason }
        }
    }
}

/// Stores the channel. One that is connected already gets the new token.
async fn keep(bridge: &Bridge, account: &AccountId, installed: &Installed) -> Result<String, StoreError> {
    let target = Target::SlackApp { token: installed.token.clone(), channel: installed.channel_id.clone() };
    let known = bridge.store.list_channels(account).await?.into_iter().find(
        |channel| matches!(&channel.target, Target::SlackApp { channel, .. } if *channel == installed.channel_id),
    );
    if let Some(channel) = known {
        let change = ChannelChange { target: Some(target), ..ChannelChange::default() };
        bridge.store.change_channel(account, channel.id, &change).await?;
        bridge.store.resume_channel(account, channel.id).await?;
        return Ok(channel.name);
    }
    let base: String = installed.name().chars().take(NAME_CHARACTERS - 16).collect();
    let mut new = NewChannel {
        name: base.trim().to_owned(),
        target,
        settings: Settings::default(),
        templates: Templates::default(),
    };
    if let Err(error) = bridge.store.add_channel(account, &new).await {
        if !matches!(error, StoreError::ChannelExists(_)) {
            return Err(error);
        }
        new.name = format!("{} {}", new.name, installed.channel_id.chars().take(15).collect::<String>());
        bridge.store.add_channel(account, &new).await?;
    }
    Ok(new.name)
}

fn hashed(secret: &str) -> String {
    hex::encode(Sha256::digest(secret.as_bytes()))
}

fn cookie(headers: &HeaderMap) -> Option<String> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = all.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE).map(|(_, value)| value.to_owned()).filter(|value| !value.is_empty())
}

fn set_cookie(headers: &mut HeaderMap, public_url: &str, value: &str, seconds: i64) {
    let secure = if public_url.starts_with("https://") { "; Secure" } else { "" };
    let text = format!("{COOKIE}={value}; Path=/slack; HttpOnly; SameSite=Lax; Max-Age={seconds}{secure}");
    headers.append(header::SET_COOKIE, HeaderValue::from_str(&text).expect("digits and letters"));
}
