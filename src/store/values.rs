//! How our values stand in Postgres: instants, text with any character, unsigned numbers.
//!
//! Conversions are total on the way in (what a column cannot hold is clamped or escaped, never refused: one odd value
//! must not fail a whole checkpoint) and checked on the way out.

use std::error::Error;

use bytes::{BufMut, BytesMut};
use deadpool_postgres::tokio_postgres::{
    Row,
    types::{FromSql, IsNull, ToSql, Type, to_sql_checked},
};

use super::error::StoreError;
use crate::{
    engine::checkpoint::{Level, Status},
    event::{
        ids::{AccountId, CustomerId, PartitionId},
        money::{Currency, Money},
        time::Timestamp,
    },
};

type BoxError = Box<dyn Error + Sync + Send>;

/// Milliseconds from 1970 to 2000, where Postgres' own count begins.
const POSTGRES_EPOCH_MILLIS: i64 = 946_684_800_000;
/// The first and the last instant a `timestamptz` holds, in microseconds of Postgres' own count.
const FIRST_MICROS: i64 = -211_813_488_000_000_000;
const LAST_MICROS: i64 = 9_223_371_331_199_999_999;

/// An instant as a `timestamptz`; what lies outside the type's range is stored as its nearest end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PgTime(pub(super) Timestamp);

impl PgTime {
    fn micros(self) -> i64 {
        let millis = self.0.millis().saturating_sub(POSTGRES_EPOCH_MILLIS);
        millis.saturating_mul(1_000).clamp(FIRST_MICROS, LAST_MICROS)
    }
}

impl ToSql for PgTime {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, BoxError> {
        out.put_i64(self.micros());
        Ok(IsNull::No)
    }

    fn accepts(column: &Type) -> bool {
        *column == Type::TIMESTAMPTZ
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for PgTime {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, BoxError> {
        let micros = i64::from_be_bytes(raw.try_into()?);
        Ok(Self(Timestamp::from_millis(micros.div_euclid(1_000).saturating_add(POSTGRES_EPOCH_MILLIS))))
    }

    fn accepts(column: &Type) -> bool {
        *column == Type::TIMESTAMPTZ
    }
}

/// What stands before the stand-in for a character that Postgres' text cannot hold.
const ESCAPE: char = '\u{FFFF}';

/// Any text as a `text`: U+0000 is escaped, and so is the escape, so no two texts are stored alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PgText<'a>(pub(super) &'a str);

impl ToSql for PgText<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, BoxError> {
        if self.0.contains(['\0', ESCAPE]) {
            let escaped = self.0.replace(ESCAPE, "\u{FFFF}f").replace('\0', "\u{FFFF}0");
            out.put_slice(escaped.as_bytes());
        } else {
            out.put_slice(self.0.as_bytes());
        }
        Ok(IsNull::No)
    }

    fn accepts(column: &Type) -> bool {
        *column == Type::TEXT
    }

    to_sql_checked!();
}

/// Takes back what [`PgText`] escaped.
pub(super) fn unescape(stored: String) -> String {
    if stored.contains(ESCAPE) { stored.replace("\u{FFFF}0", "\0").replace("\u{FFFF}f", "\u{FFFF}") } else { stored }
}

/// A `bigint` of an unsigned number; sequences, epochs and counts stay far below the end.
pub(super) fn bigint(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A `smallint` of a partition.
pub(super) fn smallint(partition: PartitionId) -> i16 {
    i16::try_from(partition.0).unwrap_or(i16::MAX)
}

/// A `bigint` of how many rows are asked for.
pub(super) fn row_limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// Reads the columns of one table's row; names table and row where a value is not what the daemon writes.
pub(super) struct RowReader<'a> {
    pub(super) table: &'static str,
    pub(super) row: &'a Row,
}

impl RowReader<'_> {
    /// A column's value.
    pub(super) fn get<'r, T: FromSql<'r>>(&'r self, column: &str) -> Result<T, StoreError> {
        self.row.try_get(column).map_err(|_| self.broken(column))
    }

    pub(super) fn time(&self, column: &str) -> Result<Timestamp, StoreError> {
        Ok(self.get::<PgTime>(column)?.0)
    }

    pub(super) fn optional_time(&self, column: &str) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.get::<Option<PgTime>>(column)?.map(|time| time.0))
    }

    pub(super) fn text(&self, column: &str) -> Result<String, StoreError> {
        Ok(unescape(self.get(column)?))
    }

    pub(super) fn optional_text(&self, column: &str) -> Result<Option<String>, StoreError> {
        Ok(self.get::<Option<String>>(column)?.map(unescape))
    }

    pub(super) fn number(&self, column: &str) -> Result<u64, StoreError> {
        u64::try_from(self.get::<i64>(column)?).map_err(|_| self.broken(column))
    }

    pub(super) fn partition(&self, column: &str) -> Result<PartitionId, StoreError> {
        u16::try_from(self.get::<i16>(column)?).map(PartitionId).map_err(|_| self.broken(column))
    }

    pub(super) fn account(&self, column: &str) -> Result<AccountId, StoreError> {
        AccountId::parse(self.get(column)?).map_err(|_| self.broken(column))
    }

    pub(super) fn customer(&self, column: &str) -> Result<CustomerId, StoreError> {
        CustomerId::parse(&self.text(column)?).map_err(|_| self.broken(column))
    }

    pub(super) fn token(&self, column: &str) -> Result<Box<str>, StoreError> {
        Ok(self.get::<String>(column)?.into())
    }

    pub(super) fn score(&self, column: &str) -> Result<u8, StoreError> {
        u8::try_from(self.get::<i16>(column)?).map_err(|_| self.broken(column))
    }

    pub(super) fn level(&self, column: &str) -> Result<Level, StoreError> {
        match self.get(column)? {
            "low" => Ok(Level::Low),
            "medium" => Ok(Level::Medium),
            "high" => Ok(Level::High),
            _ => Err(self.broken(column)),
        }
    }

    pub(super) fn status(&self, column: &str) -> Result<Status, StoreError> {
        match self.get(column)? {
            "active" => Ok(Status::Active),
            "churned" => Ok(Status::Churned),
            "moved" => Ok(Status::Moved),
            _ => Err(self.broken(column)),
        }
    }

    pub(super) fn money(&self, minor: &str, currency: &str) -> Result<Option<Money>, StoreError> {
        let (Some(minor), Some(code)) = (self.get::<Option<i64>>(minor)?, self.get::<Option<&str>>(currency)?) else {
            return Ok(None);
        };
        let currency = Currency::parse(code).map_err(|_| self.broken(currency))?;
        Ok(Some(Money { minor, currency }))
    }

    /// Says which row of which table does not decode, by what identifies it.
    pub(super) fn broken(&self, column: &str) -> StoreError {
        let identity = ["role", "id", "partition", "account", "account_id", "token"]
            .into_iter()
            .filter_map(|name| Some(format!("{name} {}", self.identity(name)?)))
            .collect::<Vec<_>>()
            .join(", ");
        StoreError::Inconsistent { table: self.table, row: identity, column: column.to_owned() }
    }

    fn identity(&self, column: &str) -> Option<String> {
        let text = self.row.try_get::<_, &str>(column).map(str::to_owned);
        let small = || self.row.try_get::<_, i16>(column).map(|value| value.to_string());
        let big = || self.row.try_get::<_, i64>(column).map(|value| value.to_string());
        text.or_else(|_| small()).or_else(|_| big()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(text: &str) -> String {
        let mut out = BytesMut::new();
        assert!(matches!(PgText(text).to_sql(&Type::TEXT, &mut out).unwrap(), IsNull::No));
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn text_with_any_character_comes_back_and_never_holds_a_nul() {
        for text in ["", "acme", "a\0b", "\0\0", "\u{FFFF}", "\u{FFFF}0", "\0\u{FFFF}f", "ü\u{FFFF}\0f0"] {
            assert!(!stored(text).contains('\0'));
            assert_eq!(unescape(stored(text)), text);
        }
        assert_ne!(stored("\0"), stored("\u{FFFF}0"));
    }

    #[test]
    fn instants_survive_to_the_millisecond_before_and_after_both_epochs() {
        for millis in [-1, 0, 1, -62_135_596_800_000, 946_684_799_999, 946_684_800_001, 1_772_366_400_123] {
            let time = PgTime(Timestamp::from_millis(millis));
            assert_eq!(PgTime::from_sql(&Type::TIMESTAMPTZ, &time.micros().to_be_bytes()).unwrap(), time);
        }
    }

    #[test]
    fn instants_beyond_the_column_are_clamped_to_its_ends() {
        assert_eq!(PgTime(Timestamp::from_millis(i64::MAX)).micros(), LAST_MICROS);
        assert_eq!(PgTime(Timestamp::from_millis(i64::MIN)).micros(), FIRST_MICROS);
    }
}
