//! `/track.js`: the browser snippet, built into the program.
//!
//! Asked for by its version (`/track.js?v=0.1.0`) it never changes and is kept for a year; without, for an hour.

use std::{io::Write as _, sync::LazyLock};

use axum::{
    extract::RawQuery,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use sha2::{Digest as _, Sha256};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::state::Bridge;

const SCRIPT: &str = include_str!("../../sdk/browser/track.min.js");
const VERSION: &str = env!("CARGO_PKG_VERSION");
const FOR_A_YEAR: &str = "public, max-age=31536000, immutable";
const FOR_AN_HOUR: &str = "public, max-age=3600, stale-while-revalidate=86400";

static ETAG: LazyLock<HeaderValue> = LazyLock::new(|| {
    let hash = hex::encode(&Sha256::digest(SCRIPT.as_bytes())[..16]);
    HeaderValue::from_str(&format!("\"{hash}\"")).expect("hexadecimal digits in quotes")
});

static PACKED: LazyLock<Bytes> = LazyLock::new(|| {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(SCRIPT.as_bytes()).expect("writing to memory cannot fail");
    encoder.finish().expect("writing to memory cannot fail").into()
});

/// The route of the script.
pub fn routes() -> OpenApiRouter<Bridge> {
    OpenApiRouter::new().routes(routes!(track_js))
}

#[utoipa::path(
    get, path = "/track.js", tag = "Tracking",
    params(("v" = Option<String>, Query, description = "The version: with the current one the answer may be kept for a year")),
    responses(
        (status = OK, description = "The browser snippet", body = String, content_type = "text/javascript"),
        (status = NOT_MODIFIED, description = "You have it already"),
    ),
    security(()),
)]
async fn track_js(RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let current = query.is_some_and(|query| query.split('&').any(|pair| pair.strip_prefix("v=") == Some(VERSION)));
    let fixed = [
        (header::ETAG, ETAG.clone()),
        (header::CACHE_CONTROL, HeaderValue::from_static(if current { FOR_A_YEAR } else { FOR_AN_HOUR })),
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*")),
        (header::HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("cross-origin")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    if headers.get(header::IF_NONE_MATCH).is_some_and(holds_ours) {
        return (StatusCode::NOT_MODIFIED, fixed).into_response();
    }
    let kind = [(header::CONTENT_TYPE, "text/javascript; charset=utf-8"), (header::VARY, "accept-encoding")];
    if headers.get(header::ACCEPT_ENCODING).is_some_and(takes_gzip) {
        return (fixed, kind, [(header::CONTENT_ENCODING, "gzip")], PACKED.clone()).into_response();
    }
    (fixed, kind, SCRIPT).into_response()
}

fn takes_gzip(encodings: &HeaderValue) -> bool {
    let encodings = encodings.to_str().unwrap_or_default();
    encodings.split(',').any(|encoding| match encoding.trim().split_once(';') {
        None => encoding.trim() == "gzip",
        Some((name, quality)) => name.trim() == "gzip" && !quality.trim().starts_with("q=0"),
    })
}

fn holds_ours(tags: &HeaderValue) -> bool {
    let ours = ETAG.to_str().unwrap_or_default();
    let tags = tags.to_str().unwrap_or_default();
    tags.split(',').map(|tag| tag.trim().trim_start_matches("W/")).any(|tag| tag == ours || tag == "*")
}
