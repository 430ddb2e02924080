//! What worked: interventions by type, how they ended, and how scores went on.

use std::collections::BTreeMap;

use askama::Template;
use axum::extract::State;

use super::{
    super::{query::Checked, state::Bridge},
    chart::Parts,
    error::PageError,
    layout::{Frame, Page, WORKED},
    overview::percent,
    session::Visitor,
    words::{count, money},
};
use crate::{
    event::{
        money::{Currency, Money},
        time::Timestamp,
    },
    store::report::{CHANGE_AFTER_DAYS, ENOUGH_CASES, ReportQuery, Spread, Tally},
};

const DAY_MILLIS: i64 = 86_400_000;
/// The days that can be looked back; 0 is all.
const RANGES: [i64; 4] = [30, 90, 365, 0];

#[derive(Template)]
#[template(path = "dashboard/worked.html")]
pub(super) struct WorkedPage {
    frame: Frame,
    days: i64,
    all: Row,
    types: Vec<Row>,
    enough: u64,
    after_days: i64,
}

/// A type's line.
struct Row {
    name: String,
    opened: String,
    open: String,
    ended: Vec<(&'static str, &'static str, u64)>,
    chart: Parts,
    decided: u64,
    share: Option<String>,
    start: String,
    change: String,
    change_cases: u64,
    saved: Vec<String>,
    lost: Vec<String>,
}

/// How far to look back.
#[derive(Debug, serde::Deserialize)]
pub(super) struct WorkedQuery {
    #[serde(default)]
    days: Option<String>,
}

/// `GET /dashboard/what-worked`
pub(super) async fn worked(
    State(bridge): State<Bridge>,
    visitor: Visitor,
    Checked(query): Checked<WorkedQuery>,
) -> Result<Page<WorkedPage>, PageError> {
    let asked = query.days.and_then(|days| days.parse().ok());
    let days = RANGES.into_iter().find(|days| Some(*days) == asked).unwrap_or(90);
    let now = bridge.now();
    let since = (days > 0).then(|| Timestamp::start_of_day(now.plus_millis(-(days - 1) * DAY_MILLIS).day()));
    let report = bridge.store.intervention_report(&visitor.account, &ReportQuery { since, until: None, now }).await?;
    let mut types: Vec<(&_, &Tally)> = report.types.iter().collect();
    types.sort_by_key(|(_, tally)| std::cmp::Reverse(tally.opened));
    let name = |kind: &Option<_>| kind.as_ref().map_or("Unassigned".to_owned(), type_in_words);
    Ok(Page(WorkedPage {
        frame: Frame::new(&visitor, WORKED, "What worked"),
        days,
        all: row("All".to_owned(), &report.all),
        types: types.into_iter().map(|(kind, tally)| row(name(kind), tally)).collect(),
        enough: ENOUGH_CASES,
        after_days: CHANGE_AFTER_DAYS,
    }))
}

impl WorkedPage {
    fn ranges(&self) -> [(i64, &'static str); 4] {
        [(30, "30 days"), (90, "90 days"), (365, "a year"), (0, "all time")]
    }
}

/// `plan_change` → `Plan change`.
fn type_in_words(kind: &crate::store::interventions::InterventionType) -> String {
    let text = kind.as_str().replace('_', " ");
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn row(name: String, tally: &Tally) -> Row {
    let ended = vec![
        ("saved", "low", tally.saved),
        ("lost", "high", tally.lost),
        ("no reply", "medium", tally.no_reply),
        ("not needed", "churned", tally.not_needed),
    ];
    let label = ended.iter().map(|(word, _, cases)| format!("{cases} {word}")).collect::<Vec<_>>().join(", ");
    Row {
        opened: count(tally.opened),
        open: count(tally.open),
        chart: Parts { parts: ended.iter().map(|(_, class, cases)| (*cases, *class)).collect(), label },
        ended: ended.into_iter().filter(|(_, _, cases)| *cases > 0).collect(),
        decided: tally.decided(),
        share: tally.share_saved().map(|_| percent(tally.saved, tally.decided())),
        start: middle(tally.score_at_start, false),
        change: middle(tally.score_change, true),
        change_cases: tally.score_change.cases,
        saved: moneys(&tally.mrr_saved),
        lost: moneys(&tally.mrr_lost),
        name,
    }
}

/// The median, with a sign if it is a change.
fn middle(spread: Spread, signed: bool) -> String {
    match spread.median {
        None => "—".to_owned(),
        Some(median) if signed && median > 0.0 => format!("+{median}"),
        Some(median) if median < 0.0 => format!("−{}", -median),
        Some(median) => format!("{median}"),
    }
}

fn moneys(by_currency: &BTreeMap<Currency, i64>) -> Vec<String> {
    by_currency.iter().map(|(currency, minor)| money(&Money { minor: *minor, currency: *currency })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_cases_have_no_share() {
        let few = row("Call".into(), &Tally { opened: 9, saved: 9, ..Tally::default() });
        assert_eq!((few.share, few.decided), (None, 9));
        let enough = row("Call".into(), &Tally { opened: 10, saved: 7, lost: 3, ..Tally::default() });
        assert_eq!(enough.share.as_deref(), Some("70 %"));
    }

    #[test]
    fn changes_have_a_sign() {
        let spread = |median| Spread { cases: 1, mean: Some(median), median: Some(median) };
        assert_eq!(
            [middle(spread(-12.5), true), middle(spread(3.0), true), middle(spread(0.0), true)],
            ["−12.5", "+3", "0"]
        );
        assert_eq!(middle(Spread::default(), true), "—");
        let kind = crate::store::interventions::InterventionType::parse("plan_change").unwrap();
        assert_eq!(type_in_words(&kind), "Plan change");
    }
}
