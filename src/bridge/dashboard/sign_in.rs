//! Signing in with a secret key, and out again.
//!
//! The key comes in a form's field and goes nowhere: not into the page, not into a URL, not into the log.

use std::num::NonZeroU32;

use askama::Template;
use axum::{
    extract::{FromRequestParts as _, Request, State},
    http::{StatusCode, header},
    response::{AppendHeaders, IntoResponse, Redirect, Response},
};
use uuid::Uuid;

use super::{
    super::{access::client_of, keys::KeyRefusal, state::Bridge},
    error::PageError,
    form::{self, Fields, Posted},
    layout::Page,
    session::{self, Visitor},
};
use crate::{
    store::keys::KeyKind,
    telemetry::metrics::{KindLabel, ReasonLabel},
};

const HOME: &str = "/dashboard";
/// How many keys an address may try in a minute.
const TRIES_PER_MINUTE: NonZeroU32 = NonZeroU32::new(20).expect("it is not 0");
/// The bucket of those tries, beside those of keys.
const TRIES: Uuid = Uuid::from_u128(0x6461_7368_626f_6172_6420_7369_676e_2d69);
/// The most characters of a name.
const MAX_NAME_CHARACTERS: usize = 60;

#[derive(Template)]
#[template(path = "dashboard/sign_in.html")]
struct SignInPage<'a> {
    next: &'a str,
    name: &'a str,
    /// What was wrong with the last try.
    problem: Option<&'a str>,
}

/// The sign-in that leads back to a page.
pub(super) fn path_back_to(next: &str) -> String {
    if next == HOME {
        return "/dashboard/sign-in".to_owned();
    }
    let next: String = url::form_urlencoded::byte_serialize(next.as_bytes()).collect();
    format!("/dashboard/sign-in?next={next}")
}

/// Where to go after the sign-in: a page of ours, or the first one.
fn checked(next: &str) -> &str {
    let ours = next == HOME || next.strip_prefix(HOME).is_some_and(|rest| rest.starts_with(['/', '?']));
    let plain = next.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
        && !next.contains("//")
        && !next.contains("..");
    let elsewhere =
        !["/dashboard/sign-", "/dashboard/assets", "/dashboard/live"].iter().any(|path| next.starts_with(path));
    if ours && plain && elsewhere { next } else { HOME }
}

/// `GET /dashboard/sign-in`
pub(super) async fn page(State(bridge): State<Bridge>, request: Request) -> Response {
    let (mut parts, _) = request.into_parts();
    let query = Fields::read(parts.uri.query().unwrap_or_default().as_bytes());
    let next = checked(query.get("next"));
    if Visitor::from_request_parts(&mut parts, &bridge).await.is_ok() {
        return Redirect::to(next).into_response();
    }
    Page(SignInPage { next, name: "", problem: None }).into_response()
}

/// `POST /dashboard/sign-in`
pub(super) async fn sign_in(State(bridge): State<Bridge>, request: Request) -> Result<Response, PageError> {
    let (parts, body) = request.into_parts();
    if !form::is_from_here(&parts, &bridge) {
        return Err(PageError::Forged);
    }
    let fields = form::read(&parts.headers, body, &bridge).await?;
    let (next, name) = (checked(fields.get("next")), short(fields.get("name")));
    let again = |status: StatusCode, problem: &str| {
        (status, Page(SignInPage { next, name: &name, problem: Some(problem) })).into_response()
    };
    if bridge.rates.take(TRIES, client_of(&parts), TRIES_PER_MINUTE).is_err() {
        bridge.metrics.rate_limited.get_or_create(&KindLabel { kind: "dashboard" }).inc();
        return Ok(again(
            StatusCode::TOO_MANY_REQUESTS,
            "Too many tries from your address: wait a minute, then try again.",
        ));
    }
    let refuse = |reason, problem| {
        bridge.metrics.auth_failures.get_or_create(&ReasonLabel { reason }).inc();
        Ok(again(StatusCode::FORBIDDEN, problem))
    };
    let key = match bridge.keys.open(fields.get("key")).await {
        Ok(key) if key.kind == KeyKind::Publishable => return refuse("publishable", PUBLISHABLE),
        Ok(key) => key,
        Err(KeyRefusal::Invalid) => return refuse("invalid", INVALID),
        Err(KeyRefusal::Unavailable(error)) => return Err(error.into()),
    };
    let name_kept = Some(name.as_str()).filter(|name| !name.is_empty());
    let Some(begun) = bridge.store.begin_session(&key.account, key.id, name_kept).await? else {
        return refuse("invalid", INVALID);
    };
    // A session that the browser had before must not stay behind.
    if let Some(before) = session::cookie_of(&parts, &bridge) {
        bridge.store.end_session(before).await?;
    }
    let cookie = session::set_cookie(session::is_secure(&parts, &bridge), &begun.cookie);
    Ok((AppendHeaders([(header::SET_COOKIE, cookie)]), Redirect::to(next)).into_response())
}

const PUBLISHABLE: &str =
    "This is a publishable key (pk_…), which may only track. Sign in with a secret key, which begins with sk_.";
const INVALID: &str = "This key is not valid. It may have been revoked, or not copied whole.";

/// `POST /dashboard/sign-out`
pub(super) async fn sign_out(State(bridge): State<Bridge>, request: Request) -> Result<Response, PageError> {
    let (parts, body) = request.into_parts();
    let secure = session::is_secure(&parts, &bridge);
    let posted =
        <Posted as axum::extract::FromRequest<Bridge>>::from_request(Request::from_parts(parts, body), &bridge).await?;
    bridge.store.end_session(posted.visitor.hash).await?;
    let cookie = session::forget_cookie(secure);
    Ok((AppendHeaders([(header::SET_COOKIE, cookie)]), Redirect::to("/dashboard/sign-in")).into_response())
}

fn short(name: &str) -> String {
    name.chars().filter(|sign| !sign.is_control()).take(MAX_NAME_CHARACTERS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_of_ours_are_returned_to() {
        for next in
            ["/dashboard", "/dashboard/customers/a=40b", "/dashboard?level=high&search=a%20b", "/dashboard/system"]
        {
            assert_eq!(checked(next), next);
        }
        for next in [
            "",
            "/",
            "//evil.example",
            "https://evil.example",
            "/dashboardx",
            "/dashboard//evil.example",
            "/dashboard/../api",
            "/dashboard\\evil",
            "/dashboard/a b",
            "/dashboard/\r\nset-cookie: a=b",
            "javascript:alert(1)",
            "/dashboard/sign-out",
            "/dashboard/sign-in?next=/dashboard/sign-in",
            "/dashboard/assets/x.css",
            "/dashboard/live",
        ] {
            assert_eq!(checked(next), HOME, "{next}");
        }
        assert_eq!(path_back_to("/dashboard?a=b&c=d"), "/dashboard/sign-in?next=%2Fdashboard%3Fa%3Db%26c%3Dd");
    }
}
