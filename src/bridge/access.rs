//! Who asks, and whether they may: the key of a request, and what it opens.
//!
//! [`Tracker`] takes any key, with its origins and its rate; [`Reader`] takes secret keys only. A key opens its own account
//! and nothing else: no handler takes an account from a path, a query or a body.

use std::{net::IpAddr, num::NonZeroU32, sync::Arc};

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, StatusCode, header, request::Parts},
};
use data_encoding::{BASE64, BASE64_NOPAD};

use super::{
    client_address::ClientAddress,
    error::ApiError,
    keys::{Key, KeyRefusal},
    state::Bridge,
};
use crate::{
    event::ids::AccountId,
    store::keys::KeyKind,
    telemetry::metrics::{KindLabel, ReasonLabel},
};

/// The longest header value that may hold a key.
const MAX_CREDENTIAL_BYTES: usize = 512;

/// What a request may do.
#[derive(Clone, Debug)]
pub struct Grant {
    /// The key it came with.
    pub key: Arc<Key>,
    /// The client's address, as far as it is known.
    pub client: Option<IpAddr>,
}

impl Grant {
    /// The account that the key opens.
    pub fn account(&self) -> &AccountId {
        &self.key.account
    }

    /// The key is one of those that stand in web pages.
    pub fn is_public(&self) -> bool {
        self.key.kind == KeyKind::Publishable
    }
}

/// A request that may track: any key, within its origins and its rate.
#[derive(Clone, Debug)]
pub struct Tracker(pub Grant);

/// A request that may read and change: a secret key.
#[derive(Clone, Debug)]
pub struct Reader(pub Grant);

/// A request whose key only names the account, from anywhere and at any rate: what it brings must prove itself.
#[derive(Clone, Debug)]
pub struct Addressed(pub Grant);

impl FromRequestParts<Bridge> for Tracker {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, bridge: &Bridge) -> Result<Self, ApiError> {
        let text = credential(parts).ok_or_else(|| bridge.refuse(missing(), "missing"))?;
        bridge.admit(&text, &parts.headers, client_of(parts)).await.map(Self)
    }
}

impl FromRequestParts<Bridge> for Reader {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, bridge: &Bridge) -> Result<Self, ApiError> {
        let text = credential(parts).ok_or_else(|| bridge.refuse(missing(), "missing"))?;
        let grant = Grant { key: bridge.open(&text).await?, client: client_of(parts) };
        if grant.is_public() {
            return Err(bridge.refuse(publishable(), "publishable"));
        }
        bridge.limit(&grant)?;
        Ok(Self(grant))
    }
}

impl FromRequestParts<Bridge> for Addressed {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, bridge: &Bridge) -> Result<Self, ApiError> {
        let text = credential(parts).ok_or_else(|| bridge.refuse(missing(), "missing"))?;
        Ok(Self(Grant { key: bridge.open(&text).await?, client: client_of(parts) }))
    }
}

impl Bridge {
    /// Opens a key for tracking, wherever its text was found.
    pub async fn admit(&self, text: &str, headers: &HeaderMap, client: Option<IpAddr>) -> Result<Grant, ApiError> {
        let grant = Grant { key: self.open(text).await?, client };
        if !comes_from_allowed_origin(&grant.key, headers) {
            return Err(self.refuse(foreign_origin(), "origin"));
        }
        self.limit(&grant)?;
        Ok(grant)
    }

    async fn open(&self, text: &str) -> Result<Arc<Key>, ApiError> {
        self.keys.open(text).await.map_err(|refusal| match refusal {
            KeyRefusal::Invalid => self.refuse(invalid(), "invalid"),
            KeyRefusal::Unavailable(cause) => {
                ApiError::unavailable("the key cannot be looked up now: try again", 2).because(cause)
            }
        })
    }

    fn limit(&self, grant: &Grant) -> Result<(), ApiError> {
        let default = grant.is_public().then_some(self.tracking.publishable_rate_per_minute);
        let Some(rate) = grant.key.rate_per_minute.or(default).and_then(NonZeroU32::new) else { return Ok(()) };
        let client = grant.client.filter(|_| grant.is_public());
        self.rates.take(grant.key.id, client, rate).map_err(|wait| {
            self.metrics.rate_limited.get_or_create(&KindLabel { kind: grant.key.kind.as_str() }).inc();
            let seconds = u32::try_from(wait.as_millis().div_ceil(1_000)).unwrap_or(u32::MAX).max(1);
            let detail = format!("this key allows {rate} requests a minute: wait {seconds} s, or send batches");
            ApiError::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", detail).retry_after(seconds)
        })
    }

    fn refuse(&self, error: ApiError, reason: &'static str) -> ApiError {
        self.metrics.auth_failures.get_or_create(&ReasonLabel { reason }).inc();
        error
    }
}

fn missing() -> ApiError {
    let detail = "send your key in the header `x-api-key`, as `Authorization: Bearer`, or as `?key=`";
    ApiError::new(StatusCode::UNAUTHORIZED, "missing_key", detail)
}

/// One answer for keys that never were, were revoked, or are cut: none tells more than another.
fn invalid() -> ApiError {
    let detail = "this key is not valid: it may have been revoked or not copied whole; see `churnd key list`";
    ApiError::new(StatusCode::UNAUTHORIZED, "invalid_key", detail)
}

fn publishable() -> ApiError {
    let detail = "a publishable key may only track and identify: use a secret key, from a server";
    ApiError::new(StatusCode::FORBIDDEN, "publishable_key", detail)
}

fn foreign_origin() -> ApiError {
    let detail = "this key may not be used from this web origin: `churnd key list` shows its origins, and a new key may have others";
    ApiError::new(StatusCode::FORBIDDEN, "origin_not_allowed", detail)
}

/// Where the request came from.
pub(super) fn client_of(parts: &Parts) -> Option<IpAddr> {
    parts.extensions.get::<ClientAddress>().map(|client| client.0)
}

/// The key's text, from the first place that has one.
pub(super) fn credential(parts: &Parts) -> Option<String> {
    let header = |name| parts.headers.get(name).filter(|value| value.len() <= MAX_CREDENTIAL_BYTES)?.to_str().ok();
    if let Some(key) = header("x-api-key") {
        return Some(key.trim().to_owned());
    }
    header(header::AUTHORIZATION.as_str()).and_then(of_authorization).or_else(|| of_query(parts.uri.query()?))
}

/// `Bearer KEY`, or `Basic` of `KEY:` with or without a password, which is not looked at.
pub(super) fn of_authorization(value: &str) -> Option<String> {
    let (scheme, rest) = value.trim().split_once(' ')?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = BASE64.decode(rest.as_bytes()).or_else(|_| BASE64_NOPAD.decode(rest.as_bytes())).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let user = text.split_once(':').map_or(text.as_str(), |(user, _)| user);
    (!user.is_empty()).then(|| user.to_owned())
}

/// `key=…`; a key has no character that would be escaped.
fn of_query(query: &str) -> Option<String> {
    query.split('&').find_map(|pair| pair.strip_prefix("key=")).map(str::to_owned)
}

/// A key with a list of origins works from pages of these alone, and not from where no origin is told.
fn comes_from_allowed_origin(key: &Key, headers: &HeaderMap) -> bool {
    if key.allowed_origins.is_empty() {
        return true;
    }
    let origin = headers.get(header::ORIGIN).and_then(|origin| origin.to_str().ok());
    origin.is_some_and(|origin| key.allowed_origins.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(headers: &[(&'static str, &str)], uri: &str) -> Option<String> {
        let mut request = axum::http::Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        credential(&request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn keys_are_found_where_clients_put_them() {
        let basic = format!("Basic {}", BASE64.encode(b"pk_1:"));
        let bare = format!("basic {}", BASE64_NOPAD.encode(b"pk_1"));
        for (headers, uri) in [
            (vec![("x-api-key", "pk_1")], "/"),
            (vec![("authorization", "Bearer pk_1")], "/"),
            (vec![("authorization", "bearer  pk_1 ")], "/"),
            (vec![("authorization", basic.as_str())], "/"),
            (vec![("authorization", bare.as_str())], "/"),
            (vec![], "/?key=pk_1"),
            (vec![], "/?a=b&key=pk_1&c"),
            (vec![("x-api-key", "pk_1"), ("authorization", "Bearer pk_2")], "/?key=pk_3"),
            (vec![("authorization", "Digest x")], "/?key=pk_1"),
        ] {
            assert_eq!(found(&headers, uri).as_deref(), Some("pk_1"), "{headers:?} {uri}");
        }
    }

    #[test]
    fn what_is_no_key_is_none() {
        let empty = format!("Basic {}", BASE64.encode(b":secret"));
        for (headers, uri) in [
            (vec![], "/"),
            (vec![], "/?keys=pk_1&monkey=pk_1"),
            (vec![("authorization", "Basic ???")], "/"),
            (vec![("authorization", empty.as_str())], "/"),
            (vec![("authorization", "pk_1")], "/"),
        ] {
            assert_eq!(found(&headers, uri), None, "{headers:?} {uri}");
        }
    }

    #[test]
    fn a_list_of_origins_lets_no_other_in() {
        let key = |origins: &[&str]| Key {
            id: uuid::Uuid::nil(),
            account: AccountId::parse("acme").unwrap(),
            kind: KeyKind::Publishable,
            allowed_origins: origins.iter().map(ToString::to_string).collect(),
            rate_per_minute: None,
        };
        let from = |origin: &str| HeaderMap::from_iter([(header::ORIGIN, origin.parse().unwrap())]);
        assert!(comes_from_allowed_origin(&key(&[]), &HeaderMap::new()));
        assert!(comes_from_allowed_origin(&key(&[]), &from("https://any.example")));
        let listed = key(&["https://app.example", "http://localhost:3000"]);
        assert!(comes_from_allowed_origin(&listed, &from("https://APP.example")));
        assert!(comes_from_allowed_origin(&listed, &from("http://localhost:3000")));
        for other in ["https://app.example.evil.example", "http://app.example", "null", "https://app.example:444"] {
            assert!(!comes_from_allowed_origin(&listed, &from(other)), "{other}");
        }
        assert!(!comes_from_allowed_origin(&listed, &HeaderMap::new()));
    }
}
