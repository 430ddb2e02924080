//! What the browser and mobile SDKs ask for before they send: where to, and that nothing else is to be loaded.

use axum::{
    Json,
    extract::{Path, Request, State, rejection::PathRejection},
    http::{HeaderMap, StatusCode, header, uri::Authority},
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::answer::{Failure, Refused};
use crate::bridge::{access::client_of, state::Bridge};

#[utoipa::path(
    get, path = "/v1/projects/{key}/settings", tag = "Segment",
    params(("key" = String, Path, description = "A publishable key")),
    responses(
        (status = OK, description = "The settings of Segment's SDKs: send to this host", body = serde_json::Value),
        (status = NOT_FOUND, description = "There is no such key", body = inline(Refused<'static>)),
        (status = TOO_MANY_REQUESTS, description = "Too often: see Retry-After", body = inline(Refused<'static>)),
        (status = SERVICE_UNAVAILABLE, description = "Not now", body = inline(Refused<'static>)),
    ),
)]
pub(super) async fn settings(
    State(bridge): State<Bridge>,
    key: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Failure> {
    let (parts, _) = request.into_parts();
    let Path(key) = key.unwrap_or_else(|_| Path(String::new()));
    match bridge.admit(&key, &parts.headers, client_of(&parts)).await {
        Ok(_) => {}
        Err(error) if error.status().is_client_error() && error.status() != StatusCode::TOO_MANY_REQUESTS => {
            return Ok(Refused::not_found(error.detail()));
        }
        Err(error) => return Err(error.into()),
    }
    let mut destination = json!({ "apiKey": key });
    if let Some(host) = host_of(&parts.headers) {
        destination["apiHost"] = format!("{host}/v1").into();
        if is_loopback(host.host()) {
            destination["protocol"] = "http".into();
        }
    }
    // No device destinations, no plan, and nothing measured that would go to Segment.
    let settings = json!({
        "integrations": { "Segment.io": destination },
        "metrics": { "sampleRate": 0 },
        "plan": {},
    });
    Ok(([(header::CACHE_CONTROL, "private, max-age=300")], Json(settings)).into_response())
}

/// The host as the client called it: behind a proxy only that can be reached.
fn host_of(headers: &HeaderMap) -> Option<Authority> {
    let host: Authority = headers.get(header::HOST)?.to_str().ok()?.parse().ok()?;
    (!host.as_str().contains('@')).then_some(host)
}

/// On one's own machine there is no TLS; everywhere else the SDKs' own default, https, holds.
fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ones_own_machine_is_without_tls() {
        for host in ["localhost", "127.0.0.1", "[::1]"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["churnd.example", "10.0.0.1", "localhost.example", ""] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn a_host_is_a_host() {
        let of = |text: &str| {
            let headers = HeaderMap::from_iter([(header::HOST, text.parse().unwrap())]);
            host_of(&headers).map(|host| host.to_string())
        };
        assert_eq!(of("churnd.example:8443").as_deref(), Some("churnd.example:8443"));
        for wrong in ["", "a b", "a/b", "user@host", "a\"b"] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }
}
