//! The intervention desk: notes what people do about a risk, with the customer's score as it is then.
//!
//! HTTP and NATS ask it with the same bodies and get the same entries; each only puts its own envelope around them.

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::risk::{RiskDesk, RiskError};
use crate::{
    engine::{alert::RiskReport, checkpoint::Level},
    event::{
        ids::{AccountId, CustomerId},
        money::Money,
        subject::{self, Token},
        time::Timestamp,
    },
    store::{
        StoreError,
        interventions::{
            Change, Closing, Intervention, InterventionQuery, InterventionType, NewIntervention, OfType, Outcome,
            Standing, UNASSIGNED,
        },
    },
};

/// The most characters of an action, and of a name.
const MAX_ACTION_CHARACTERS: usize = 200;
/// The most characters of a note.
const MAX_NOTE_CHARACTERS: usize = 2_000;

/// What is done about a customer's risk.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct InterventionRequest {
    /// Your id of it; one is made if it is absent. The same request with the same id makes no second intervention.
    #[schema(value_type = Option<String>, format = "uuid")]
    pub id: Option<Uuid>,
    /// What type it is of, by which outcomes are compared: `call`, `email`, `discount`, `plan_change`,
    /// `payment_method`, `training`, `feature_request`, `other`, or one of your own. Can be said later too.
    #[serde(rename = "type")]
    #[schema(value_type = Option<String>, pattern = "^[a-z0-9_]{1,40}$", example = "call")]
    pub kind: Option<InterventionType>,
    /// What is done.
    #[schema(min_length = 1, max_length = 200, example = "Call about the failed payment")]
    pub action: String,
    /// Anything else.
    #[schema(max_length = 2_000)]
    pub note: Option<String>,
    /// Who does it.
    #[schema(max_length = 200)]
    pub created_by: Option<String>,
}

/// What changes: how the intervention ended, what type it is of, what is noted. One of them at least.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schema(min_properties = 1)]
pub struct InterventionChange {
    /// How it ended; null changes nothing.
    #[serde(default, deserialize_with = "said")]
    #[schema(value_type = Option<Outcome>)]
    pub outcome: Option<Option<Outcome>>,
    /// What type it is of; null for none.
    #[serde(default, rename = "type", deserialize_with = "said")]
    #[schema(value_type = Option<String>, pattern = "^[a-z0-9_]{1,40}$", example = "call")]
    pub kind: Option<Option<InterventionType>>,
    /// A note instead of the one it has; null changes nothing.
    #[serde(default, deserialize_with = "said")]
    #[schema(value_type = Option<String>, max_length = 2_000)]
    pub note: Option<Option<String>>,
}

/// An intervention.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct InterventionEntry {
    /// Its id.
    #[schema(value_type = String, format = "uuid")]
    pub id: Uuid,
    /// The customer's id.
    pub customer_id: CustomerId,
    /// Whether it goes on.
    pub status: InterventionStatus,
    /// What type it is of; null if nobody has said.
    #[serde(rename = "type")]
    #[schema(value_type = Option<String>)]
    pub kind: Option<InterventionType>,
    /// What is done.
    pub action: String,
    /// Anything else.
    pub note: Option<String>,
    /// Who does it.
    pub created_by: Option<String>,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// The customer's score when it began.
    #[schema(maximum = 100)]
    pub score_at_start: Option<u8>,
    /// The customer's level when it began.
    pub level_at_start: Option<Level>,
    /// The customer's score when it ended.
    #[schema(maximum = 100)]
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

/// Whether an intervention goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum InterventionStatus {
    /// It goes on.
    Open,
    /// It ended.
    Closed,
}

/// Whether to list those that go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StatusFilter {
    /// Those that go on.
    #[default]
    Open,
    /// Those that ended.
    Closed,
    /// All.
    Any,
}

/// Which types to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TypeFilter {
    /// Of whatever type.
    #[default]
    Any,
    /// Those of no type.
    Unassigned,
    /// Those of one.
    Only(InterventionType),
}

/// Why nothing was noted.
#[derive(Debug, thiserror::Error)]
pub enum InterventionError {
    /// A field cannot be used.
    #[error("{0}")]
    Invalid(String),
    /// The account has no such intervention.
    #[error("there is no intervention of this id in this account")]
    Unknown,
    /// The id is another intervention's.
    #[error("the account has another intervention of this id: use a new id for a new intervention")]
    Exists,
    /// It ended in another way.
    #[error("the intervention has ended with another outcome already: begin a new one")]
    Closed,
    /// The customer's risk cannot be told.
    #[error(transparent)]
    Risk(#[from] RiskError),
}

impl From<StoreError> for InterventionError {
    fn from(error: StoreError) -> Self {
        Self::Risk(error.into())
    }
}

/// Notes interventions; clones note alike.
#[derive(Clone)]
pub struct InterventionDesk(RiskDesk);

impl InterventionDesk {
    /// A desk that asks for customers' risk there.
    pub fn new(risk: RiskDesk) -> Self {
        Self(risk)
    }

    /// Begins an intervention; `false` beside one that was stored before, under this id.
    pub async fn open(
        &self,
        account: &AccountId,
        customer: &CustomerId,
        request: &InterventionRequest,
    ) -> Result<(Intervention, bool), InterventionError> {
        request.check()?;
        let token = subject::encode(customer);
        let report = self.0.risk(account, token.as_str(), None).await?;
        let new = NewIntervention {
            id: request.id.unwrap_or_else(Uuid::now_v7),
            customer,
            token: &token,
            kind: request.kind.as_ref(),
            action: &request.action,
            note: request.note.as_deref(),
            created_by: request.created_by.as_deref(),
            standing: standing(&report),
            mrr: report.mrr,
            at: (self.0.now)(),
        };
        let is_new = self.0.store.open_intervention(account, &new).await?;
        // Nothing is stored of customers who were erased: they are unknown.
        let stored = self.0.store.intervention(account, new.id).await?.ok_or(RiskError::UnknownCustomer)?;
        if stored.customer != *customer || stored.action != request.action {
            return Err(InterventionError::Exists);
        }
        Ok((stored, is_new))
    }

    /// Ends an intervention, or only says what it is; the same again changes nothing.
    pub async fn change(
        &self,
        account: &AccountId,
        id: Uuid,
        request: &InterventionChange,
    ) -> Result<Intervention, InterventionError> {
        let change = request.check()?;
        let before = self.load(account, id).await?;
        let Some(outcome) = request.outcome.flatten() else {
            self.0.store.change_intervention(account, id, &change, (self.0.now)()).await?;
            return self.load(account, id).await;
        };
        if before.outcome.is_none() {
            let report = self.0.risk(account, &before.token, None).await?;
            let closing = Closing { outcome, change, standing: standing(&report), at: (self.0.now)() };
            self.0.store.close_intervention(account, id, &closing).await?;
        }
        // Whoever closed it first decided how it ended.
        let after = self.load(account, id).await?;
        if after.outcome != Some(outcome) {
            return Err(InterventionError::Closed);
        }
        if change.kind.is_some_and(|kind| kind != after.kind.as_ref()) {
            let of_type = Change { note: None, ..change };
            self.0.store.change_intervention(account, id, &of_type, (self.0.now)()).await?;
            return self.load(account, id).await;
        }
        Ok(after)
    }

    /// An account's interventions, the newest first.
    pub async fn list(
        &self,
        account: &AccountId,
        query: &InterventionQuery<'_>,
    ) -> Result<Vec<Intervention>, InterventionError> {
        Ok(self.0.store.list_interventions(account, query).await?)
    }

    /// One of them.
    pub async fn load(&self, account: &AccountId, id: Uuid) -> Result<Intervention, InterventionError> {
        self.0.store.intervention(account, id).await?.ok_or(InterventionError::Unknown)
    }

    /// Whether there is such a customer, and it was not erased.
    pub async fn expect_customer(&self, account: &AccountId, token: &Token) -> Result<(), InterventionError> {
        if self.0.store.is_suppressed(account, &[token.as_str()], &[]).await? {
            return Err(RiskError::UnknownCustomer.into());
        }
        self.0.risk(account, token.as_str(), None).await?;
        Ok(())
    }
}

fn standing(report: &RiskReport) -> Standing {
    Standing { score: report.score, level: report.level }
}

/// Tells what was said to be null from what was not said.
fn said<'de, D, T>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Some)
}

fn check_length(field: &str, text: Option<&str>, least: usize, most: usize) -> Result<(), InterventionError> {
    match text.map(|text| text.chars().count()) {
        Some(length) if !(least..=most).contains(&length) => Err(InterventionError::Invalid(format!(
            "the field `{field}` has {length} characters: send {least} to {most}"
        ))),
        _ => Ok(()),
    }
}

impl InterventionRequest {
    fn check(&self) -> Result<(), InterventionError> {
        check_length("action", Some(&self.action), 1, MAX_ACTION_CHARACTERS)?;
        check_length("note", self.note.as_deref(), 0, MAX_NOTE_CHARACTERS)?;
        check_length("createdBy", self.created_by.as_deref(), 0, MAX_ACTION_CHARACTERS)
    }
}

impl InterventionChange {
    fn check(&self) -> Result<Change<'_>, InterventionError> {
        if self.outcome.is_none() && self.kind.is_none() && self.note.is_none() {
            let detail = "nothing is to change: send `outcome`, `type` or `note`";
            return Err(InterventionError::Invalid(detail.to_owned()));
        }
        let note = self.note.as_ref().and_then(Option::as_deref);
        check_length("note", note, 0, MAX_NOTE_CHARACTERS)?;
        Ok(Change { kind: self.kind.as_ref().map(Option::as_ref), note })
    }
}

impl StatusFilter {
    /// As the store asks for it.
    pub fn open(self) -> Option<bool> {
        match self {
            Self::Open => Some(true),
            Self::Closed => Some(false),
            Self::Any => None,
        }
    }
}

impl TypeFilter {
    /// As the store asks for it.
    pub fn of_type(&self) -> OfType<'_> {
        match self {
            Self::Any => OfType::Any,
            Self::Unassigned => OfType::Unassigned,
            Self::Only(kind) => OfType::Only(kind),
        }
    }
}

impl<'de> Deserialize<'de> for TypeFilter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == UNASSIGNED {
            return Ok(Self::Unassigned);
        }
        InterventionType::parse(&text).map(Self::Only).map_err(serde::de::Error::custom)
    }
}

impl InterventionEntry {
    /// As it is shown.
    pub fn of(row: Intervention) -> Self {
        Self {
            id: row.id,
            customer_id: row.customer,
            status: if row.outcome.is_some() { InterventionStatus::Closed } else { InterventionStatus::Open },
            kind: row.kind,
            action: row.action,
            note: row.note,
            created_by: row.created_by,
            outcome: row.outcome,
            score_at_start: row.score_at_start,
            level_at_start: row.level_at_start,
            score_at_end: row.score_at_end,
            level_at_end: row.level_at_end,
            mrr: row.mrr,
            created_at: row.created_at,
            closed_at: row.closed_at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_short_plain_words() {
        for text in ["a", "call", "plan_change", "2nd_call", &"x".repeat(40)] {
            assert_eq!(InterventionType::parse(text).unwrap().as_str(), text);
        }
        for text in ["", "Call", "a b", "a-b", "ü", "unassigned", &"x".repeat(41), "a\0"] {
            assert!(InterventionType::parse(text).is_err(), "{text}");
        }
        assert!(crate::store::interventions::OFFERED_TYPES.iter().all(|text| InterventionType::parse(text).is_ok()));
    }

    #[test]
    fn a_type_that_is_null_is_another_thing_than_one_that_was_not_said() {
        let read = |text: &str| serde_json::from_str::<InterventionChange>(text).unwrap();
        assert_eq!(read(r#"{"note":"x"}"#).kind, None);
        assert_eq!(read(r#"{"type":null}"#).kind, Some(None));
        assert_eq!(read(r#"{"type":"call"}"#).kind.unwrap().unwrap().as_str(), "call");
        assert!(read("{}").check().is_err());
        assert!(read(r#"{"type":null}"#).check().is_ok());
        assert_eq!(read(r#"{"note":null,"outcome":null}"#).check().unwrap(), Change::default());
    }
}
