//! The report on interventions against a plain computation over random cases, and how accounts stand over time.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::{
    Store,
    rows::{account, customer, hours, level_of, message, score, state, write_of},
    server::Database,
};
use crate::{
    engine::checkpoint::{Level, OutboxKind, Status},
    event::{
        money::{Currency, Money},
        subject,
        time::Timestamp,
    },
    store::{
        interventions::{Change, Closing, InterventionType, NewIntervention, Outcome, Standing},
        leases::Role,
        overview::Brought,
        report::{Report, ReportQuery, Spread, Tally},
    },
};

/// A small generator of numbers, the same for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }

    fn index(&mut self, end: usize) -> usize {
        usize::try_from(self.below(end as u64)).unwrap()
    }

    fn score(&mut self) -> u8 {
        u8::try_from(self.below(101)).unwrap()
    }

    fn hour(&mut self) -> i64 {
        i64::try_from(self.below(NOW.unsigned_abs())).unwrap()
    }
}

#[derive(Clone, Debug)]
struct Case {
    kind: Option<&'static str>,
    outcome: Option<Outcome>,
    start: u8,
    mrr: Option<Money>,
    hour: i64,
    customer: usize,
}

const NOW: i64 = 60 * 24;
const CUSTOMERS: usize = 12;

fn drawn(dice: &mut Dice, customer: usize) -> Case {
    let kind = [None, Some("call"), Some("email"), Some("own_1")][dice.index(4)];
    let outcome = [None, Some(Outcome::Saved), Some(Outcome::Lost), Some(Outcome::NoReply), Some(Outcome::NotNeeded)]
        [dice.index(5)];
    let currency = Currency::parse(["usd", "eur"][dice.index(2)]).unwrap();
    let mrr = (dice.below(4) > 0).then(|| Money { minor: dice.hour() * 70, currency });
    Case { kind, outcome, start: dice.score(), mrr, hour: dice.hour(), customer }
}

async fn stored(store: &Store, cases: &[Case], scores: &[Vec<(i64, u8)>]) {
    let acme = account("acme");
    let write = write_of(0, 1, |checkpoint| {
        for (number, history) in scores.iter().enumerate() {
            let lines = history.iter().map(|(hour, points)| score(&format!("c{number}"), hours(*hour), *points));
            checkpoint.scores.extend(lines);
        }
    });
    store.store_checkpoint(&write).await.unwrap();
    for case in cases {
        let id = customer(&format!("c{}", case.customer));
        let kind = case.kind.map(|kind| InterventionType::parse(kind).unwrap());
        let new = NewIntervention {
            id: Uuid::new_v4(),
            customer: &id,
            token: &subject::encode(&id),
            kind: kind.as_ref(),
            action: "x",
            note: None,
            created_by: None,
            standing: Standing { score: case.start, level: level_of(case.start) },
            mrr: case.mrr,
            at: hours(case.hour),
        };
        assert!(store.open_intervention(&acme, &new).await.unwrap());
        if let Some(outcome) = case.outcome {
            let standing = Standing { score: 0, level: Level::Low };
            let closing = Closing { outcome, change: Change::default(), standing, at: hours(case.hour + 1) };
            assert!(store.close_intervention(&acme, new.id, &closing).await.unwrap());
        }
    }
}

/// The report, worked out one case after the other.
fn expected(cases: &[Case], scores: &[Vec<(i64, u8)>], since: i64, until: i64) -> Report {
    let counting: Vec<&Case> = cases.iter().filter(|case| (since..until).contains(&case.hour)).collect();
    let mut by_type: BTreeMap<Option<InterventionType>, Vec<&Case>> = BTreeMap::new();
    for case in &counting {
        let kind = case.kind.map(|kind| InterventionType::parse(kind).unwrap());
        by_type.entry(kind).or_default().push(case);
    }
    let types = by_type.into_iter().map(|(kind, cases)| (kind, tally(&cases, scores))).collect();
    Report { all: tally(&counting, scores), types }
}

fn tally(cases: &[&Case], scores: &[Vec<(i64, u8)>]) -> Tally {
    let with = |outcome| cases.iter().filter(|case| case.outcome == outcome).count() as u64;
    let money = |outcome: Outcome| {
        let mut sums = BTreeMap::new();
        for mrr in cases.iter().filter(|case| case.outcome == Some(outcome)).filter_map(|case| case.mrr) {
            *sums.entry(mrr.currency).or_insert(0) += mrr.minor;
        }
        sums
    };
    let mut changes = Vec::new();
    for case in cases.iter().filter(|case| case.hour + 14 * 24 <= NOW) {
        let until_then = scores[case.customer].iter().rfind(|(hour, _)| *hour <= case.hour + 14 * 24);
        changes.push(i64::from(until_then.map_or(0, |(_, score)| *score)) - i64::from(case.start));
    }
    Tally {
        opened: cases.len() as u64,
        open: with(None),
        saved: with(Some(Outcome::Saved)),
        lost: with(Some(Outcome::Lost)),
        no_reply: with(Some(Outcome::NoReply)),
        not_needed: with(Some(Outcome::NotNeeded)),
        score_at_start: spread(cases.iter().map(|case| i64::from(case.start)).collect()),
        score_change: spread(changes),
        mrr_saved: money(Outcome::Saved),
        mrr_lost: money(Outcome::Lost),
    }
}

fn spread(mut numbers: Vec<i64>) -> Spread {
    numbers.sort_unstable();
    let count = numbers.len();
    if count == 0 {
        return Spread::default();
    }
    let median = (numbers[(count - 1) / 2] + numbers[count / 2]) as f64 / 2.0;
    let mean = numbers.iter().sum::<i64>() as f64 / count as f64;
    Spread { cases: count as u64, mean: Some(mean), median: Some(median) }
}

/// Means as whole thousandths: Postgres divides decimals, we divide floats.
fn comparable(mut report: Report) -> Report {
    for tally in std::iter::once(&mut report.all).chain(report.types.values_mut()) {
        for spread in [&mut tally.score_at_start, &mut tally.score_change] {
            spread.mean = spread.mean.map(|mean| (mean * 1_000.0).round());
        }
    }
    report
}

#[tokio::test]
async fn the_report_is_what_a_plain_count_says() {
    for seed in 1..=6 {
        let (_database, store) = Database::migrated().await;
        store.ensure_partitions(Role::Engine, 1).await.unwrap();
        let mut dice = Dice(seed);
        let scores: Vec<Vec<(i64, u8)>> = (0..CUSTOMERS)
            .map(|_| {
                let mut hours: Vec<i64> = (0..dice.below(8)).map(|_| dice.hour()).collect();
                hours.sort_unstable();
                hours.into_iter().map(|hour| (hour, dice.score())).collect()
            })
            .collect();
        let cases: Vec<Case> = (0..dice.below(120))
            .map(|_| {
                let customer = dice.index(CUSTOMERS);
                drawn(&mut dice, customer)
            })
            .collect();
        stored(&store, &cases, &scores).await;
        for (since, until) in [(None, None), (Some(200), Some(900)), (Some(700), None), (None, Some(3))] {
            let query = ReportQuery { since: since.map(hours), until: until.map(hours), now: hours(NOW) };
            let report = store.intervention_report(&account("acme"), &query).await.unwrap();
            let plain = expected(&cases, &scores, since.unwrap_or(i64::MIN), until.unwrap_or(i64::MAX));
            assert_eq!(comparable(report), comparable(plain), "seed {seed}, {since:?} to {until:?}");
            let foreign = store.intervention_report(&account("other"), &query).await.unwrap();
            assert_eq!(foreign, Report::default());
        }
    }
}

#[test]
fn a_share_of_a_few_cases_is_none() {
    let tally = |saved, lost, not_needed| Tally {
        opened: saved + lost + not_needed,
        saved,
        lost,
        not_needed,
        ..Tally::default()
    };
    assert_eq!(tally(5, 5, 0).share_saved(), Some(0.5));
    assert_eq!(tally(5, 4, 90).share_saved(), None, "what was not needed is no case");
    assert_eq!(tally(0, 0, 0).share_saved(), None);
}

/// Customers of `acme`, some of whom left or became another.
async fn standing_customers() -> (Database, Store) {
    let (database, store) = Database::migrated().await;
    store.ensure_partitions(Role::Engine, 1).await.unwrap();
    for name in ["acme", "empty"] {
        store.add_account(&account(name), name).await.unwrap();
    }
    let currency = |code| Currency::parse(code).unwrap();
    let write = write_of(0, 1, |checkpoint| {
        for (id, score, status, mrr) in [
            ("a", 90, Status::Active, Some((1_000, "usd"))),
            ("b", 50, Status::Active, Some((500, "usd"))),
            ("c", 50, Status::Active, Some((301, "eur"))),
            ("d", 0, Status::Active, None),
            ("e", 100, Status::Churned, Some((7_000, "usd"))),
            ("f", 80, Status::Moved, Some((9_000, "usd"))),
            ("g", 100, Status::Active, Some((i64::MAX, "chf"))),
        ] {
            let mut row = state(id);
            (row.score, row.level, row.status) = (score, level_of(score), status);
            row.mrr = mrr.map(|(minor, code)| Money { minor, currency: currency(code) });
            checkpoint.states.push(row);
        }
        for number in 0..3 {
            let mut row = message("a", OutboxKind::Alert, &format!("acme:alert:{number}"));
            row.body = br#"{"kind":"risk.raised"}"#.to_vec();
            row.at = hours(30 * number);
            checkpoint.outbox.push(row);
        }
        checkpoint.outbox.push(message("a", OutboxKind::HeldAlert, "acme:alert:held"));
    });
    store.store_checkpoint(&write).await.unwrap();
    (database, store)
}

#[tokio::test]
async fn how_an_account_stands_is_noted_once_an_hour() {
    let (_database, store) = standing_customers().await;
    let (acme, now) = (account("acme"), hours(100).plus_millis(61_000));
    let live = store.overview_now(&acme, now).await.unwrap();
    assert_eq!((live.high, live.medium, live.low, live.churned, live.at), (2, 2, 1, 1, now));
    let brought = |all, at_risk| Brought { all, at_risk };
    let expected = [
        ("chf", brought(9_000_000_000_000_000_000, 90_000_000_000_000_000)),
        ("eur", brought(301, 150)),
        ("usd", brought(1_500, 1_150)),
    ];
    let expected: BTreeMap<_, _> =
        expected.into_iter().map(|(code, brought)| (Currency::parse(code).unwrap(), brought)).collect();
    assert_eq!(live.mrr, expected);

    let (one, two) = tokio::join!(store.note_hour(now), store.note_hour(now));
    assert!(one.unwrap() || two.unwrap(), "one of two that try at once does it");
    assert!(store.note_hour(now).await.unwrap());
    let noted = store.overview_since(&acme, hours(0)).await.unwrap();
    assert_eq!(noted, [crate::store::overview::Snapshot { at: hours(100), ..live }]);
    let empty = store.overview_since(&account("empty"), hours(0)).await.unwrap();
    assert_eq!((empty.len(), empty[0].high, empty[0].mrr.len()), (1, 0, 0));
    assert!(store.note_hour(hours(101)).await.unwrap());
    assert_eq!(store.overview_since(&acme, hours(101)).await.unwrap().len(), 1);

    let alerts = store.alerts_per_day(&acme, hours(0)).await.unwrap();
    let days: Vec<(Timestamp, u64)> = alerts.iter().map(|row| (row.day, row.alerts)).collect();
    assert_eq!(days, [(hours(0), 1), (hours(24), 1), (hours(48), 1)]);
    assert_eq!((alerts[0].level, alerts[0].kind.as_str()), (Level::High, "risk.raised"));
    assert_eq!(store.alerts_per_day(&acme, hours(24)).await.unwrap().len(), 2);
    assert_eq!(store.alerts_per_day(&account("empty"), hours(0)).await.unwrap(), []);
}

#[tokio::test]
async fn of_days_long_past_one_hour_is_left() {
    let (_database, store) = standing_customers().await;
    for hour in 5..=300 {
        store.note_hour(hours(hour)).await.unwrap();
    }
    store.thin_hours(hours(300)).await.unwrap();
    let left = store.overview_since(&account("acme"), hours(0)).await.unwrap();
    let hourly_from = 300 - 8 * 24;
    let expected: Vec<Timestamp> =
        (5..=300).filter(|hour| *hour >= hourly_from || *hour == 5 || hour % 24 == 0).map(hours).collect();
    assert_eq!(left.iter().map(|row| row.at).collect::<Vec<_>>(), expected);
    store.thin_hours(hours(300 + 730 * 24)).await.unwrap();
    assert_eq!(store.overview_since(&account("acme"), hours(0)).await.unwrap(), []);
}
