//! A code for a token: `oauth.v2.access`.

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, header};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use url::form_urlencoded;

use super::SlackAppConfig;
use crate::web::Web;

/// Asks Slack.
pub(super) struct Exchange {
    pub(super) web: Web,
}

/// What was installed where.
#[derive(Debug)]
pub(super) struct Installed {
    pub(super) token: SecretString,
    pub(super) channel_id: String,
    /// `#alerts`.
    pub(super) channel: String,
    pub(super) team: String,
}

impl Installed {
    /// What to call the channel.
    pub(super) fn name(&self) -> String {
        let named = format!("Slack {} {}", self.channel, self.team);
        named.chars().map(|sign| if sign.is_control() { ' ' } else { sign }).collect()
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Said {
    ok: bool,
    error: String,
    access_token: SecretString,
    scope: String,
    team: Option<Team>,
    incoming_webhook: Option<Place>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Team {
    name: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Place {
    channel: String,
    channel_id: String,
}

impl Exchange {
    /// Gives what was installed, or why nothing was.
    pub(super) async fn exchange(
        &self,
        config: &SlackAppConfig,
        code: &str,
        redirect_uri: &str,
    ) -> Result<Installed, String> {
        let body = form_urlencoded::Serializer::new(String::new())
            .append_pair("client_id", config.client_id.expose_secret())
            .append_pair("client_secret", config.client_secret.expose_secret())
            .append_pair("code", code)
            .append_pair("redirect_uri", redirect_uri)
            .finish();
        let request = Request::post(format!("{}/oauth.v2.access", config.api_url.trim_end_matches('/')))
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Full::new(Bytes::from(body)))
            .map_err(|_| "slack.api_url is no address".to_owned())?;
        let answer = self.web.send(request).await.map_err(|error| error.to_string())?;
        if !answer.status().is_success() {
            return Err(format!("Slack answers {}", answer.status()));
        }
        read(answer.body())
    }
}

fn read(body: &[u8]) -> Result<Installed, String> {
    let said: Said = serde_json::from_slice(body).map_err(|_| "Slack's answer cannot be read".to_owned())?;
    if !said.ok {
        let code: String =
            said.error.chars().filter(|sign| sign.is_ascii_alphanumeric() || *sign == '_').take(60).collect();
        return Err(format!("Slack answers `{code}`"));
    }
    if !said.scope.split(',').any(|scope| scope == "chat:write") || said.access_token.expose_secret().is_empty() {
        return Err("Slack gives no right to post (chat:write)".to_owned());
    }
    let place = said.incoming_webhook.filter(|place| !place.channel_id.is_empty());
    let place = place.ok_or("Slack names no channel: the app needs the scope incoming-webhook")?;
    let team = said.team.map(|team| team.name).unwrap_or_default();
    Ok(Installed { token: said.access_token, channel_id: place.channel_id, channel: place.channel, team })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slacks_answers_are_read() {
        let good = r##"{"ok":true,"access_token":"xoxb-1","token_type":"bot","scope":"chat:write,incoming-webhook","bot_user_id":"U0",
            "team":{"name":"Example","id":"T1"},"incoming_webhook":{"channel":"#alerts","channel_id":"C1",
            "configuration_url":"https://x","url":"https://hooks.slack.com/services/x"}}"##;
        let installed = read(good.as_bytes()).unwrap();
        assert_eq!((installed.channel_id.as_str(), installed.name().as_str()), ("C1", "Slack #alerts Example"));
        assert!(!format!("{installed:?}").contains("xoxb"));
        for (bad, expected) in [
            (r#"{"ok":false,"error":"invalid_code"}"#.to_owned(), "`invalid_code`"),
            (good.replace("chat:write,", ""), "chat:write"),
            (good.replace("\"C1\"", "\"\""), "no channel"),
            (good.replace("xoxb-1", ""), "chat:write"),
            ("<html>".to_owned(), "cannot be read"),
        ] {
            assert!(read(bad.as_bytes()).unwrap_err().contains(expected), "{bad}");
        }
    }
}
