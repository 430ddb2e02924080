//! What an HTTP answer, or its absence, means for a message.

use std::time::Duration;

use bytes::Bytes;
use hyper::{Response, StatusCode, header::HeaderMap};

use super::send::Failure;
use crate::{
    event::time::Timestamp,
    web::{WebError, guard::is_forbidden},
};

/// The longest wait that is believed.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3_600);
/// How much of what a receiver says is repeated.
const SAID_CHARS: usize = 120;

/// Try again.
pub(super) fn again(reason: impl Into<String>, after: Option<Duration>) -> Failure {
    Failure::Again { reason: reason.into(), after }
}

/// This message will never be taken.
pub(super) fn refused(reason: impl Into<String>) -> Failure {
    Failure::Refused { reason: reason.into() }
}

/// The target takes nothing any more.
pub(super) fn gone(reason: impl Into<String>) -> Failure {
    Failure::Gone { reason: reason.into() }
}

/// No answer came.
pub(super) fn unanswered(error: &WebError) -> Failure {
    if is_forbidden(error) {
        return gone(error.to_string());
    }
    again(error.to_string(), None)
}

/// How long a receiver asks to wait: `Retry-After` in seconds or as a date.
pub(super) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get("retry-after")?.to_str().ok()?.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let instant = jiff::fmt::rfc2822::parse(text).ok()?;
            let millis = instant.timestamp().as_millisecond().saturating_sub(now.millis());
            Duration::from_millis(u64::try_from(millis).unwrap_or_default())
        }
    };
    Some(wait.min(LONGEST_WAIT))
}

/// An answer that is not the one hoped for, judged by its status alone.
pub(super) fn judged(who: &str, answer: &Response<Bytes>, now: Timestamp) -> Failure {
    let status = answer.status();
    let reason = format!("{who} answers {status}");
    match status {
        StatusCode::GONE => gone(reason),
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => {
            again(reason, retry_after(answer.headers(), now))
        }
        _ if status.is_server_error() => again(reason, retry_after(answer.headers(), now)),
        _ if status.is_redirection() => again(format!("{reason}: redirects are not followed"), None),
        _ => refused(reason),
    }
}

/// The beginning of what a receiver says, as one line; for receivers that operators name.
pub(super) fn said(body: &[u8]) -> String {
    let text: String =
        String::from_utf8_lossy(body).chars().map(|sign| if sign.is_control() { ' ' } else { sign }).collect();
    super::words::cut(text.trim(), SAID_CHARS)
}
