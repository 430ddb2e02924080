//! The pages that end an installation: what happened, and what next. Plain, without scripts and styles.

use axum::{
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

use super::exchange::Installed;

/// How an installation ended.
#[derive(Debug)]
pub(super) enum Page {
    /// Alerts go there now.
    Connected { account: String, name: String, installed: Installed },
    /// The link or the way back is not valid (any more).
    Expired,
    /// It was not allowed at Slack.
    Denied,
    /// Slack gives no token.
    Failed { reason: String },
    /// The channel could not be stored.
    NotStored,
    /// There is no app.
    NotSetUp,
}

impl Page {
    fn status(&self) -> StatusCode {
        match self {
            Self::Connected { .. } | Self::Denied => StatusCode::OK,
            Self::Expired => StatusCode::BAD_REQUEST,
            Self::Failed { .. } => StatusCode::BAD_GATEWAY,
            Self::NotStored => StatusCode::SERVICE_UNAVAILABLE,
            Self::NotSetUp => StatusCode::NOT_FOUND,
        }
    }

    /// A heading, and sentences.
    fn words(&self) -> (&'static str, Vec<String>) {
        match self {
            Self::Connected { account, name, installed } => (
                "Slack is connected",
                vec![
                    format!("Alerts of the account {account} go to {} in {} from now on.", installed.channel, installed.team),
                    format!(
                        "The channel is called \u{201c}{name}\u{201d}. Try it with `churnd channel test`; which alerts it takes, \
                         quiet hours and limits can be set there too. You can close this page."
                    ),
                ],
            ),
            Self::Expired => (
                "This link is not valid",
                vec![
                    "It was used already, is older than ten minutes, or was opened in another browser. Nothing was connected."
                        .to_owned(),
                    "Start again from the dashboard, or with POST /api/slack/install.".to_owned(),
                ],
            ),
            Self::Denied => (
                "Slack was not connected",
                vec!["The installation was not allowed at Slack. To try again, start anew.".to_owned()],
            ),
            Self::Failed { reason } => (
                "Slack was not connected",
                vec![
                    format!("{reason}."),
                    "Start again; if that does not help, check slack.client_id, slack.client_secret, and that the app's redirect \
                     URL is this server's /slack/oauth/callback."
                        .to_owned(),
                ],
            ),
            Self::NotStored => (
                "Slack was not connected",
                vec!["The channel could not be stored just now. Start again in a minute.".to_owned()],
            ),
            Self::NotSetUp => (
                "The Slack app is not set up here",
                vec!["Set slack.client_id, slack.client_secret and http.public_url, and restart churnd.".to_owned()],
            ),
        }
    }
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let (title, sentences) = self.words();
        let paragraphs: String = sentences.iter().map(|sentence| format!("<p>{}</p>\n", escaped(sentence))).collect();
        let body = format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><meta name=\"viewport\" \
             content=\"width=device-width\"><meta name=\"color-scheme\" content=\"light dark\"><title>{title} · \
             churnd</title></head>\n<body>\n<main>\n<h1>{title}</h1>\n{paragraphs}</main>\n</body>\n</html>\n"
        );
        let mut response = (self.status(), body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        guard(headers);
        response
    }
}

/// What browsers must not do with any of these answers.
pub(super) fn guard(headers: &mut HeaderMap) {
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
