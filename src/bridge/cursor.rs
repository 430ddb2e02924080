//! Cursors: where the next page of a list begins, as an opaque text.
//!
//! A cursor belongs to one list of one account, with its filters and its order, and is refused anywhere else. It is not
//! signed: it is a place in a list, and whoever makes one up sees no more than the list that its key opens.

use axum::http::StatusCode;
use data_encoding::BASE64URL_NOPAD;
use serde::{Serialize, de::DeserializeOwned};
use xxhash_rust::xxh3::xxh3_64;

use super::{error::ApiError, query::Limit};
use crate::event::ids::AccountId;

/// The longest cursor that is looked at.
const MAX_CHARACTERS: usize = 1_024;

/// A list: what a cursor belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct List(u64);

impl List {
    /// The list of that name in an account; `filters` are all that narrows or orders it.
    pub(super) fn new(account: &AccountId, name: &str, filters: &impl std::fmt::Debug) -> Self {
        Self(xxh3_64(format!("{account}\0{name}\0{filters:?}").as_bytes()))
    }

    /// The text of a place.
    fn write<At: Serialize>(self, at: &At) -> String {
        BASE64URL_NOPAD.encode(&rmp_serde::to_vec(&(self.0, at)).expect("a place has only plain values"))
    }

    /// The place of a text.
    pub(super) fn read<At: DeserializeOwned>(self, text: &str) -> Result<At, ApiError> {
        if text.len() > MAX_CHARACTERS {
            return Err(invalid());
        }
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| invalid())?;
        match rmp_serde::from_slice::<(u64, At)>(&bytes) {
            Ok((list, at)) if list == self.0 => Ok(at),
            _ => Err(invalid()),
        }
    }

    /// The page of rows that were asked for with one more than its limit, and the cursor of the next if there is one.
    pub(super) fn page<Row, At: Serialize>(
        self,
        mut rows: Vec<Row>,
        limit: Limit,
        place_of: impl FnOnce(&Row) -> At,
    ) -> (Vec<Row>, Option<String>) {
        if rows.len() <= limit.0 {
            return (rows, None);
        }
        rows.truncate(limit.0);
        let next = rows.last().map(|last| self.write(&place_of(last)));
        (rows, next)
    }
}

/// One answer for whatever is wrong with a cursor.
pub(super) fn invalid() -> ApiError {
    let detail = "the query's parameters: cursor: it is none that this list gave with these filters; \
        leave it out to begin with the first page";
    ApiError::new(StatusCode::BAD_REQUEST, "invalid_cursor", detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(account: &str, name: &str, filters: &str) -> List {
        List::new(&AccountId::parse(account).unwrap(), name, &filters)
    }

    #[test]
    fn a_cursor_opens_its_own_list_only() {
        let own = list("acme", "alerts", "high");
        let text = own.write(&(7_i64, "c-1".to_owned()));
        assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'));
        assert_eq!(own.read::<(i64, String)>(&text).unwrap(), (7, "c-1".to_owned()));
        for other in [list("other", "alerts", "high"), list("acme", "events", "high"), list("acme", "alerts", "low")] {
            assert_eq!(other.read::<(i64, String)>(&text).unwrap_err().code(), "invalid_cursor");
        }
        assert!(own.read::<u64>(&text).is_err());
        for text in ["", "=", "AAAA", "ü", "\0", &text[1..], &"A".repeat(5_000)] {
            assert!(own.read::<(i64, String)>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn only_a_page_that_is_followed_by_another_has_a_cursor() {
        let own = list("acme", "numbers", "");
        let page = |count: u64| own.page((0..count).collect::<Vec<u64>>(), Limit(3), |row| *row);
        assert_eq!(page(3), (vec![0, 1, 2], None));
        assert_eq!(page(0), (vec![], None));
        let (rows, next) = page(4);
        assert_eq!(rows, [0, 1, 2]);
        assert_eq!(own.read::<u64>(&next.unwrap()).unwrap(), 2);
    }
}
