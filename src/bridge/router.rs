//! All routes, and what is answered where there is none.

use axum::{
    Router,
    http::{Method, StatusCode, Uri},
};

use super::error::ApiError;

/// Adds the answers for unknown paths and methods; called last, when all routes are there.
pub fn complete(routes: Router) -> Router {
    routes.fallback(not_found).method_not_allowed_fallback(method_not_allowed)
}

async fn not_found(uri: Uri) -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "not_found", format!("there is nothing at {}", uri.path()))
}

async fn method_not_allowed(method: Method, uri: Uri) -> ApiError {
    let detail = format!("{method} is not possible at {}", uri.path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
}
