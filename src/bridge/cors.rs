//! Which pages may call: pages of any origin may track, and that is all they may.
//!
//! Only the paths that track are open. No credentials are allowed, so a browser sends no cookies; what a page may do is
//! what its key may do, and a key may be bound to origins.

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

const METHODS: HeaderValue = HeaderValue::from_static("GET, POST");
const HEADERS: HeaderValue =
    HeaderValue::from_static("authorization, content-type, content-encoding, traceparent, x-api-key, x-retry-count");
const EXPOSED: HeaderValue = HeaderValue::from_static("retry-after, x-request-id");
const ONE_DAY: HeaderValue = HeaderValue::from_static("86400");
const ASKED_METHOD: HeaderName = header::ACCESS_CONTROL_REQUEST_METHOD;

/// The paths that pages of any origin may call.
fn is_open(path: &str) -> bool {
    matches!(path, "/api/track" | "/api/track/batch" | "/api/identify") || path.starts_with("/v1/")
}

/// Answers preflights, and lets pages read the answers.
pub async fn allow(request: Request, next: Next) -> Response {
    if !is_open(request.uri().path()) {
        return next.run(request).await;
    }
    let origin = request.headers().get(header::ORIGIN).cloned();
    let preflight = request.method() == Method::OPTIONS && request.headers().contains_key(ASKED_METHOD);
    let mut response = if preflight { StatusCode::NO_CONTENT.into_response() } else { next.run(request).await };
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        if preflight {
            allow_preflight(headers);
        }
    }
    response
}

fn allow_preflight(headers: &mut HeaderMap) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HEADERS);
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, ONE_DAY);
}
