//! The parameters of a query: read once, and refused with their name and what they may be.

use std::fmt;

use axum::{
    extract::{FromRequestParts, Query},
    http::{StatusCode, Uri, request::Parts},
};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error, Visitor},
};

use super::{error::ApiError, state::Bridge};

/// The most entries of a page.
pub(super) const MAX_LIMIT: usize = 200;
/// The entries of a page where nothing else is asked for.
const DEFAULT_LIMIT: usize = 50;
/// The longest echo of what was sent.
const MAX_DETAIL_CHARACTERS: usize = 300;

/// A query whose parameters were all understood.
#[derive(Clone, Debug)]
pub(super) struct Checked<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<Bridge> for Checked<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Bridge) -> Result<Self, ApiError> {
        read(parts.uri.query().unwrap_or_default()).map(Self)
    }
}

/// Reads a query; the key, which may stand in it too, is none of its parameters.
fn read<T: DeserializeOwned>(query: &str) -> Result<T, ApiError> {
    let parameters: Vec<&str> =
        query.split('&').filter(|pair| !pair.is_empty() && *pair != "key" && !pair.starts_with("key=")).collect();
    let uri: Uri = format!("/?{}", parameters.join("&")).parse().map_err(|_| invalid("it cannot be read"))?;
    match Query::try_from_uri(&uri) {
        Ok(Query(value)) => Ok(value),
        Err(rejection) => {
            let text = rejection.body_text();
            Err(invalid(text.split_once("query string: ").map_or(text.as_str(), |(_, problem)| problem)))
        }
    }
}

fn invalid(problem: &str) -> ApiError {
    let problem: String = problem.chars().take(MAX_DETAIL_CHARACTERS).collect();
    ApiError::new(StatusCode::BAD_REQUEST, "invalid_parameter", format!("the query's parameters: {problem}"))
}

/// How many entries a page has at the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limit(pub(super) usize);

impl Default for Limit {
    fn default() -> Self {
        Self(DEFAULT_LIMIT)
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Digits;
        impl Visitor<'_> for Digits {
            type Value = Limit;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, "a number from 1 to {MAX_LIMIT}")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Limit, E> {
                let limit = text.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
                limit.map(Limit).ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_str(Digits)
    }
}

/// A text of 1 to 255 characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ShortText(pub(super) String);

impl<'de> Deserialize<'de> for ShortText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.chars().count() {
            1..=255 => Ok(Self(text)),
            length => Err(D::Error::custom(format!("it has {length} characters: send 1 to 255"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::time::Timestamp;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        #[serde(default)]
        limit: Limit,
        color: Option<Color>,
        at: Option<Timestamp>,
        text: Option<ShortText>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "snake_case")]
    enum Color {
        Red,
        DarkBlue,
    }

    #[test]
    fn parameters_are_read() {
        let sample: Sample =
            read("limit=200&color=dark_blue&at=2026-03-01T12:00:00%2B01:00&text=a%20b+c&key=sk_1").unwrap();
        assert_eq!((sample.limit.0, sample.color), (200, Some(Color::DarkBlue)));
        assert_eq!(sample.at.unwrap().to_string(), "2026-03-01T11:00:00Z");
        assert_eq!(sample.text.unwrap().0, "a b c");
        assert_eq!(read::<Sample>("").unwrap().limit.0, 50);
        assert_eq!(read::<Sample>("&&key").unwrap().limit.0, 50);
    }

    #[test]
    fn a_refusal_names_the_parameter_and_what_it_may_be() {
        for (query, name, allowed) in [
            ("limit=0", "limit", "from 1 to 200"),
            ("limit=201", "limit", "from 1 to 200"),
            ("limit=-1", "limit", "from 1 to 200"),
            ("limit=", "limit", "from 1 to 200"),
            ("limit=5&limit=6", "limit", "duplicate"),
            ("color=green", "color", "`red`, `dark_blue`"),
            ("color=", "color", "`red`, `dark_blue`"),
            ("at=yesterday", "at", "RFC 3339"),
            ("text=", "text", "1 to 255"),
            ("colour=red", "colour", "`limit`, `color`, `at`, `text`"),
            ("%00=%00", "unknown", "`limit`"),
        ] {
            let error = read::<Sample>(query).unwrap_err();
            let detail = error.detail().replace(" or ", ", ");
            assert_eq!(error.code(), "invalid_parameter");
            assert!(detail.contains(name) && detail.contains(allowed), "{query}: {detail}");
        }
        assert!(read::<Sample>(&format!("color={}", "x".repeat(5_000))).unwrap_err().detail().len() < 400);
    }
}
