//! SendGrid's v3 API: `POST /v3/mail/send`.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, StatusCode, header};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

use super::Mail;
use crate::{
    event::time::Timestamp,
    notify::{
        answer::{again, gone, judged, refused, retry_after, said, unanswered},
        send::{Failure, Receipt},
        webhook::AGENT,
    },
    web::Web,
};

/// The longest wait that is believed.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3_600);

pub(super) async fn send(web: &Web, key: &SecretString, url: &str, mail: &Mail<'_>) -> Result<Receipt, Failure> {
    let mut authorization = header::HeaderValue::from_str(&format!("Bearer {}", key.expose_secret()))
        .map_err(|_| gone("sendgrid.api_key holds characters that no key has"))?;
    authorization.set_sensitive(true);
    let request = Request::post(format!("{}/v3/mail/send", url.trim_end_matches('/')))
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::USER_AGENT, AGENT)
        .header(header::AUTHORIZATION, authorization)
        .body(Full::new(Bytes::from(body(mail).to_string())))
        .map_err(|_| gone("sendgrid.url is no address"))?;
    let answer = web.send(request).await.map_err(|error| unanswered(&error))?;
    judge(&answer, mail.at)
}

fn body(mail: &Mail<'_>) -> Value {
    let to: Vec<Value> = mail.to.iter().map(|to| json!({"email": to.email.to_string()})).collect();
    let mut from = json!({"email": mail.from.email.to_string()});
    if let Some(name) = &mail.from.name {
        from["name"] = json!(name);
    }
    json!({
        "personalizations": [{"to": to}],
        "from": from,
        "subject": mail.texts.subject,
        "content": [
            {"type": "text/plain", "value": mail.texts.text},
            {"type": "text/html", "value": mail.texts.html},
        ],
        "headers": {
            "Message-ID": mail.message_id,
            "X-Churnd-Key": mail.key,
            "Auto-Submitted": "auto-generated",
            "List-Id": mail.list_id,
        },
        "custom_args": {"churnd_key": mail.key},
        "tracking_settings": {"click_tracking": {"enable": false}, "open_tracking": {"enable": false}},
    })
}

fn judge(answer: &Response<Bytes>, now: Timestamp) -> Result<Receipt, Failure> {
    let status = answer.status();
    match status {
        _ if status.is_success() => Ok(Receipt::default()),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(gone(format!(
            "SendGrid answers {status}: check sendgrid.api_key, its right to send mail, and sending.mail_from: {}",
            told(answer.body())
        ))),
        StatusCode::TOO_MANY_REQUESTS => {
            let wait = retry_after(answer.headers(), now).or_else(|| until_reset(answer, now));
            Err(again(format!("SendGrid answers {status}"), wait))
        }
        StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE => {
            Err(refused(format!("SendGrid answers {status}: {}", told(answer.body()))))
        }
        _ => Err(judged("SendGrid", answer, now)),
    }
}

/// `X-RateLimit-Reset`: the second at which more is taken.
fn until_reset(answer: &Response<Bytes>, now: Timestamp) -> Option<Duration> {
    let reset: i64 = answer.headers().get("x-ratelimit-reset")?.to_str().ok()?.trim().parse().ok()?;
    let millis = Timestamp::from_seconds(reset).millis_since(now);
    Some(Duration::from_millis(u64::try_from(millis).unwrap_or_default()).min(LONGEST_WAIT))
}

/// What SendGrid says is wrong.
fn told(body: &[u8]) -> String {
    let answer: Value = serde_json::from_slice(body).unwrap_or_default();
    let message = answer["errors"][0]["message"].as_str().unwrap_or("it does not say why");
    said(message.as_bytes())
}
