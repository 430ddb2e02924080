//! The dashboard: pages for people, made on the server, at `/dashboard`.
//!
//! A page is a handler that takes a `Visitor`, asks the store about the visitor's account, and gives back a `Page` of a
//! template under `templates/dashboard`; its route stands in `routes`, and in `layout::SECTIONS` if the navigation leads
//! to it. What changes something is a handler that takes a `Posted` form. Whatever goes wrong is a `PageError`, and a page
//! too. Pages work without scripts; scripts make them live.

mod assets; // style and scripts, kept by browsers for good
mod error; // what is shown when something is wrong
mod form; // what a visitor sends
mod layout; // what all pages have
mod session; // who is signed in
mod sign_in; // signing in and out
mod words; // money, times and levels as people read them
mod chart; // drawings
mod overview; // how the account stands
mod worked; // which interventions kept customers
mod channels; // where alerts go
mod system; // who works on what, and dead letters
pub mod live; // telling open pages that something changed
mod customers; // the list of customers at risk
mod customer; // one customer
mod score_chart; // a score over time
mod timeline; // what happened with a customer
mod act; // what visitors do about it

use axum::{
    Router,
    http::{HeaderName, HeaderValue, header},
    response::{Redirect, Response},
    routing::{any, get, post},
};

use self::{error::PageError, session::Visitor};
use super::state::Bridge;

/// Nothing comes from anywhere but here, nothing goes anywhere else, no script or style stands within a page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
    form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// All pages.
pub fn routes() -> Router<Bridge> {
    Router::new()
        .route("/dashboard", get(customers::customers))
        .route("/dashboard/", get(|| async { Redirect::permanent("/dashboard") }))
        .route("/dashboard/overview", get(overview::overview))
        .route("/dashboard/what-worked", get(worked::worked))
        .route("/dashboard/channels", get(channels::channels).post(channels::add))
        .route("/dashboard/channels/change", post(channels::change))
        .route("/dashboard/system", get(system::system))
        .route("/dashboard/system/replay", post(system::replay))
        .route("/dashboard/customers/{token}", get(customer::customer))
        .route("/dashboard/customers/{token}/alerts/{alert}/acknowledge", post(act::acknowledge))
        .route("/dashboard/customers/{token}/interventions", post(act::begin))
        .route("/dashboard/customers/{token}/interventions/{id}/close", post(act::end))
        .route("/dashboard/sign-in", get(sign_in::page).post(sign_in::sign_in))
        .route("/dashboard/sign-out", post(sign_in::sign_out))
        .route("/dashboard/live", get(live::live))
        .route("/dashboard/assets/{name}", get(assets::asset))
        .route("/dashboard/{*path}", any(no_page))
        .method_not_allowed_fallback(not_that_way)
        .layer(axum::middleware::map_response(guarded))
}

async fn no_page(_: Visitor) -> PageError {
    PageError::NotFound
}

async fn not_that_way() -> PageError {
    PageError::Method
}

/// What every answer says to browsers besides its body.
async fn guarded(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        // Not `no-referrer`: browsers would then not tell where a form comes from.
        (header::REFERRER_POLICY, "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}
