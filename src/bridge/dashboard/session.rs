//! Who is signed in: a random cookie, whose hash stands in Postgres with the account that it opens.
//!
//! A session is looked up with each request, so that one that ended, or whose key was revoked, opens nothing from then on.
//! Over TLS the cookie has another name, which browsers take from nobody else: it cannot be planted by a page without.

use std::{fmt, time::Duration};

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, HeaderValue, Method, header, request::Parts},
};
use secrecy::{ExposeSecret as _, SecretString};

use super::{
    super::{error::ApiError, state::Bridge},
    error::{PART, PageError},
};
use crate::{
    bridge::client_address::OverTls,
    event::ids::AccountId,
    store::dashboard::{LONGEST_SECONDS, SessionHash, StoredSession},
};

/// A page says that the database is away rather than wait for longer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Browsers store it only if it came over TLS, and send it over TLS only.
const SECURE_COOKIE: &str = "__Secure-churnd_session";
const PLAIN_COOKIE: &str = "churnd_session";

/// Somebody who is signed in, and what they may see: their account and nothing else.
#[derive(Clone)]
pub(super) struct Visitor {
    /// The account that their key opens.
    pub(super) account: AccountId,
    /// What every form must hold, as its field `csrf`.
    pub(super) csrf: String,
    /// What they want to be called.
    name: Option<String>,
    key_prefix: String,
    pub(super) hash: SessionHash,
}

impl Visitor {
    /// Who notes something, for those who read it later.
    pub(super) fn name(&self) -> String {
        self.name.clone().unwrap_or_else(|| format!("key {}…", self.key_prefix))
    }
}

impl fmt::Debug for Visitor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Visitor")
            .field("account", &self.account)
            .field("hash", &self.hash)
            .finish_non_exhaustive()
    }
}

impl From<StoredSession> for Visitor {
    fn from(stored: StoredSession) -> Self {
        Self {
            account: stored.account,
            csrf: stored.csrf,
            name: stored.name,
            key_prefix: stored.key_prefix,
            hash: stored.hash,
        }
    }
}

impl FromRequestParts<Bridge> for Visitor {
    type Rejection = PageError;

    async fn from_request_parts(parts: &mut Parts, bridge: &Bridge) -> Result<Self, PageError> {
        let is_part = parts.headers.contains_key(PART);
        let session = match cookie_of(parts, bridge) {
            Some(hash) => {
                let late = |_| ApiError::unavailable("the database does not answer: try again", 2);
                tokio::time::timeout(PATIENCE, bridge.store.session(hash)).await.map_err(late)??
            }
            None => None,
        };
        let Some(session) = session else {
            if is_part {
                return Err(PageError::SignedOutPart);
            }
            let asked = parts.uri.path_and_query().map_or("/dashboard", |asked| asked.as_str());
            let next = if parts.method == Method::GET { asked } else { "/dashboard" };
            return Err(PageError::SignedOut { next: next.to_owned() });
        };
        // A page that is merely open is not in use.
        if !is_part {
            bridge.store.note_session(&session).await?;
        }
        Ok(session.into())
    }
}

/// The session's hash, if the request shows a cookie.
pub(super) fn cookie_of(parts: &Parts, bridge: &Bridge) -> Option<SessionHash> {
    let name = cookie_name(is_secure(parts, bridge));
    cookie_values(&parts.headers, name).next().and_then(SessionHash::of)
}

/// Whether the visitor's browser speaks TLS.
pub(super) fn is_secure(parts: &Parts, bridge: &Bridge) -> bool {
    let announced = bridge.public_url.as_deref().is_some_and(|url| url.starts_with("https:"));
    announced || parts.extensions.get::<OverTls>().is_some_and(|over| over.0)
}

fn cookie_name(secure: bool) -> &'static str {
    if secure { SECURE_COOKIE } else { PLAIN_COOKIE }
}

fn cookie_values<'a>(headers: &'a HeaderMap, name: &'static str) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    lines
        .flat_map(|line| line.split(';'))
        .filter_map(move |pair| pair.trim().split_once('=').filter(|(found, _)| *found == name).map(|(_, value)| value))
}

/// The header that gives a browser its cookie.
pub(super) fn set_cookie(secure: bool, cookie: &SecretString) -> HeaderValue {
    let mut value = written(secure, cookie.expose_secret(), LONGEST_SECONDS);
    value.set_sensitive(true);
    value
}

/// The header that takes it back.
pub(super) fn forget_cookie(secure: bool) -> HeaderValue {
    written(secure, "", 0)
}

fn written(secure: bool, value: &str, seconds: u32) -> HeaderValue {
    let name = cookie_name(secure);
    let attribute = if secure { "; Secure" } else { "" };
    // Lax: a link in a mail or a chat finds who follows it signed in, a form on another page does not.
    let text = format!("{name}={value}; Path=/dashboard; Max-Age={seconds}; HttpOnly; SameSite=Lax{attribute}");
    HeaderValue::from_str(&text).expect("letters, digits and signs")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_found_among_others_by_its_whole_name() {
        let headers = HeaderMap::from_iter([
            (header::COOKIE, HeaderValue::from_static("xchurnd_session=1; churnd_session=2 ;churnd_sessionx=3")),
            (header::COOKIE, HeaderValue::from_static("__Secure-churnd_session=4; broken")),
        ]);
        assert_eq!(cookie_values(&headers, PLAIN_COOKIE).collect::<Vec<_>>(), ["2"]);
        assert_eq!(cookie_values(&headers, SECURE_COOKIE).collect::<Vec<_>>(), ["4"]);
    }

    #[test]
    fn cookies_are_closed_to_scripts_and_other_sites() {
        let secret = SecretString::from("abc".to_owned());
        for (secure, start, end) in [
            (true, "__Secure-churnd_session=abc; Path=/dashboard; Max-Age=604800; ", "; Secure"),
            (false, "churnd_session=abc; ", "Lax"),
        ] {
            let value = set_cookie(secure, &secret);
            let text = value.to_str().unwrap();
            assert!(
                text.starts_with(start) && text.ends_with(end) && text.contains("; HttpOnly; SameSite=Lax"),
                "{text}"
            );
            assert!(value.is_sensitive());
            assert!(forget_cookie(secure).to_str().unwrap().contains("session=; Path=/dashboard; Max-Age=0; "));
        }
    }
}
