//! What a person is sent: an alert, or several as a digest, put into words once for all kinds of channel.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::{
    alert::Alert,
    words::{at_risk, capital, counted, line, moment, money, name, silence},
};
use crate::{
    engine::{alert::AlertKind, checkpoint::Level},
    event::{
        ids::CustomerId,
        money::{Currency, Money},
        subject,
    },
};

/// Customers that a digest names; the others are counted.
pub const MOST_ROWS: usize = 40;
/// Reasons and forecasts that one alert names.
const MOST_LINES: usize = 12;

/// What a message is made from.
#[derive(Clone, Debug)]
pub struct Notice {
    /// Its key: the same at each try, and what receivers may recognize repeats by.
    pub key: String,
    /// The alerts it tells; more than one make a digest. Never empty.
    pub alerts: Vec<Told>,
}

/// An alert with what else is known of its customer.
#[derive(Clone, Debug)]
pub struct Told {
    /// The alert.
    pub alert: Alert,
    /// The customer's company, where such names are stored.
    pub company: Option<String>,
}

/// A notice in words: what templates are filled with. What is unknown is empty, so that every field is always there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Wording {
    /// The notice's key.
    pub key: String,
    /// The account.
    pub account: String,
    /// Several alerts are told at once.
    pub digest: bool,
    /// What happened, in one line.
    pub headline: String,
    /// The alert; in a digest the first of [`Self::alerts`].
    pub alert: Words,
    /// The alerts, those about the account first, then by MRR at risk and score; one for each customer.
    pub alerts: Vec<Words>,
    /// How many customers are told of.
    pub count: usize,
    /// How many of them stand in no line.
    pub more: usize,
    /// How many are at each level, the highest first; levels of nobody are left out.
    pub levels: Vec<LevelCount>,
    /// What they bring a month, for each currency.
    pub mrr: Vec<String>,
    /// The part of it that is at risk, for each currency.
    pub mrr_at_risk: Vec<String>,
    /// Where the dashboard is.
    pub link: String,
}

/// How many customers are at a level.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LevelCount {
    /// `high`, `medium`, `low`, or `churned`.
    pub level: &'static str,
    /// How many.
    pub count: usize,
}

/// One alert in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Words {
    /// The alert's id.
    pub id: String,
    /// `raised`, `lowered`, `churned`, `recovered` or `anomaly`.
    pub kind: &'static str,
    /// What happened, in one line.
    pub headline: String,
    /// The customer's company where it is known, else its id; empty for what concerns the account.
    pub customer: String,
    /// The customer's id; empty for what concerns the account.
    pub customer_id: String,
    /// `low`, `medium` or `high`.
    pub level: &'static str,
    /// The level that was told before.
    pub previous_level: &'static str,
    /// 0 safe, 100 at risk.
    pub score: u8,
    /// The score that was told before.
    pub previous_score: u8,
    /// `+45`, `-20` or `0`.
    pub change: String,
    /// The reasons.
    pub reasons: Vec<String>,
    /// What to do first.
    pub action: String,
    /// What the customer brings a month.
    pub mrr: String,
    /// The part of it that is at risk.
    pub mrr_at_risk: String,
    /// What silence would do next.
    pub forecast: Vec<String>,
    /// When it was raised.
    pub at: String,
    /// Where the dashboard shows the customer.
    pub link: String,
}

impl Wording {
    /// Puts a notice into words. Without `public_url` there are no links.
    pub fn of(notice: &Notice, public_url: Option<&str>) -> Self {
        let public_url = public_url.map(|url| url.trim_end_matches('/'));
        let digest = notice.alerts.len() > 1;
        let rows = by_customer(&notice.alerts);
        let levels = count_levels(&rows);
        let mrr = sums(&rows, |alert| alert.mrr);
        let mrr_at_risk = sums(&rows, |alert| alert.mrr.map(|mrr| at_risk(mrr, alert.score)));
        let count = rows.len();
        let alerts: Vec<Words> = rows.iter().take(MOST_ROWS).map(|row| Words::of(row, public_url)).collect();
        let alert = alerts.first().cloned().unwrap_or_else(Words::nothing);
        let headline = if digest { headline_of_many(count, &levels, &mrr_at_risk) } else { alert.headline.clone() };
        let account = notice.alerts.first().map(|told| told.alert.account.to_string()).unwrap_or_default();
        let link = public_url.map(|url| format!("{url}/dashboard")).unwrap_or_default();
        let more = count - alerts.len();
        Self {
            key: notice.key.clone(),
            account,
            digest,
            headline,
            alert,
            alerts,
            count,
            more,
            levels,
            mrr,
            mrr_at_risk,
            link,
        }
    }
}

/// One row for each customer: its newest alert, compared with what was known before its oldest.
fn by_customer(alerts: &[Told]) -> Vec<Told> {
    let mut places: HashMap<&str, usize> = HashMap::new();
    let mut rows: Vec<Told> = Vec::new();
    let mut ordered: Vec<&Told> = alerts.iter().collect();
    ordered.sort_by_key(|told| told.alert.at);
    for told in ordered {
        let known = told.alert.customer_id.as_deref().and_then(|id| places.get(id));
        match known {
            Some(place) => {
                let row = &mut rows[*place];
                let (level, score) = (row.alert.previous_level, row.alert.previous_score);
                let company = told.company.clone().or_else(|| row.company.take());
                *row = Told { alert: told.alert.clone(), company };
                (row.alert.previous_level, row.alert.previous_score) = (level, score);
            }
            None => {
                places.extend(told.alert.customer_id.as_deref().map(|id| (id, rows.len())));
                rows.push(told.clone());
            }
        }
    }
    let risk = |told: &Told| told.alert.mrr.map_or(0, |mrr| at_risk(mrr, told.alert.score).minor);
    rows.sort_by_cached_key(|told| {
        let concerns_account = told.alert.customer_id.is_none();
        std::cmp::Reverse((
            concerns_account,
            risk(told),
            told.alert.score,
            std::cmp::Reverse(told.alert.customer_id.clone()),
        ))
    });
    rows
}

fn count_levels(rows: &[Told]) -> Vec<LevelCount> {
    let of_customers = || rows.iter().map(|row| &row.alert).filter(|alert| alert.customer_id.is_some());
    let churned = |alert: &&Alert| alert.kind == AlertKind::CustomerChurned;
    let at = |level: Level| of_customers().filter(|alert| !churned(alert) && alert.level == level).count();
    let counts = [
        LevelCount { level: "churned", count: of_customers().filter(churned).count() },
        LevelCount { level: "high", count: at(Level::High) },
        LevelCount { level: "medium", count: at(Level::Medium) },
        LevelCount { level: "low", count: at(Level::Low) },
    ];
    counts.into_iter().filter(|entry| entry.count > 0).collect()
}

/// Sums in words, one for each currency; sums of nothing are left out.
fn sums(rows: &[Told], amount: impl Fn(&Alert) -> Option<Money>) -> Vec<String> {
    let mut sums: BTreeMap<Currency, i64> = BTreeMap::new();
    for found in rows.iter().filter_map(|row| amount(&row.alert)) {
        let sum = sums.entry(found.currency).or_default();
        *sum = sum.saturating_add(found.minor);
    }
    let told = sums.into_iter().filter(|(_, minor)| *minor != 0);
    told.map(|(currency, minor)| money(Money { minor, currency })).collect()
}

fn headline_of_many(count: usize, levels: &[LevelCount], mrr_at_risk: &[String]) -> String {
    let worst = levels.iter().take(2).map(|entry| match entry.level {
        "churned" => format!("{} churned", entry.count),
        level => format!("{} at {level} risk", entry.count),
    });
    let worst = worst.collect::<Vec<_>>().join(", ");
    let about = if worst.is_empty() { String::new() } else { format!(": {worst}") };
    let money =
        if mrr_at_risk.is_empty() { String::new() } else { format!(" ({} a month at risk)", mrr_at_risk.join(", ")) };
    format!("{}{about}{money}", counted(count, "change"))
}

impl Words {
    fn of(told: &Told, public_url: Option<&str>) -> Self {
        let Told { alert, company } = told;
        let id = alert.customer_id.as_deref().unwrap_or_default();
        let company = company.as_deref().map(name).filter(|company| !company.is_empty());
        let customer = company.unwrap_or_else(|| name(id));
        let forecast = alert.forecast.iter().take(MOST_LINES).map(|step| silence(step, alert.at));
        let reasons = alert.factors.iter().take(MOST_LINES).map(|reason| line(reason));
        Self {
            id: alert.id.clone(),
            kind: kind(alert.kind),
            headline: headline(alert, &customer),
            customer_id: line(id),
            level: alert.level.as_str(),
            previous_level: alert.previous_level.as_str(),
            score: alert.score,
            previous_score: alert.previous_score,
            change: change(alert),
            reasons: reasons.collect(),
            action: alert.suggested_action.as_deref().map(line).unwrap_or_else(|| action_of(alert)),
            mrr: alert.mrr.map(money).unwrap_or_default(),
            mrr_at_risk: alert.mrr.map(|mrr| money(at_risk(mrr, alert.score))).unwrap_or_default(),
            forecast: forecast.collect(),
            at: moment(alert.at),
            link: public_url.and_then(|url| link(url, alert)).unwrap_or_default(),
            customer,
        }
    }

    fn nothing() -> Self {
        let text = String::new;
        Self {
            id: text(),
            kind: "raised",
            headline: text(),
            customer: text(),
            customer_id: text(),
            level: "low",
            previous_level: "low",
            score: 0,
            previous_score: 0,
            change: text(),
            reasons: Vec::new(),
            action: text(),
            mrr: text(),
            mrr_at_risk: text(),
            forecast: Vec::new(),
            at: text(),
            link: text(),
        }
    }
}

fn kind(kind: AlertKind) -> &'static str {
    match kind {
        AlertKind::RiskRaised => "raised",
        AlertKind::RiskLowered => "lowered",
        AlertKind::CustomerChurned => "churned",
        AlertKind::CustomerRecovered => "recovered",
        AlertKind::IngestAnomaly => "anomaly",
    }
}

/// The thing first: what is read in a list of messages.
fn headline(alert: &Alert, customer: &str) -> String {
    let (score, before) = (alert.score, alert.previous_score);
    let monthly = alert.mrr.filter(|mrr| mrr.minor > 0).map(|mrr| format!(", {} a month", money(mrr)));
    let monthly = monthly.unwrap_or_default();
    match alert.kind {
        AlertKind::RiskRaised => {
            format!("{} churn risk: {customer}, score {score} (was {before}){monthly}", capital(alert.level))
        }
        AlertKind::RiskLowered => {
            format!("Risk fell to {}: {customer}, score {score} (was {before})", alert.level.as_str())
        }
        AlertKind::CustomerChurned => format!("Churned: {customer}{monthly}"),
        AlertKind::CustomerRecovered => format!("Back again: {customer}, score {score} ({})", alert.level.as_str()),
        AlertKind::IngestAnomaly if alert.level == Level::Low => {
            format!("Events are back: tracking of account {} works again", alert.account)
        }
        AlertKind::IngestAnomaly => format!("Tracking may be broken: events of account {} are missing", alert.account),
    }
}

fn change(alert: &Alert) -> String {
    match i16::from(alert.score) - i16::from(alert.previous_score) {
        0 => "0".to_owned(),
        change => format!("{change:+}"),
    }
}

/// What to do where no factor says it.
fn action_of(alert: &Alert) -> String {
    let action = match alert.kind {
        AlertKind::IngestAnomaly if alert.level == Level::Low => "",
        AlertKind::IngestAnomaly => "Check that your services still send events, and that their keys are valid",
        AlertKind::CustomerChurned => "Ask why, and offer a way back",
        AlertKind::RiskRaised | AlertKind::RiskLowered | AlertKind::CustomerRecovered => "",
    };
    action.to_owned()
}

fn link(public_url: &str, alert: &Alert) -> Option<String> {
    let Some(id) = alert.customer_id.as_deref() else { return Some(format!("{public_url}/dashboard")) };
    let customer = CustomerId::parse(id).ok()?;
    Some(format!("{public_url}/dashboard/customers/{}", subject::encode(&customer)))
}
