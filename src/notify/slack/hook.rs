//! Incoming webhooks: a URL that is a secret, and answers in one word.

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, StatusCode, header};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use url::Url;

use crate::{
    event::time::Timestamp,
    notify::{
        answer::{again, gone, judged, refused, said, unanswered},
        send::{Failure, Receipt},
        webhook::AGENT,
    },
    web::Web,
};

/// Sends a message to an incoming webhook of Slack's, and to nobody else's.
pub(in crate::notify) async fn send(
    web: &Web,
    hooks_url: &str,
    url: &SecretString,
    message: &Value,
    now: Timestamp,
) -> Result<Receipt, Failure> {
    let url = of_slack(hooks_url, url.expose_secret())
        .ok_or_else(|| gone(format!("the URL is none of Slack's: it must begin with {hooks_url}/")))?;
    let request = Request::post(url.as_str())
        .header(header::CONTENT_TYPE, "application/json; charset=utf-8")
        .header(header::USER_AGENT, AGENT)
        .body(Full::new(Bytes::from(message.to_string())))
        .map_err(|_| gone("the URL cannot be asked"))?;
    let answer = web.send(request).await.map_err(|error| unanswered(&error))?;
    let word = said(answer.body());
    match (answer.status(), word.as_str()) {
        (StatusCode::OK, "ok") => Ok(Receipt::default()),
        (status, _) if status.is_success() => Err(again(format!("Slack answers {status}, but not `ok`"), None)),
        (
            StatusCode::BAD_REQUEST,
            "user_not_found" | "channel_not_found" | "no_service" | "no_team" | "team_disabled",
        ) => Err(gone(format!("Slack answers `{word}`"))),
        (StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE, _) => Err(refused(format!("Slack answers `{word}`"))),
        (StatusCode::FORBIDDEN | StatusCode::NOT_FOUND | StatusCode::GONE, _) => {
            Err(gone(format!("Slack answers `{word}`: the webhook or its channel is not there any more")))
        }
        _ => Err(judged("Slack", &answer, now)),
    }
}

/// Whether a URL lies where Slack's webhooks are.
pub(in crate::notify) fn is_hook(hooks_url: &str, text: &str) -> bool {
    of_slack(hooks_url, text).is_some()
}

/// The URL, if it lies where Slack's webhooks are.
fn of_slack(hooks_url: &str, text: &str) -> Option<Url> {
    let (url, home) = (Url::parse(text).ok()?, Url::parse(hooks_url).ok()?);
    let plain = url.username().is_empty() && url.password().is_none();
    (plain && url.origin() == home.origin()).then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_slacks_own_host_is_taken() {
        let home = "https://hooks.slack.com";
        assert!(of_slack(home, "https://hooks.slack.com/services/T0/B0/x").is_some());
        for other in [
            "http://hooks.slack.com/services/x",
            "https://hooks.slack.com.evil.example/services/x",
            "https://hooks.slack.com@evil.example/services/x",
            "https://me@hooks.slack.com/services/x",
            "https://hooks.slack.com:8443/services/x",
            "https://evil.example/#hooks.slack.com",
            "https:\\\\evil.example\\hooks.slack.com",
            "",
        ] {
            assert!(of_slack(home, other).is_none(), "{other}");
        }
    }
}
