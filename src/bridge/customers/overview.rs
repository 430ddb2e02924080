//! `GET /api/overview`: how the account stands, and how it stood.

use axum::{Json, extract::State};
use serde::{Deserialize, Deserializer, Serialize, de::Error};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::super::{
    access::Reader,
    error::{ApiError, RefusedList},
    query::Checked,
    state::Bridge,
};
use crate::{
    engine::checkpoint::Level,
    event::{
        money::{Currency, Money},
        time::Timestamp,
    },
    store::{
        channels::{Channel, ChannelKind},
        deliveries::DeliverySums,
        overview::Snapshot,
    },
};

/// The most days that can be looked back.
const MAX_DAYS: i64 = 400;
const DAY_MILLIS: i64 = 86_400_000;

/// How far to look back.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct OverviewParameters {
    /// How many days to look back.
    #[serde(default)]
    #[param(value_type = u16, minimum = 1, maximum = 400, default = 30, required = false)]
    days: Days,
}

/// A number of days to look back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::bridge) struct Days(pub(in crate::bridge) i64);

/// How the account stands.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct OverviewAnswer {
    /// How it stands now.
    now: StandingEntry,
    /// How it stood, the oldest first: every hour of the last eight days, before that once a day.
    over_time: Vec<StandingEntry>,
    /// The alerts of each UTC day that had any.
    alerts: Vec<AlertEntry>,
    /// How messages arrived, channel by channel.
    channels: Vec<ArrivalEntry>,
}

/// How messages of a channel arrived.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ArrivalEntry {
    /// The channel's id.
    #[schema(value_type = String, format = "uuid")]
    id: Uuid,
    /// What people call it.
    name: String,
    /// What kind it is of.
    kind: ChannelKind,
    /// Why it sends nothing now; null if it does.
    paused_reason: Option<String>,
    /// Since when nothing arrives; null if something does.
    failing_since: Option<Timestamp>,
    /// How many messages arrived in that time.
    delivered: u64,
    /// How many the receiver refused.
    refused: u64,
    /// How many wait.
    pending: u64,
}

/// How an account stood at an instant.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct StandingEntry {
    /// When.
    at: Timestamp,
    /// Active customers by level.
    customers: ByLevel,
    /// Customers who left.
    churned: u64,
    /// What active customers bring a month, by currency.
    mrr: Vec<Money>,
    /// What of it is at risk: each customer's part is its score in percent.
    mrr_at_risk: Vec<Money>,
}

/// How many customers have which level.
#[derive(Debug, Serialize, ToSchema)]
struct ByLevel {
    high: u64,
    medium: u64,
    low: u64,
}

/// Alerts of a day.
#[derive(Debug, Serialize, ToSchema)]
struct AlertEntry {
    /// The day's beginning.
    day: Timestamp,
    /// The level that they told of.
    level: Level,
    /// Their kind, such as `risk.raised`.
    kind: String,
    /// How many.
    alerts: u64,
}

/// How the account stands
///
/// Customers by level and what they bring, now and over time, and how many alerts there were.
#[utoipa::path(
    get, path = "/api/overview", tag = "Customers",
    params(OverviewParameters),
    responses((status = OK, description = "The overview", body = OverviewAnswer), RefusedList),
    security(("secretKey" = [])),
)]
pub(super) async fn overview(
    State(bridge): State<Bridge>,
    Reader(grant): Reader,
    Checked(asked): Checked<OverviewParameters>,
) -> Result<Json<OverviewAnswer>, ApiError> {
    let (account, now) = (grant.account(), bridge.now());
    let since = asked.days.since(now);
    let over_time = bridge.store.overview_since(account, since).await?;
    let alerts = bridge.store.alerts_per_day(account, since).await?.into_iter();
    let sums = bridge.store.delivery_sums(account, since).await?;
    let channels = bridge.store.list_channels(account).await?.into_iter();
    Ok(Json(OverviewAnswer {
        now: StandingEntry::of(&bridge.store.overview_now(account, now).await?),
        over_time: over_time.iter().map(StandingEntry::of).collect(),
        alerts: alerts
            .map(|row| AlertEntry { day: row.day, level: row.level, kind: row.kind, alerts: row.alerts })
            .collect(),
        channels: channels.map(|channel| ArrivalEntry::of(channel, &sums)).collect(),
    }))
}

impl ArrivalEntry {
    fn of(channel: Channel, sums: &[DeliverySums]) -> Self {
        let sums = sums.iter().find(|sums| sums.channel_id == channel.id);
        Self {
            id: channel.id,
            kind: channel.kind(),
            name: channel.name,
            paused_reason: channel.paused.map(|(_, reason)| reason),
            failing_since: channel.failing_since,
            delivered: sums.map_or(0, |sums| sums.delivered),
            refused: sums.map_or(0, |sums| sums.refused),
            pending: sums.map_or(0, |sums| sums.pending),
        }
    }
}

impl Days {
    /// The instant so many days before, at the beginning of a UTC day.
    pub(in crate::bridge) fn since(self, now: Timestamp) -> Timestamp {
        Timestamp::start_of_day(now.plus_millis(-(self.0 - 1) * DAY_MILLIS).day())
    }
}

impl Default for Days {
    fn default() -> Self {
        Self(30)
    }
}

impl<'de> Deserialize<'de> for Days {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let days = text.parse().ok().filter(|days| (1..=MAX_DAYS).contains(days));
        days.map(Self).ok_or_else(|| D::Error::custom(format!("`{text}` is not a number from 1 to {MAX_DAYS}")))
    }
}

impl StandingEntry {
    fn of(snapshot: &Snapshot) -> Self {
        let moneys = |part: fn(&crate::store::overview::Brought) -> i64| {
            let money = |(currency, brought): (&Currency, _)| Money { minor: part(brought), currency: *currency };
            snapshot.mrr.iter().map(money).collect()
        };
        Self {
            at: snapshot.at,
            customers: ByLevel { high: snapshot.high, medium: snapshot.medium, low: snapshot.low },
            churned: snapshot.churned,
            mrr: moneys(|brought| brought.all),
            mrr_at_risk: moneys(|brought| brought.at_risk),
        }
    }
}
