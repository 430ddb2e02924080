//! What an alert of `CHURN_ALERTS` says, as far as messages need it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    engine::{
        alert::AlertKind,
        checkpoint::{Factor, Level},
        score::ForecastStep,
    },
    event::{ids::AccountId, money::Money, time::Timestamp},
};

/// An alert's body, `io.churnd.alert.v1`. What it does not name by itself is kept for those who read later versions.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Alert {
    /// Its id, the last token of its subject.
    pub id: String,
    /// Whose customer.
    pub account: AccountId,
    /// The customer's full id; none where the alert is about the account.
    pub customer_id: Option<String>,
    /// What happened.
    pub kind: AlertKind,
    /// The level now.
    pub level: Level,
    /// The level that was told before.
    pub previous_level: Level,
    /// 0 safe, 100 at risk.
    pub score: u8,
    /// The score that was told before.
    pub previous_score: u8,
    /// The reasons in plain words.
    #[serde(default)]
    pub factors: Vec<String>,
    /// The reasons with their points.
    #[serde(default)]
    pub details: Vec<Factor>,
    /// What to do first.
    #[serde(default)]
    pub suggested_action: Option<String>,
    /// What the customer brings a month.
    #[serde(default)]
    pub mrr: Option<Money>,
    /// What silence would do next.
    #[serde(default)]
    pub forecast: Vec<ForecastStep>,
    /// When it was raised.
    pub at: Timestamp,
    /// What else stands in the body, its `type` and `scale` among it: handed on as it is.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}
