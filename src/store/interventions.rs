//! What people did about a risk, and how it ended.
//!
//! An intervention's id may come from the client and is unique within its account: opening it again finds it instead of
//! making a second. Only an open one is closed, so of two who close it one is told that it was closed already. What type it is
//! of can be said and changed at any time.

use std::fmt;

use deadpool_postgres::tokio_postgres::types::ToSql;
use serde::{Deserialize, Deserializer, Serialize};
use uuid::Uuid;

use super::{
    Store,
    error::StoreError,
    values::{PgText, PgTime, RowReader, row_limit},
};
use crate::{
    engine::checkpoint::Level,
    event::{
        ids::{AccountId, CustomerId},
        money::Money,
        subject::Token,
        time::Timestamp,
    },
};

/// How an intervention ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The customer stays.
    Saved,
    /// The customer left.
    Lost,
    /// The customer did not answer.
    NoReply,
    /// There was nothing to be done.
    NotNeeded,
}

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Saved => "saved",
            Self::Lost => "lost",
            Self::NoReply => "no_reply",
            Self::NotNeeded => "not_needed",
        }
    }
}

/// What kind of thing is done, by which outcomes are compared: 1 to 40 of `a` to `z`, `0` to `9` and `_`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct InterventionType(Box<str>);

/// The types that are offered; any other may be made up.
pub const OFFERED_TYPES: [&str; 8] =
    ["call", "email", "discount", "plan_change", "payment_method", "training", "feature_request", "other"];
/// What those without a type are called, so no type is.
pub const UNASSIGNED: &str = "unassigned";
const MAX_TYPE_BYTES: usize = 40;

/// A text that is no type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a type has 1 to 40 characters of a to z, 0 to 9 and _, such as `call`, and is not called `unassigned`")]
pub struct InvalidType;

impl InterventionType {
    /// Reads a type.
    pub fn parse(text: &str) -> Result<Self, InvalidType> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let is_valid = (1..=MAX_TYPE_BYTES).contains(&text.len()) && text.bytes().all(plain) && text != UNASSIGNED;
        if is_valid { Ok(Self(text.into())) } else { Err(InvalidType) }
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InterventionType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for InterventionType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// A score with its level, at one end of an intervention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// 0 to 100.
    pub score: u8,
    /// The score's level.
    pub level: Level,
}

/// An intervention that begins.
#[derive(Clone, Debug)]
pub struct NewIntervention<'a> {
    /// Its id, unique within the account.
    pub id: Uuid,
    /// The customer.
    pub customer: &'a CustomerId,
    /// The customer's token.
    pub token: &'a Token,
    /// What type it is of, if that is known yet.
    pub kind: Option<&'a InterventionType>,
    /// What is done.
    pub action: &'a str,
    /// Anything else.
    pub note: Option<&'a str>,
    /// Who does it.
    pub created_by: Option<&'a str>,
    /// The customer's risk.
    pub standing: Standing,
    /// What the customer brings a month.
    pub mrr: Option<Money>,
    /// When.
    pub at: Timestamp,
}

/// What is to be changed of an intervention, open or closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change<'a> {
    /// The type to be of, or to be of none.
    pub kind: Option<Option<&'a InterventionType>>,
    /// A note instead of the one it has.
    pub note: Option<&'a str>,
}

/// How an intervention is closed.
#[derive(Clone, Debug)]
pub struct Closing<'a> {
    /// How it ended.
    pub outcome: Outcome,
    /// What else is to be changed.
    pub change: Change<'a>,
    /// The customer's risk.
    pub standing: Standing,
    /// When.
    pub at: Timestamp,
}

/// An intervention as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intervention {
    /// Its id, unique within the account.
    pub id: Uuid,
    /// The customer.
    pub customer: CustomerId,
    /// The customer's token.
    pub token: Box<str>,
    /// What type it is of, if that was said.
    pub kind: Option<InterventionType>,
    /// What is done.
    pub action: String,
    /// Anything else.
    pub note: Option<String>,
    /// Who does it.
    pub created_by: Option<String>,
    /// How it ended; open if it did not.
    pub outcome: Option<Outcome>,
    /// The customer's score when it began.
    pub score_at_start: Option<u8>,
    /// The customer's level when it began.
    pub level_at_start: Option<Level>,
    /// The customer's score when it ended.
    pub score_at_end: Option<u8>,
    /// The customer's level when it ended.
    pub level_at_end: Option<Level>,
    /// What the customer brought a month when it began.
    pub mrr: Option<Money>,
    /// When it began.
    pub created_at: Timestamp,
    /// When it ended.
    pub closed_at: Option<Timestamp>,
}

/// Which types to list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OfType<'a> {
    /// Of whatever type.
    #[default]
    Any,
    /// Those of no type.
    Unassigned,
    /// Those of one.
    Only(&'a InterventionType),
}

/// Which interventions to list, the newest first.
#[derive(Clone, Copy, Debug, Default)]
pub struct InterventionQuery<'a> {
    /// Only those of the customer with this token.
    pub token: Option<&'a str>,
    /// Only open ones, or only closed ones.
    pub open: Option<bool>,
    /// Only those of a type.
    pub kind: OfType<'a>,
    /// Goes on before the one that began then, under this id.
    pub before: Option<(Timestamp, Uuid)>,
    /// How many at the most.
    pub limit: usize,
}

const COLUMNS: &str =
    "id, account_id, token, external_id, type, action, note, created_by, outcome, score_at_start, level_at_start,
    score_at_end, level_at_end, mrr_minor, mrr_currency, created_at, closed_at";
const OPEN: &str =
    "INSERT INTO interventions (account_id, id, token, external_id, action, note, created_by, score_at_start,
        level_at_start, mrr_minor, mrr_currency, created_at, updated_at, type)
    SELECT $1::text, $2::uuid, $3::text, $4::text, $5::text, $6::text, $7::text, $8::smallint,
        $9::text, $10::bigint, $11::text, $12::timestamptz, $12::timestamptz, $14::text
    WHERE NOT EXISTS (SELECT FROM suppressions x WHERE x.account = $1 AND x.hash = $13::bytea)
    ON CONFLICT (account_id, id) DO NOTHING RETURNING id";
const CLOSE: &str =
    "UPDATE interventions SET status = 'closed', outcome = $3, note = coalesce($4, note), score_at_end = $5,
        level_at_end = $6, closed_at = $7, updated_at = $7, type = CASE WHEN $8 THEN $9 ELSE type END
    WHERE account_id = $1 AND id = $2 AND status = 'open' RETURNING id";
const CHANGE: &str =
    "UPDATE interventions SET note = coalesce($3, note), updated_at = $4, type = CASE WHEN $5 THEN $6 ELSE type END
    WHERE account_id = $1 AND id = $2 RETURNING id";

impl Store {
    /// Stores an intervention; `false` if the account has one of this id already, which stays as it is, or if the customer
    /// was erased.
    pub async fn open_intervention(&self, account: &AccountId, new: &NewIntervention<'_>) -> Result<bool, StoreError> {
        let key = self.suppression_key().await?;
        let parameters: [&(dyn ToSql + Sync); 14] = [
            &account.as_str(),
            &new.id,
            &new.token.as_str(),
            &PgText(new.customer.as_str()),
            &PgText(new.action),
            &new.note.map(PgText),
            &new.created_by.map(PgText),
            &i16::from(new.standing.score),
            &new.standing.level.as_str(),
            &new.mrr.map(|mrr| mrr.minor),
            &new.mrr.as_ref().map(|mrr| mrr.currency.as_str()),
            &PgTime(new.at),
            &key.customer(account.as_str(), new.token.as_str()),
            &new.kind.map(InterventionType::as_str),
        ];
        Ok(!self.statement_of(account, "open an intervention", OPEN, &parameters).await?.is_empty())
    }

    /// Closes an open intervention; `false` if there is none of this id that is open.
    pub async fn close_intervention(
        &self,
        account: &AccountId,
        id: Uuid,
        closing: &Closing<'_>,
    ) -> Result<bool, StoreError> {
        let change = &closing.change;
        let parameters: [&(dyn ToSql + Sync); 9] = [
            &account.as_str(),
            &id,
            &closing.outcome.as_str(),
            &change.note.map(PgText),
            &i16::from(closing.standing.score),
            &closing.standing.level.as_str(),
            &PgTime(closing.at),
            &change.kind.is_some(),
            &change.kind.flatten().map(InterventionType::as_str),
        ];
        Ok(!self.statement_of(account, "close an intervention", CLOSE, &parameters).await?.is_empty())
    }

    /// Changes an intervention, open or closed; `false` if there is none of this id.
    pub async fn change_intervention(
        &self,
        account: &AccountId,
        id: Uuid,
        change: &Change<'_>,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        let parameters: [&(dyn ToSql + Sync); 6] = [
            &account.as_str(),
            &id,
            &change.note.map(PgText),
            &PgTime(at),
            &change.kind.is_some(),
            &change.kind.flatten().map(InterventionType::as_str),
        ];
        Ok(!self.statement_of(account, "change an intervention", CHANGE, &parameters).await?.is_empty())
    }

    /// One intervention.
    pub async fn intervention(&self, account: &AccountId, id: Uuid) -> Result<Option<Intervention>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM interventions WHERE account_id = $1 AND id = $2");
        let rows = self.statement_of(account, "load an intervention", &sql, &[&account.as_str(), &id]).await?;
        rows.first().map(|row| read(&RowReader { table: "interventions", row })).transpose()
    }

    /// An account's interventions, the newest first.
    pub async fn list_interventions(
        &self,
        account: &AccountId,
        query: &InterventionQuery<'_>,
    ) -> Result<Vec<Intervention>, StoreError> {
        let status = match query.open {
            None => "true",
            Some(true) => "status = 'open'",
            Some(false) => "status = 'closed'",
        };
        let of_customer = if query.token.is_some() { "token = $5" } else { "$5::text IS NULL" };
        let (of_type, kind) = match query.kind {
            OfType::Any => ("$6::text IS NULL", None),
            OfType::Unassigned => ("type IS NULL AND $6::text IS NULL", None),
            OfType::Only(kind) => ("type = $6", Some(kind.as_str())),
        };
        let sql = format!(
            "SELECT {COLUMNS} FROM interventions
             WHERE account_id = $1 AND (created_at, id) < ($2, $3) AND {status} AND {of_customer} AND {of_type}
             ORDER BY created_at DESC, id DESC LIMIT $4"
        );
        let (at, id) = query.before.unwrap_or((Timestamp::from_millis(i64::MAX), Uuid::max()));
        let parameters: [&(dyn ToSql + Sync); 6] =
            [&account.as_str(), &PgTime(at), &id, &row_limit(query.limit), &query.token, &kind];
        let rows = self.statement_of(account, "list interventions", &sql, &parameters).await?;
        rows.iter().map(|row| read(&RowReader { table: "interventions", row })).collect()
    }
}

fn read(row: &RowReader<'_>) -> Result<Intervention, StoreError> {
    let score = |column| {
        let score: Option<i16> = row.get(column)?;
        score.map(|score| u8::try_from(score).map_err(|_| row.broken(column))).transpose()
    };
    let level = |column| match row.get::<Option<&str>>(column)? {
        Some(_) => row.level(column).map(Some),
        None => Ok(None),
    };
    let outcome = match row.get::<Option<&str>>("outcome")? {
        None => None,
        Some("saved") => Some(Outcome::Saved),
        Some("lost") => Some(Outcome::Lost),
        Some("no_reply") => Some(Outcome::NoReply),
        Some("not_needed") => Some(Outcome::NotNeeded),
        Some(_) => return Err(row.broken("outcome")),
    };
    let kind: Option<&str> = row.get("type")?;
    Ok(Intervention {
        kind: kind.map(|kind| InterventionType::parse(kind).map_err(|_| row.broken("type"))).transpose()?,
        id: row.get("id")?,
        customer: row.customer("external_id")?,
        token: row.token("token")?,
        action: row.text("action")?,
        note: row.optional_text("note")?,
        created_by: row.optional_text("created_by")?,
        outcome,
        score_at_start: score("score_at_start")?,
        level_at_start: level("level_at_start")?,
        score_at_end: score("score_at_end")?,
        level_at_end: level("level_at_end")?,
        mrr: row.money("mrr_minor", "mrr_currency")?,
        created_at: row.time("created_at")?,
        closed_at: row.optional_time("closed_at")?,
    })
}
