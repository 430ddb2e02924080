//! The overview: how the account stands, money at risk over time, alerts, and how messages arrived.

use std::collections::BTreeMap;

use askama::Template;
use axum::extract::State;

use super::{
    super::{query::Checked, state::Bridge},
    channels::{self, ChannelCard, Health},
    chart::{Bars, Line, Parts, nice_top},
    error::PageError,
    layout::{Frame, OVERVIEW, Page},
    session::Visitor,
    words::{Badge, Day, When, count, money},
};
use crate::{
    engine::checkpoint::{Level, Status},
    event::{
        money::{Currency, Money},
        time::Timestamp,
    },
    store::overview::{AlertCount, Snapshot},
};

const DAY_MILLIS: i64 = 86_400_000;
/// The days that can be looked back.
const RANGES: [i64; 4] = [7, 30, 90, 365];
/// The most currencies that are drawn.
const MOST_CURRENCIES: usize = 4;

#[derive(Template)]
#[template(path = "dashboard/overview.html")]
pub(super) struct OverviewPage {
    frame: Frame,
    days: i64,
    levels: Vec<LevelPart>,
    distribution: Parts,
    customers: u64,
    churned: String,
    moneys: Vec<MoneyChart>,
    /// The first hour was noted just now, or will be soon.
    is_new: bool,
    from: Day,
    alerts: AlertChart,
    channels: Vec<ChannelCard>,
}

/// A level's part of the customers.
struct LevelPart {
    badge: Badge,
    customers: String,
    percent: String,
}

/// Money at risk in one currency.
struct MoneyChart {
    code: String,
    at_risk: String,
    all: String,
    percent: String,
    top: String,
    half: String,
    chart: Line,
    rows: Vec<(When, String, String)>,
}

/// Alerts of each day.
struct AlertChart {
    total: u64,
    top: String,
    half: String,
    chart: Bars,
    rows: Vec<(Day, [u64; 3])>,
    kinds: Vec<(&'static str, u64)>,
}

/// How far to look back.
#[derive(Debug, serde::Deserialize)]
pub(super) struct OverviewQuery {
    #[serde(default)]
    days: Option<String>,
}

/// `GET /dashboard/overview`
pub(super) async fn overview(
    State(bridge): State<Bridge>,
    visitor: Visitor,
    Checked(query): Checked<OverviewQuery>,
) -> Result<Page<OverviewPage>, PageError> {
    // Whatever else somebody writes there is 30 days.
    let asked = query.days.and_then(|days| days.parse().ok());
    let days = RANGES.into_iter().find(|days| Some(*days) == asked).unwrap_or(30);
    let (store, account, now) = (&bridge.store, &visitor.account, bridge.now());
    let from = Timestamp::start_of_day(now.plus_millis(-(days - 1) * DAY_MILLIS).day());
    let current = store.overview_now(account, now).await?;
    let mut history = store.overview_since(account, from).await?;
    let is_new = history.len() < 2;
    let alerts = store.alerts_per_day(account, from).await?;
    history.push(current.clone());
    let customers = current.high + current.medium + current.low;
    Ok(Page(OverviewPage {
        frame: Frame::new(&visitor, OVERVIEW, "Overview"),
        days,
        levels: levels_of(&current, customers),
        distribution: distribution(&current),
        customers,
        churned: count(current.churned),
        moneys: moneys(&history, from, now),
        is_new,
        from: Day(from),
        alerts: alert_chart(&alerts, from, days),
        channels: channels::cards(&bridge, account).await?,
    }))
}

impl OverviewPage {
    fn ranges(&self) -> [i64; 4] {
        RANGES
    }
}

fn levels_of(current: &Snapshot, customers: u64) -> Vec<LevelPart> {
    [(Level::High, current.high), (Level::Medium, current.medium), (Level::Low, current.low)]
        .into_iter()
        .map(|(level, of_level)| LevelPart {
            badge: Badge { level, status: Status::Active },
            customers: count(of_level),
            percent: percent(of_level, customers),
        })
        .collect()
}

fn distribution(current: &Snapshot) -> Parts {
    let label = format!("{} high, {} medium, {} low risk", current.high, current.medium, current.low);
    Parts { parts: vec![(current.high, "high"), (current.medium, "medium"), (current.low, "low")], label }
}

/// `12 %`; below one percent it says so.
pub(super) fn percent(part: u64, whole: u64) -> String {
    match (part, whole) {
        (_, 0) => "—".to_owned(),
        (0, _) => "0 %".to_owned(),
        (part, whole) if part.saturating_mul(100) < whole => "under 1 %".to_owned(),
        (part, whole) => format!("{:.0} %", part as f64 / whole as f64 * 100.0),
    }
}

/// A chart for each currency, those first of which most is at risk.
fn moneys(history: &[Snapshot], from: Timestamp, now: Timestamp) -> Vec<MoneyChart> {
    let mut newest: BTreeMap<Currency, i64> = BTreeMap::new();
    for snapshot in history {
        newest.extend(snapshot.mrr.iter().map(|(currency, brought)| (*currency, brought.at_risk)));
    }
    let mut currencies: Vec<(Currency, i64)> = newest.into_iter().collect();
    currencies.sort_by_key(|(currency, at_risk)| (std::cmp::Reverse(*at_risk), *currency));
    currencies.truncate(MOST_CURRENCIES);
    currencies.into_iter().map(|(currency, _)| money_chart(currency, history, from, now)).collect()
}

fn money_chart(currency: Currency, history: &[Snapshot], from: Timestamp, now: Timestamp) -> MoneyChart {
    let brought = |snapshot: &Snapshot| snapshot.mrr.get(&currency).copied().unwrap_or_default();
    let said = |minor| money(&Money { minor, currency });
    let highest = history.iter().map(|snapshot| brought(snapshot).at_risk).max().unwrap_or(0);
    let top = nice_top(highest.unsigned_abs().max(100));
    let current = history.last().map(brought).unwrap_or_default();
    let parts = |minor: i64| minor.max(0).unsigned_abs();
    // A row a day is enough to read: the last of each.
    let mut by_day: BTreeMap<i64, &Snapshot> = BTreeMap::new();
    by_day.extend(history.iter().map(|snapshot| (snapshot.at.day(), snapshot)));
    MoneyChart {
        code: currency.as_str().to_uppercase(),
        at_risk: said(current.at_risk),
        all: said(current.all),
        percent: percent(parts(current.at_risk), parts(current.all)),
        top: said(i64::try_from(top).unwrap_or(i64::MAX)),
        half: said(i64::try_from(top / 2).unwrap_or(i64::MAX)),
        chart: Line {
            from,
            to: now,
            points: history.iter().map(|snapshot| (snapshot.at, brought(snapshot).at_risk as f64)).collect(),
            top: top as f64,
            label: format!("Revenue at risk over time; now {}", said(current.at_risk)),
        },
        rows: by_day
            .into_values()
            .rev()
            .map(|snapshot| (When(snapshot.at), said(brought(snapshot).at_risk), said(brought(snapshot).all)))
            .collect(),
    }
}

fn alert_chart(alerts: &[AlertCount], from: Timestamp, days: i64) -> AlertChart {
    let mut by_day: BTreeMap<i64, [u64; 3]> = (0..days).map(|day| (from.day() + day, [0; 3])).collect();
    let mut kinds: BTreeMap<&str, u64> = BTreeMap::new();
    for row in alerts {
        let place = match row.level {
            Level::Low => 0,
            Level::Medium => 1,
            Level::High => 2,
        };
        by_day.entry(row.day.day()).or_default()[place] += row.alerts;
        *kinds.entry(kind_in_words(&row.kind)).or_default() += row.alerts;
    }
    let total: u64 = kinds.values().sum();
    let top = nice_top(by_day.values().map(|parts| parts.iter().sum()).max().unwrap_or(0));
    let bars = by_day.iter().map(|(day, parts)| {
        let [low, medium, high] = parts;
        let date = Timestamp::start_of_day(*day).to_string();
        (format!("{}: {high} high, {medium} medium, {low} low", date.get(..10).unwrap_or_default()), *parts)
    });
    AlertChart {
        total,
        top: count(top),
        half: count(top / 2),
        chart: Bars {
            bars: bars.collect(),
            classes: ["low", "medium", "high"],
            top,
            label: format!("Alerts per day in the last {days} days; {total} in all"),
        },
        rows: by_day
            .iter()
            .rev()
            .filter(|(_, parts)| parts.iter().any(|part| *part > 0))
            .map(|(day, [low, medium, high])| (Day(Timestamp::start_of_day(*day)), [*high, *medium, *low]))
            .collect(),
        kinds: kinds.into_iter().collect(),
    }
}

fn kind_in_words(kind: &str) -> &'static str {
    match kind {
        "risk.raised" => "risk rose",
        "risk.lowered" => "risk fell",
        "customer.churned" => "customer left",
        "customer.recovered" => "customer came back",
        "ingest.anomaly" => "events missing, or back",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_told_honestly() {
        assert_eq!(percent(0, 0), "—");
        assert_eq!(percent(0, 7), "0 %");
        assert_eq!(percent(1, 1_000), "under 1 %");
        assert_eq!(percent(1, 3), "33 %");
        assert_eq!(percent(7, 7), "100 %");
    }

    #[test]
    fn every_day_has_its_place_in_the_chart() {
        let from = Timestamp::start_of_day(20_000);
        let row = AlertCount {
            day: Timestamp::start_of_day(20_003),
            level: Level::High,
            kind: "risk.raised".into(),
            alerts: 3,
        };
        let chart = alert_chart(&[row], from, 7);
        assert_eq!((chart.total, chart.top.as_str(), chart.rows.len(), chart.chart.bars.len()), (3, "4", 1, 7));
        assert_eq!(chart.chart.bars[3].1, [0, 0, 3]);
        assert_eq!(chart.kinds, [("risk rose", 3)]);
    }
}
