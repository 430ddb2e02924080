//! Slack's Web API with the token of a workspace that installed the app: messages are posted, and updated in place.
//!
//! Slack answers 200 and says inside whether it worked. An error that is not known here is tried again.

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, StatusCode, header};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    event::time::Timestamp,
    notify::{
        answer::{again, gone, judged, refused, retry_after, unanswered},
        send::{Failure, Receipt},
        webhook::AGENT,
    },
    web::Web,
};

/// What will not pass by itself: the channel, the token or the workspace is not what it was.
const GONE: [&str; 26] = [
    "access_denied",
    "account_inactive",
    "cannot_reply_to_message",
    "channel_is_archived",
    "channel_not_found",
    "deprecated_endpoint",
    "ekm_access_denied",
    "enterprise_is_restricted",
    "invalid_auth",
    "is_archived",
    "messages_tab_disabled",
    "method_deprecated",
    "missing_scope",
    "no_permission",
    "not_allowed_token_type",
    "not_authed",
    "not_in_channel",
    "restricted_action",
    "restricted_action_non_threadable_channel",
    "restricted_action_read_only_channel",
    "restricted_action_thread_only_channel",
    "team_access_not_granted",
    "team_not_found",
    "token_expired",
    "token_revoked",
    "two_factor_setup_required",
];
/// What is wrong with this message alone.
const REFUSED: [&str; 14] = [
    "block_mismatch",
    "duplicate_message_not_found",
    "invalid_arguments",
    "invalid_blocks",
    "invalid_blocks_format",
    "invalid_metadata_format",
    "invalid_metadata_schema",
    "metadata_must_be_sent_from_app",
    "metadata_too_large",
    "msg_blocks_too_long",
    "msg_too_long",
    "no_text",
    "too_many_attachments",
    "too_many_contact_cards",
];
/// Why a message cannot be updated any more, although a new one may be posted.
const NOT_EDITABLE: [&str; 4] = ["cant_update_message", "edit_window_closed", "is_inactive", "message_not_found"];

/// A workspace's channel.
pub(in crate::notify) struct Place<'a> {
    /// Where the Web API is.
    pub(in crate::notify) api_url: &'a str,
    /// The bot's token.
    pub(in crate::notify) token: &'a SecretString,
    /// The channel.
    pub(in crate::notify) channel: &'a str,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Said {
    ok: bool,
    error: String,
    channel: String,
    ts: String,
}

/// Posts a message, or replaces the one with the reference.
pub(in crate::notify) async fn send(
    web: &Web,
    place: &Place<'_>,
    message: &Value,
    key: &str,
    replaces: Option<&str>,
    now: Timestamp,
) -> Result<Receipt, Failure> {
    let mut body = message.clone();
    body["metadata"] = json!({"event_type": "churnd_alert", "event_payload": {"key": key}});
    if let Some((channel, ts)) = replaces.and_then(|reference| reference.split_once(':')) {
        let mut update = body.clone();
        (update["channel"], update["ts"]) = (json!(channel), json!(ts));
        let said = call(web, place, "chat.update", &update, now).await?;
        if !NOT_EDITABLE.contains(&said.error.as_str()) {
            return judge(said);
        }
    }
    body["channel"] = json!(place.channel);
    (body["unfurl_links"], body["unfurl_media"]) = (json!(false), json!(false));
    judge(call(web, place, "chat.postMessage", &body, now).await?)
}

async fn call(web: &Web, place: &Place<'_>, method: &str, body: &Value, now: Timestamp) -> Result<Said, Failure> {
    let mut token = header::HeaderValue::from_str(&format!("Bearer {}", place.token.expose_secret()))
        .map_err(|_| gone("the bot's token holds characters that no token has"))?;
    token.set_sensitive(true);
    let request = Request::post(format!("{}/{method}", place.api_url.trim_end_matches('/')))
        .header(header::CONTENT_TYPE, "application/json; charset=utf-8")
        .header(header::USER_AGENT, AGENT)
        .header(header::AUTHORIZATION, token)
        .body(Full::new(Bytes::from(body.to_string())))
        .map_err(|_| gone("slack.api_url is no address"))?;
    let answer = web.send(request).await.map_err(|error| unanswered(&error))?;
    if answer.status() != StatusCode::OK {
        return Err(judged("Slack", &answer, now));
    }
    let said: Said = serde_json::from_slice(answer.body()).map_err(|_| again("Slack's answer cannot be read", None))?;
    // Some limits are told with 200.
    if matches!(said.error.as_str(), "ratelimited" | "rate_limited" | "message_limit_exceeded") {
        return Err(again(format!("Slack answers `{}`", said.error), retry_after(answer.headers(), now)));
    }
    Ok(said)
}

fn judge(said: Said) -> Result<Receipt, Failure> {
    if said.ok {
        let known = !said.channel.is_empty() && !said.ts.is_empty();
        return Ok(Receipt { reference: known.then(|| format!("{}:{}", said.channel, said.ts)) });
    }
    let code: String =
        said.error.chars().filter(|sign| sign.is_ascii_alphanumeric() || *sign == '_').take(60).collect();
    let reason = format!("Slack answers `{code}`{}", advice(&code));
    if GONE.contains(&code.as_str()) {
        Err(gone(reason))
    } else if REFUSED.contains(&code.as_str()) {
        Err(refused(reason))
    } else {
        Err(again(reason, None))
    }
}

/// What people can do about an error.
fn advice(code: &str) -> &'static str {
    match code {
        "not_in_channel" => ": invite the app to the channel",
        "channel_not_found" => ": it was removed, or it is private and the app is not in it",
        "is_archived" | "channel_is_archived" => ": unarchive the Slack channel, or choose another",
        "token_revoked" | "token_expired" | "account_inactive" | "invalid_auth" | "not_authed" => {
            ": install the app again"
        }
        "missing_scope" => ": install the app again, it needs chat:write",
        _ => "",
    }
}
