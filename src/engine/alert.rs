//! Alerts: what is worth telling when a score changes, and what was told already.

use serde::Serialize;

use super::{
    checkpoint::{Factor, Level, Status},
    score::{Assessment, ForecastStep},
    state::Evaluation,
};
use crate::event::{
    ids::{AccountId, CustomerId},
    money::Money,
    time::Timestamp,
};

/// What happened to a customer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, serde::Deserialize, utoipa::ToSchema)]
pub enum AlertKind {
    /// Its level rose.
    #[serde(rename = "risk.raised")]
    RiskRaised,
    /// Its level fell.
    #[serde(rename = "risk.lowered")]
    RiskLowered,
    /// Its last subscription ended.
    #[serde(rename = "customer.churned")]
    CustomerChurned,
    /// A subscription started again.
    #[serde(rename = "customer.recovered")]
    CustomerRecovered,
    /// An account's events stopped coming: its tracking may be broken. It concerns no single customer.
    #[serde(rename = "ingest.anomaly")]
    IngestAnomaly,
}

impl AlertKind {
    /// The kind as it stands in bodies and labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RiskRaised => "risk.raised",
            Self::RiskLowered => "risk.lowered",
            Self::CustomerChurned => "customer.churned",
            Self::CustomerRecovered => "customer.recovered",
            Self::IngestAnomaly => "ingest.anomaly",
        }
    }
}

/// What receivers were told of a customer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AlertMemory {
    /// The level they know.
    pub(crate) level: Level,
    /// The score they know.
    pub(crate) score: u8,
    /// They know that the customer is gone.
    pub(crate) churned: bool,
    /// When each level was last announced, by [`Level`].
    pub(crate) announced: [Option<Timestamp>; 3],
    /// A level that is kept back until its cooldown ends.
    pub(crate) held: Option<Level>,
    /// How many alerts came up, those kept back included: tells two of the same instant apart.
    pub(crate) told: u32,
}

/// What to do about an evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Tell it now.
    Announce { kind: AlertKind, previous_level: Level, previous_score: u8 },
    /// The same level was announced a short while ago: keep it back, but visible.
    Hold { kind: AlertKind, previous_level: Level, previous_score: u8 },
    /// Nothing new.
    Nothing,
}

impl AlertMemory {
    /// Decides what an evaluation made at `at` is worth, and remembers it.
    pub(crate) fn decide(&mut self, evaluation: &Evaluation, at: Timestamp, cooldown_millis: i64) -> Decision {
        let (previous_level, previous_score) = (self.level, self.score);
        let kind = match (self.churned, evaluation.status) {
            (_, Status::Moved) | (true, Status::Churned) => return Decision::Nothing,
            (false, Status::Churned) => AlertKind::CustomerChurned,
            (true, Status::Active) => AlertKind::CustomerRecovered,
            (false, Status::Active) if evaluation.level == self.level => {
                self.held = None;
                return Decision::Nothing;
            }
            (false, Status::Active) if evaluation.level > self.level => AlertKind::RiskRaised,
            (false, Status::Active) => AlertKind::RiskLowered,
        };
        if matches!(kind, AlertKind::RiskRaised | AlertKind::RiskLowered)
            && self.cools(evaluation.level, at, cooldown_millis)
        {
            if self.held == Some(evaluation.level) {
                return Decision::Nothing;
            }
            self.held = Some(evaluation.level);
            self.told = self.told.wrapping_add(1);
            return Decision::Hold { kind, previous_level, previous_score };
        }
        self.churned = evaluation.status == Status::Churned;
        self.level = evaluation.level;
        self.score = evaluation.score;
        self.announced[evaluation.level as usize] = Some(at);
        self.held = None;
        self.told = self.told.wrapping_add(1);
        Decision::Announce { kind, previous_level, previous_score }
    }

    /// When what is kept back may be announced.
    pub(crate) fn release_at(&self, cooldown_millis: i64) -> Option<Timestamp> {
        let held = self.held?;
        self.announced[held as usize].map(|at| at.plus_millis(cooldown_millis))
    }

    fn cools(&self, level: Level, at: Timestamp, cooldown_millis: i64) -> bool {
        self.announced[level as usize].is_some_and(|last| at.millis_since(last) < cooldown_millis)
    }
}

/// An alert's body, `io.churnd.alert.v1`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AlertBody<'a> {
    #[serde(rename = "type")]
    pub(crate) body_type: &'static str,
    pub(crate) id: &'a str,
    pub(crate) account: &'a AccountId,
    /// Absent where the alert concerns the whole account.
    pub(crate) customer_id: Option<&'a CustomerId>,
    pub(crate) kind: AlertKind,
    pub(crate) level: Level,
    pub(crate) previous_level: Level,
    pub(crate) score: u8,
    pub(crate) previous_score: u8,
    pub(crate) factors: Vec<&'a str>,
    pub(crate) details: &'a [Factor],
    pub(crate) suggested_action: Option<&'a str>,
    pub(crate) mrr: Option<Money>,
    pub(crate) forecast: Vec<ForecastStep>,
    pub(crate) at: Timestamp,
    pub(crate) scale: &'static str,
}

/// What every score means, said in every answer.
pub const SCALE: &str = "0 safe, 100 at risk";

/// A customer's risk as the HTTP API and the NATS service answer it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RiskReport {
    /// The customer's full id.
    pub customer_id: CustomerId,
    /// 0 safe, 100 at risk.
    #[schema(maximum = 100)]
    pub score: u8,
    /// The score's level.
    pub level: Level,
    /// The reasons in plain words.
    pub factors: Vec<String>,
    /// What to do first.
    pub suggested_action: Option<String>,
    /// The reasons with their points.
    pub details: Vec<Factor>,
    /// Where the customer stands in its life.
    pub status: Status,
    /// What it brings a month.
    pub mrr: Option<Money>,
    /// As of when all this holds.
    pub as_of: Timestamp,
    /// What silence would do next.
    pub forecast: Vec<ForecastStep>,
}

impl RiskReport {
    /// Puts a report together.
    pub fn new(
        customer_id: CustomerId,
        assessment: Assessment,
        mrr: Option<Money>,
        as_of: Timestamp,
        forecast: Vec<ForecastStep>,
    ) -> Self {
        Self {
            customer_id,
            score: assessment.score,
            level: assessment.level,
            factors: assessment.factors.iter().map(|factor| factor.reason.clone()).collect(),
            suggested_action: assessment.suggested_action,
            details: assessment.factors,
            status: assessment.status,
            mrr,
            as_of,
            forecast,
        }
    }
}
