//! What is answered when something is wrong: RFC 9457 problem details with a stable code.
//!
//! The public part says what the caller can do; the private cause goes to the log, once, when the answer is made.

use std::collections::BTreeMap;

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use tracing::{debug, error};
use utoipa::{
    IntoResponses, PartialSchema,
    openapi::{self, RefOr, content::Content, header::Header},
};

use crate::store::StoreError;

/// A refusal or a failure, as an answer.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    code: &'static str,
    detail: String,
    retry_after_seconds: Option<u32>,
    cause: Option<anyhow::Error>,
}

/// RFC 9457 problem details, with a stable code.
#[derive(Serialize, utoipa::ToSchema)]
pub struct Problem<'a> {
    /// Always `about:blank`: the code tells the problems apart.
    r#type: &'static str,
    /// The status in words.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// What is wrong, in `snake_case`; stable.
    code: &'static str,
    /// What is wrong and what to do, for people.
    detail: &'a str,
}

impl ApiError {
    /// An answer with a status, a stable code in `snake_case`, and a sentence for the caller.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), retry_after_seconds: None, cause: None }
    }

    /// Something the daemon needs is away; the caller should try again.
    pub fn unavailable(detail: impl Into<String>, retry_after_seconds: u32) -> Self {
        let error = Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail);
        Self { retry_after_seconds: Some(retry_after_seconds), ..error }
    }

    /// The stable code.
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// The sentence for the caller.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// When the caller may send the same again, if that may help.
    pub fn retry_after_seconds(&self) -> Option<u32> {
        self.retry_after_seconds
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Adds what really happened, for the log alone.
    #[must_use]
    pub fn because(self, cause: impl Into<anyhow::Error>) -> Self {
        Self { cause: Some(cause.into()), ..self }
    }

    /// Asks the caller to come back later.
    #[must_use]
    pub fn retry_after(self, seconds: u32) -> Self {
        Self { retry_after_seconds: Some(seconds), ..self }
    }

    /// Writes down what really happened; for answers that are not made of this.
    pub(super) fn log(&self) {
        let cause = self.cause.as_ref().map(|cause| format!(": {cause:#}")).unwrap_or_default();
        if self.status.is_server_error() {
            error!(status = self.status.as_u16(), code = self.code, "answered `{}`{cause}", self.code);
        } else {
            debug!(status = self.status.as_u16(), code = self.code, "refused with `{}`{cause}", self.code);
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        if error.is_transient() {
            return Self::unavailable("the database cannot be asked now: try again", 2).because(error);
        }
        let detail = "something is wrong on our side: it was noted";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail).because(error)
    }
}

/// The refusals of a route that names a customer, as they stand in the document.
pub(super) struct Refused;

/// The refusals of a route that lists, as they stand in the document.
pub(super) struct RefusedList;

type Responses = BTreeMap<String, RefOr<openapi::Response>>;

impl IntoResponses for Refused {
    fn responses() -> Responses {
        let mut responses = RefusedList::responses();
        responses.insert("404".to_owned(), problem("Nothing is known of it in this account").into());
        responses
    }
}

impl IntoResponses for RefusedList {
    fn responses() -> Responses {
        let later = "How many seconds to wait before asking again";
        let mut wait = Header::default();
        wait.description = Some(later.to_owned());
        let mut unavailable = problem("What it needs is away: ask again later");
        unavailable.headers.insert("retry-after".to_owned(), wait.into());
        [
            ("400", problem("A parameter, or the body, is not what it may be: the detail names it")),
            ("401", problem("No key, or one that is not valid")),
            ("403", problem("A publishable key, which may only track and identify")),
            ("503", unavailable),
            ("default", problem("Why not")),
        ]
        .into_iter()
        .map(|(status, response)| (status.to_owned(), response.into()))
        .collect()
    }
}

fn problem(description: &str) -> openapi::Response {
    let schema = <Problem<'static> as PartialSchema>::schema();
    let content = Content::new(Some(schema));
    openapi::ResponseBuilder::new().description(description).content("application/problem+json", content).build()
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        self.log();
        let problem = Problem {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            code: self.code,
            detail: &self.detail,
        };
        let mut response = (self.status, Json(problem)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}
