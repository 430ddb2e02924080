//! All routes, what surrounds them, and what is answered where there is none.
//!
//! A route is declared once, at its handler: path, method, bodies, and which keys open it. The router, `/openapi.json` and
//! the tests' matrix of access all come from that declaration, so none can forget a route.

use std::sync::Arc;

use axum::{
    Router,
    http::{Method, StatusCode, Uri, header},
    response::IntoResponse,
    routing::get,
};
use utoipa_axum::router::OpenApiRouter;

use super::{
    channels, cors, customers, dashboard, erasure, error::ApiError, observe::Observer, openapi, script, segment,
    state::Bridge, stripe, track,
};
use crate::telemetry::metrics::Metrics;

/// The routes of the API, `/openapi.json` that describes them, and the dashboard's pages.
pub fn api(bridge: Bridge) -> Router {
    let pages = dashboard::routes().with_state(bridge.clone());
    let (routes, mut document) = documented().with_state(bridge).split_for_parts();
    openapi::complete(&mut document);
    let text: Arc<str> = document.to_pretty_json().expect("the document has only plain values").into();
    routes.merge(pages).route("/openapi.json", get(move || async move { openapi_json(&text) }))
}

fn documented() -> OpenApiRouter<Bridge> {
    OpenApiRouter::new()
        .merge(track::routes())
        .merge(stripe::routes())
        .merge(customers::routes())
        .merge(erasure::routes())
        .merge(channels::routes())
        .merge(script::routes())
        .merge(segment::routes())
        .merge(super::slack::routes())
}

fn openapi_json(text: &str) -> impl IntoResponse + use<> {
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "max-age=300")];
    (headers, text.to_owned())
}

/// Adds the answers for unknown paths and methods, and what observes all requests; called last, when all routes are there.
pub fn complete(routes: Router, metrics: &Metrics) -> Router {
    let observer = Observer::new(metrics.clone());
    routes
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(axum::middleware::from_fn(cors::allow))
        .layer(axum::middleware::from_fn_with_state(observer, super::observe::observe))
}

async fn not_found(uri: Uri) -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "not_found", format!("there is nothing at {}", uri.path()))
}

async fn method_not_allowed(method: Method, uri: Uri) -> ApiError {
    let detail = format!("{method} is not possible at {}", uri.path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
}
