//! `GET /dashboard/customers/{token}`: one customer: how it stands and why, how it came to that, what would come next, and
//! what people do about it.

use std::collections::HashMap;

use askama::Template;
use axum::{
    extract::{Path, RawQuery, State},
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use uuid::Uuid;

use super::{
    super::state::Bridge,
    error::{PART, PageError},
    form::Fields,
    layout::{CUSTOMERS, Frame, Page},
    score_chart::{self, Chart, Drawn},
    session::Visitor,
    timeline::{self, Entry},
    words::{Badge, Bar, Day, When, money},
};
use crate::{
    engine::{
        alert::RiskReport,
        checkpoint::{Factor, Level, Status},
        replay::{Archived, Step, replay},
        rules::Rules,
        score::ForecastStep,
    },
    event::{
        ids::{AccountId, CustomerId},
        subject::{self, Token},
        time::Timestamp,
    },
    store::{
        archive::ArchivedEvent,
        interventions::{Intervention, InterventionQuery, OFFERED_TYPES, Outcome},
        outbox::StoredOutboxRow,
        queries::{AlertQuery, StoredScore},
    },
};

/// How much is looked at of each kind.
const SCORES: usize = 500;
const EVENTS: usize = 1_500;
const ALERTS: usize = 200;
const INTERVENTIONS: usize = 200;
/// Stripe customers whose events are looked at too.
const LINKS: usize = 5;
/// Entries of a page of the timeline.
const ENTRIES: usize = 40;

#[derive(Template)]
#[template(path = "dashboard/customer.html")]
struct CustomerPage {
    frame: Frame,
    part: CustomerPart,
}

/// What changes while the page is open.
#[derive(Template)]
#[template(path = "dashboard/customer_part.html")]
struct CustomerPart {
    token: String,
    csrf: String,
    name: String,
    id: Option<String>,
    email: Option<String>,
    score: u8,
    badge: Badge,
    bar: Bar,
    mrr: Option<String>,
    mrr_at_risk: Option<String>,
    action: Option<String>,
    as_of: When,
    factors: Vec<FactorRow>,
    /// They add up to more than 100, or to less than one of them guarantees.
    sum: Option<u32>,
    ahead: Vec<Ahead>,
    is_active: bool,
    chart: Chart,
    /// Where the levels begin.
    medium: u8,
    high: u8,
    /// An id for the next intervention.
    new_id: String,
    /// Some of the line was worked out anew.
    reconstructed: bool,
    steps: Vec<StepRow>,
    interventions: Vec<InterventionRow>,
    types: Vec<(&'static str, String)>,
    outcomes: &'static [(&'static str, &'static str)],
    entries: Vec<Entry>,
    page: usize,
    pages: usize,
    /// Not all events were looked at.
    cut: bool,
}

struct FactorRow {
    reason: String,
    points: u8,
    since: Option<Day>,
}

/// What silence does next.
struct Ahead {
    at: Day,
    score: u8,
    badge: Badge,
}

struct StepRow {
    at: When,
    score: u8,
    badge: Badge,
    how: &'static str,
}

struct InterventionRow {
    id: String,
    kind: Option<String>,
    action: String,
    note: Option<String>,
    by: Option<String>,
    begun: When,
    ended: Option<When>,
    outcome: Option<&'static str>,
    scores: String,
}

pub(super) const OUTCOMES: &[(&str, &str)] = &[
    ("saved", "Saved: the customer stays"),
    ("lost", "Lost: the customer left"),
    ("no_reply", "No reply"),
    ("not_needed", "Not needed"),
];

/// A customer of the visitor's account that a path names by its token.
pub(super) struct Known {
    pub(super) token: Token,
    pub(super) report: RiskReport,
}

/// `GET /dashboard/customers/{token}`
pub(super) async fn customer(
    State(bridge): State<Bridge>,
    visitor: Visitor,
    Path(token): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, PageError> {
    let known = known(&bridge, &visitor.account, &token).await?;
    let query = Fields::read(query.unwrap_or_default().as_bytes());
    let page = query.get("page").parse().unwrap_or(1_usize).max(1);
    let part = CustomerPart::load(&bridge, &visitor, known, page).await?;
    if headers.contains_key(PART) {
        return Ok(Page(part).into_response());
    }
    let frame = Frame::new(&visitor, CUSTOMERS, part.name.clone());
    Ok(Page(CustomerPage { frame, part }).into_response())
}

/// The customer that a path names, if the account has it. One that is being erased is not told of any more.
pub(super) async fn known(bridge: &Bridge, account: &AccountId, token: &str) -> Result<Known, PageError> {
    let token = Token::parse(token).map_err(|_| PageError::NotFound)?;
    if bridge.store.is_suppressed(account, &[token.as_str()], &[]).await? {
        return Err(PageError::NotFound);
    }
    let report = bridge.desk.risk(account, token.as_str(), None).await?;
    // What is left of a Stripe customer that belongs to another one is a signpost.
    if report.status == Status::Moved {
        return Err(PageError::NotFound);
    }
    Ok(Known { token, report })
}

/// What is stored about a customer, the newest first.
struct Stored {
    scores: Vec<StoredScore>,
    events: Vec<ArchivedEvent>,
    alerts: Vec<StoredOutboxRow>,
    interventions: Vec<Intervention>,
    /// By alert: who saw it, and when.
    seen: HashMap<String, (String, Timestamp)>,
    cut: bool,
}

impl Stored {
    async fn load(bridge: &Bridge, account: &AccountId, customer: &CustomerId, token: &str) -> Result<Self, PageError> {
        let store = &bridge.store;
        let mut events = store.timeline(account, token, None, EVENTS).await?;
        for link in store.links_of(account, customer).await?.iter().take(LINKS) {
            let Ok(linked) = CustomerId::parse(&link.stripe_customer) else { continue };
            events.extend(store.timeline(account, subject::encode(&linked).as_str(), None, EVENTS).await?);
        }
        let cut = events.len() >= EVENTS;
        events.sort_by_key(|event| std::cmp::Reverse((event.occurred_at, event.sequence.0)));
        let of_customer = AlertQuery { token: Some(token), limit: ALERTS, ..AlertQuery::default() };
        let asked = InterventionQuery { token: Some(token), limit: INTERVENTIONS, ..InterventionQuery::default() };
        let seen = store.acknowledgements_of(account, token, ALERTS).await?;
        Ok(Self {
            scores: store.score_history(account, token, None, SCORES).await?,
            events,
            alerts: store.list_alerts(account, &of_customer).await?,
            interventions: store.list_interventions(account, &asked).await?,
            seen: seen.into_iter().map(|seen| (seen.alert_id, (seen.by, seen.at))).collect(),
            cut,
        })
    }

    /// The scores before the first one that is stored, from the archive.
    fn before(&self, rules: &Rules, until: Timestamp) -> Vec<Step> {
        let archived = self.events.iter().rev().map(|event| Archived {
            name: &event.name,
            id: event.event_id.as_deref(),
            at: event.occurred_at,
            properties: event.properties.as_deref(),
        });
        replay(rules, archived, until)
    }
}

impl CustomerPart {
    async fn load(bridge: &Bridge, visitor: &Visitor, known: Known, page: usize) -> Result<Self, PageError> {
        let (account, Known { token, report }) = (&visitor.account, known);
        let stored = Stored::load(bridge, account, &report.customer_id, token.as_str()).await?;
        let profile = bridge.store.profile(account, &report.customer_id).await?.unwrap_or_default();
        let rules = bridge.desk.rules.borrow().of(account.as_str());
        let now = bridge.now();
        let mut lines: Vec<Step> =
            stored.scores.iter().rev().map(|line| Step { at: line.at, score: line.score, level: line.level }).collect();
        let before = stored.before(&rules, lines.first().map_or(now, |line| line.at));
        if lines.last().is_none_or(|line| line.score != report.score) {
            lines.push(Step { at: report.as_of.min(now), score: report.score, level: report.level });
        }
        let entries = timeline::entries(&stored.events, &stored.alerts, &stored.interventions, &stored.seen);
        let marks = timeline::marks(&stored.events, &stored.alerts, &stored.interventions);
        let chart = Chart::draw(&Drawn {
            before: &before,
            stored: &lines,
            forecast: &report.forecast,
            events: &marks,
            now,
            medium: rules.medium,
            high: rules.high,
        });
        let pages = entries.len().div_ceil(ENTRIES).max(1);
        let page = page.min(pages);
        let at_risk = |mrr: &crate::event::money::Money| {
            let weighted = (i128::from(mrr.minor.max(0)) * i128::from(report.score) + 50) / 100;
            money(&crate::event::money::Money { minor: i64::try_from(weighted).unwrap_or(i64::MAX), ..*mrr })
        };
        let id = report.customer_id.as_str().to_owned();
        Ok(Self {
            csrf: visitor.csrf.clone(),
            name: profile.contact.company_name.clone().unwrap_or_else(|| id.clone()),
            id: profile.contact.company_name.is_some().then_some(id),
            email: profile.contact.email,
            score: report.score,
            badge: Badge { level: report.level, status: report.status },
            bar: Bar { score: report.score, level: report.level },
            mrr: report.mrr.as_ref().map(money),
            mrr_at_risk: report.mrr.as_ref().map(at_risk),
            action: report.suggested_action,
            as_of: When(report.as_of),
            sum: sum_of(&report.details, report.score),
            factors: report.details.iter().map(|factor| FactorRow::of(factor, &stored.scores)).collect(),
            ahead: report.forecast.iter().map(Ahead::of).collect(),
            is_active: report.status == Status::Active,
            reconstructed: !chart.before.is_empty(),
            chart,
            medium: rules.medium,
            high: rules.high,
            new_id: Uuid::now_v7().to_string(),
            steps: step_rows(&before, &lines),
            interventions: stored.interventions.iter().map(InterventionRow::of).collect(),
            types: OFFERED_TYPES.iter().map(|kind| (*kind, spoken(kind))).collect(),
            outcomes: OUTCOMES,
            entries: entries.into_iter().skip((page - 1) * ENTRIES).take(ENTRIES).collect(),
            page,
            pages,
            cut: stored.cut,
            token: token.as_str().to_owned(),
        })
    }

    fn path(&self) -> String {
        format!("/dashboard/customers/{}", self.token)
    }

    fn width(&self) -> i64 {
        score_chart::WIDTH
    }

    fn height(&self) -> i64 {
        score_chart::HEIGHT
    }

    /// The picture in a sentence.
    fn summary(&self) -> String {
        let steps = self.steps.len();
        let changes = if steps == 1 { "1 change".to_owned() } else { format!("{steps} changes") };
        format!("Score over time: {} now, after {changes} of the score that are known", self.score)
    }
}

/// What the points add up to, where the score is another.
fn sum_of(factors: &[Factor], score: u8) -> Option<u32> {
    let sum: u32 = factors.iter().map(|factor| u32::from(factor.points)).sum();
    (sum != u32::from(score)).then_some(sum)
}

impl FactorRow {
    /// Since when: the line of the history from which on the factor was never absent.
    fn of(factor: &Factor, scores: &[StoredScore]) -> Self {
        let has = |line: &&StoredScore| line.factors.iter().any(|found| found.factor == factor.factor);
        let since = scores.iter().take_while(has).last().map(|line| Day(line.at));
        Self { reason: factor.reason.clone(), points: factor.points, since }
    }
}

impl Ahead {
    fn of(step: &ForecastStep) -> Self {
        Self {
            at: Day(step.silent_until),
            score: step.score,
            badge: Badge { level: step.level, status: Status::Active },
        }
    }
}

fn step_rows(before: &[Step], stored: &[Step]) -> Vec<StepRow> {
    const MOST: usize = 100;
    let row = |step: &Step, how| StepRow {
        at: When(step.at),
        score: step.score,
        badge: Badge { level: step.level, status: Status::Active },
        how,
    };
    let stored = stored.iter().rev().map(|step| row(step, "stored"));
    stored.chain(before.iter().rev().map(|step| row(step, "worked out again"))).take(MOST).collect()
}

impl InterventionRow {
    fn of(row: &Intervention) -> Self {
        let score = |score: Option<u8>| score.map_or_else(|| "?".to_owned(), |score| score.to_string());
        let outcome = row.outcome.map(|outcome| match outcome {
            Outcome::Saved => "Saved",
            Outcome::Lost => "Lost",
            Outcome::NoReply => "No reply",
            Outcome::NotNeeded => "Not needed",
        });
        Self {
            id: row.id.to_string(),
            kind: row.kind.as_ref().map(|kind| spoken(kind.as_str())),
            action: row.action.clone(),
            note: row.note.clone(),
            by: row.created_by.clone(),
            begun: When(row.created_at),
            ended: row.closed_at.map(When),
            scores: match row.outcome {
                Some(_) => format!("score {} → {}", score(row.score_at_start), score(row.score_at_end)),
                None => format!("score {} at the start", score(row.score_at_start)),
            },
            outcome,
        }
    }
}

/// `plan_change` as `Plan change`.
pub(super) fn spoken(name: &str) -> String {
    let words = name.replace('_', " ");
    let mut letters = words.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}
