//! What is shown when something is wrong: a page that says what to do, never JSON.

use askama::Template;
use axum::{
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
};

use super::{super::error::ApiError, layout::Page, sign_in};
use crate::{pipeline::risk::RiskError, store::StoreError};

/// Set by the scripts when they ask for a part of a page.
pub(super) const PART: HeaderName = HeaderName::from_static("x-dashboard-part");

/// Why a page cannot be shown.
#[derive(Debug)]
pub(super) enum PageError {
    /// Nobody is signed in; `next` is where to go afterwards.
    SignedOut { next: String },
    /// Nobody is signed in, and a script asks: it must take the visitor to the sign-in.
    SignedOutPart,
    /// There is no such page, or no such thing in this account.
    NotFound,
    /// Not with this method.
    Method,
    /// The form does not come from one of our pages of this session.
    Forged,
    /// Something else is wrong.
    Failed(Box<ApiError>),
}

#[derive(Template)]
#[template(path = "dashboard/error.html")]
struct ErrorPage<'a> {
    title: &'a str,
    text: &'a str,
    /// Loads itself again by itself.
    retries: bool,
}

impl From<ApiError> for PageError {
    fn from(error: ApiError) -> Self {
        if error.status() == StatusCode::NOT_FOUND { Self::NotFound } else { Self::Failed(Box::new(error)) }
    }
}

impl From<StoreError> for PageError {
    fn from(error: StoreError) -> Self {
        ApiError::from(error).into()
    }
}

impl From<RiskError> for PageError {
    fn from(error: RiskError) -> Self {
        ApiError::from(error).into()
    }
}

impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        let show = |status: StatusCode, title: &str, text: &str, retries: bool| {
            (status, Page(ErrorPage { title, text, retries })).into_response()
        };
        match self {
            Self::SignedOut { next } => Redirect::to(&sign_in::path_back_to(&next)).into_response(),
            Self::SignedOutPart => StatusCode::UNAUTHORIZED.into_response(),
            Self::NotFound => {
                let text = "There is nothing here that your account can see. It may have been moved or erased.";
                show(StatusCode::NOT_FOUND, "Not found", text, false)
            }
            Self::Method => {
                let text = "This address only takes a form that was sent from a page. Go back and try again.";
                show(StatusCode::METHOD_NOT_ALLOWED, "Not possible", text, false)
            }
            Self::Forged => {
                let text = "The form is older than your session, or was not sent from this dashboard. Nothing was \
                    changed: go back, load the page again, and repeat it.";
                show(StatusCode::FORBIDDEN, "Please try again", text, false)
            }
            Self::Failed(error) => {
                error.log();
                let status = error.status();
                match error.retry_after_seconds() {
                    Some(seconds) if status == StatusCode::SERVICE_UNAVAILABLE => {
                        let text = "The database does not answer right now. Nothing is lost, events still come in. This \
                            page tries again by itself every few seconds.";
                        let mut response = show(status, "Just a moment", text, true);
                        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
                        response
                    }
                    _ if status.is_server_error() => {
                        let text = "Something is wrong on our side. It was noted with this page's request id.";
                        show(status, "Something went wrong", text, false)
                    }
                    _ => show(status, "That did not work", error.detail(), false),
                }
            }
        }
    }
}
