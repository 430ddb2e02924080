//! Answers as Segment gives them: its SDKs look at the status, at `success`, `code` and `message`, and at `Retry-After`.

use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::bridge::error::ApiError;

/// After how many seconds to try again where nobody said.
const LATER_SECONDS: u32 = 1;

/// It was taken: `{"success":true}`, always.
pub(super) struct Success;

/// It was taken.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes the answer, which never changes")]
pub(super) struct Taken {
    /// Always true.
    success: bool,
}

/// It was not taken.
#[derive(Serialize, ToSchema)]
pub(super) struct Refused<'a> {
    /// Always false.
    success: bool,
    /// `invalid_request`, `not_found`, `rate_limited` or `unavailable`.
    code: &'static str,
    /// What is wrong and what to do, for people.
    message: &'a str,
}

/// A refusal or a failure, to be told in Segment's words.
pub(super) struct Failure(ApiError);

impl Refused<'_> {
    /// What was asked for is not there.
    pub(super) fn not_found(message: &str) -> Response {
        let answer = Refused { success: false, code: "not_found", message };
        (StatusCode::NOT_FOUND, Json(answer)).into_response()
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self(error)
    }
}

impl IntoResponse for Success {
    fn into_response(self) -> Response {
        ([(header::CONTENT_TYPE, "application/json")], r#"{"success":true}"#).into_response()
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let Self(error) = self;
        error.log();
        let (status, code) = match error.status() {
            StatusCode::TOO_MANY_REQUESTS => (StatusCode::TOO_MANY_REQUESTS, "rate_limited"),
            // A body that came too slowly can be sent again.
            StatusCode::REQUEST_TIMEOUT => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
            status if status.is_server_error() => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
            _ => (StatusCode::BAD_REQUEST, "invalid_request"),
        };
        let answer = Json(Refused { success: false, code, message: error.detail() });
        if status == StatusCode::BAD_REQUEST {
            return (status, answer).into_response();
        }
        let seconds = error.retry_after_seconds().unwrap_or(LATER_SECONDS);
        (status, [(header::RETRY_AFTER, seconds.to_string())], answer).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn answered(error: ApiError) -> (u16, Option<String>, String) {
        let response = Failure::from(error).into_response();
        let status = response.status().as_u16();
        let wait = response.headers().get(header::RETRY_AFTER).map(|value| value.to_str().unwrap().to_owned());
        let body = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
        (status, wait, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn sdks_hear_only_what_they_understand() {
        for status in [400, 401, 403, 404, 413, 415, 422] {
            let error = ApiError::new(StatusCode::from_u16(status).unwrap(), "any", "because");
            let body = r#"{"success":false,"code":"invalid_request","message":"because"}"#;
            assert_eq!(answered(error).await, (400, None, body.to_owned()), "{status}");
        }
        for status in [408, 500, 502, 503, 504] {
            let error = ApiError::new(StatusCode::from_u16(status).unwrap(), "any", "because");
            let (status, wait, body) = answered(error).await;
            assert_eq!((status, wait.as_deref()), (503, Some("1")));
            assert!(body.contains(r#""code":"unavailable""#), "{body}");
        }
        let slower = ApiError::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", "slower").retry_after(7);
        let (status, wait, _) = answered(slower).await;
        assert_eq!((status, wait.as_deref()), (429, Some("7")));
    }

    #[tokio::test]
    async fn success_is_told_byte_by_byte() {
        let response = Success.into_response();
        assert_eq!(response.status(), 200);
        assert_eq!(axum::body::to_bytes(response.into_body(), 100).await.unwrap(), r#"{"success":true}"#);
    }
}
