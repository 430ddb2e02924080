//! What a visitor sends: a form of one of our pages, in a session.
//!
//! It must hold the session's token, and must not say that it comes from elsewhere: a page of another site can have a
//! browser send a form here, but it can neither read the token nor hide where it stands.

use axum::{
    extract::{FromRequest, Request},
    http::{HeaderMap, header, request::Parts},
};
use subtle::ConstantTimeEq as _;

use super::{
    super::{
        body::{self, BodyLimits},
        error::ApiError,
        state::Bridge,
    },
    error::PageError,
    session::Visitor,
};
use axum::extract::FromRequestParts as _;

/// The most bytes of a form.
const MAX_BYTES: usize = 32 * 1024;
/// The field that holds the session's token.
const CSRF: &str = "csrf";

/// A form's fields, in their order.
#[derive(Clone, Default)]
pub(super) struct Fields(Vec<(String, String)>);

impl Fields {
    /// Reads `a=b&c=d`.
    pub(super) fn read(text: &[u8]) -> Self {
        Self(url::form_urlencoded::parse(text).into_owned().collect())
    }

    /// The first field of that name, without space around it; empty if there is none.
    pub(super) fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(found, _)| found == name).map_or("", |(_, value)| value.trim())
    }

    /// The same, if anything was written into it.
    pub(super) fn filled(&self, name: &str) -> Option<&str> {
        Some(self.get(name)).filter(|text| !text.is_empty())
    }
}

/// A form that a visitor sent from one of our pages.
pub(super) struct Posted {
    /// Who.
    pub(super) visitor: Visitor,
    /// What.
    pub(super) fields: Fields,
}

impl FromRequest<Bridge> for Posted {
    type Rejection = PageError;

    async fn from_request(request: Request, bridge: &Bridge) -> Result<Self, PageError> {
        let (mut parts, body) = request.into_parts();
        let visitor = Visitor::from_request_parts(&mut parts, bridge).await?;
        if !is_from_here(&parts, bridge) {
            return Err(PageError::Forged);
        }
        let fields = read(&parts.headers, body, bridge).await?;
        let shown = fields.get(CSRF).as_bytes().ct_eq(visitor.csrf.as_bytes());
        if !bool::from(shown) {
            return Err(PageError::Forged);
        }
        Ok(Self { visitor, fields })
    }
}

/// Reads a form's fields.
pub(super) async fn read(headers: &HeaderMap, body: axum::body::Body, bridge: &Bridge) -> Result<Fields, ApiError> {
    let limits = BodyLimits { bytes: MAX_BYTES, time: bridge.body_time, compressed: false };
    Ok(Fields::read(&body::read(headers, body, limits).await?))
}

/// Whether nothing says that the form comes from another site. Browsers always say it, by one header or by two.
pub(super) fn is_from_here(parts: &Parts, bridge: &Bridge) -> bool {
    let said = |name: &str| parts.headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let site_fits = said("sec-fetch-site").is_none_or(|site| matches!(site, "same-origin" | "none"));
    let origin_fits = said(header::ORIGIN.as_str()).is_none_or(|origin| {
        let host = origin.split_once("://").map_or("", |(_, host)| host);
        let own = bridge.public_url.as_deref().is_some_and(|url| url.eq_ignore_ascii_case(origin));
        own || said(header::HOST.as_str()).is_some_and(|own| !host.is_empty() && own.eq_ignore_ascii_case(host))
            // A proxy may have another host than its visitors see; their browser knows better.
            || (said("sec-fetch-site") == Some("same-origin") && origin != "null")
    });
    site_fits && origin_fits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_and_trimmed() {
        let fields = Fields::read(b"a=+b%20c+&d=&a=2&%C3%BC=%E2%82%AC&broken");
        assert_eq!((fields.get("a"), fields.get("d"), fields.get("ü"), fields.get("e")), ("b c", "", "€", ""));
        assert_eq!((fields.filled("a"), fields.filled("d"), fields.filled("broken")), (Some("b c"), None, None));
    }
}
