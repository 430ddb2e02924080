//! Reading rules files: from TOML to checked [`Rules`], or every mistake with its line and field.

use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::{
    names::Name,
    rules::{Condition, FactorRule, RuleMistake, Rules, UsageDrop},
    usage::WindowLength,
};
use crate::event::fact::SubscriptionStatus;

/// A set holds no more factors than a bit mask has bits.
const MOST_FACTORS: usize = 64;
const DAY: Duration = Duration::from_secs(86_400);

/// Reads and checks a rules file's text.
pub(super) fn read(text: &str) -> Result<Rules, Vec<RuleMistake>> {
    let source: RulesSource = toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(0, |span| line_of(text, span.start));
        let field = error.span().map_or_else(String::new, |span| field_at(text, span.start));
        vec![RuleMistake { line, field, problem: error.message().replace('\n', ", ") }]
    })?;
    let mut mistakes = Mistakes { text, found: Vec::new() };
    let rules = source.check(text, &mut mistakes);
    if mistakes.found.is_empty() { Ok(rules) } else { Err(mistakes.found) }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RulesSource {
    version: Spanned<i64>,
    levels: LevelsSource,
    usage: UsageSource,
    #[serde(default)]
    factor: Vec<Spanned<FactorSource>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LevelsSource {
    medium: Spanned<i64>,
    high: Spanned<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UsageSource {
    #[serde(default)]
    except: Vec<String>,
    #[serde(default)]
    except_prefixes: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FactorSource {
    name: Spanned<String>,
    kind: Spanned<String>,
    points: Spanned<i64>,
    at_least: Option<Spanned<i64>>,
    reason: Spanned<String>,
    action: Option<String>,
    event: Option<Spanned<String>>,
    events: Option<Spanned<Vec<String>>>,
    cleared_by: Option<Spanned<String>>,
    after_days: Option<Spanned<i64>>,
    within_days: Option<Spanned<i64>>,
    window_days: Option<Spanned<i64>>,
    more_than_percent: Option<Spanned<i64>>,
    if_never: Option<Spanned<String>>,
    statuses: Option<Spanned<Vec<SubscriptionStatus>>>,
}

/// Collects mistakes with their lines.
struct Mistakes<'a> {
    text: &'a str,
    found: Vec<RuleMistake>,
}

impl Mistakes<'_> {
    fn add(&mut self, at: usize, field: &str, problem: impl Into<String>) {
        let line = line_of(self.text, at);
        self.found.push(RuleMistake { line, field: field.to_owned(), problem: problem.into() });
    }

    /// A whole number within bounds, or a mistake and the lower bound.
    fn number(&mut self, value: &Spanned<i64>, field: &str, allowed: std::ops::RangeInclusive<u8>) -> u8 {
        match u8::try_from(*value.get_ref()).ok().filter(|number| allowed.contains(number)) {
            Some(number) => number,
            None => {
                let problem =
                    format!("{} is not allowed: {} to {} is", value.get_ref(), allowed.start(), allowed.end());
                self.add(value.span().start, field, problem);
                *allowed.start()
            }
        }
    }
}

/// The name before the value at a place of the text; empty where no name with a value stands there.
fn field_at(text: &str, place: usize) -> String {
    let line = text.get(..place).and_then(|before| before.rsplit('\n').next()).unwrap_or_default();
    line.split_once('=').map_or("", |(name, _)| name).trim().to_owned()
}

impl RulesSource {
    fn check(self, text: &str, mistakes: &mut Mistakes<'_>) -> Rules {
        if *self.version.get_ref() != 1 {
            mistakes.add(self.version.span().start, "version", "this churnd reads version 1 of rules files");
        }
        let medium = mistakes.number(&self.levels.medium, "levels.medium", 1..=100);
        let high = mistakes.number(&self.levels.high, "levels.high", 1..=100);
        if high <= medium && mistakes.found.is_empty() {
            mistakes.add(self.levels.high.span().start, "levels.high", "must be above levels.medium");
        }
        if self.factor.len() > MOST_FACTORS {
            mistakes.add(self.factor[MOST_FACTORS].span().start, "factor", "at most 64 factors are possible");
        }
        let mut names: Vec<String> = Vec::new();
        let mut factors = Vec::with_capacity(self.factor.len());
        for factor in self.factor {
            let start = factor.span().start;
            let factor = factor.into_inner();
            if names.contains(factor.name.get_ref()) {
                mistakes.add(factor.name.span().start, "factor.name", "another factor has this name");
            }
            names.push(factor.name.get_ref().clone());
            factors.extend(factor.check(start, mistakes));
        }
        Rules::new(text, (medium, high), factors, self.usage.except, self.usage.except_prefixes)
    }
}

/// Which fields belong to a kind, beside those that every factor has.
const FIELDS_OF_KINDS: [(&str, &[&str]); 9] = [
    ("inactive", &["event", "after_days", "if_never"]),
    ("usage_drop", &["window_days", "more_than_percent"]),
    ("recent", &["event", "within_days", "cleared_by"]),
    ("sentiment", &["events", "within_days"]),
    ("cancellation", &[]),
    ("subscription", &["statuses"]),
    ("dispute", &[]),
    ("downgrade", &["within_days"]),
    ("card_expiry", &["within_days"]),
];

impl FactorSource {
    fn check(self, start: usize, mistakes: &mut Mistakes<'_>) -> Option<FactorRule> {
        if self.name.get_ref().is_empty() {
            mistakes.add(self.name.span().start, "factor.name", "must not be empty");
        }
        if self.reason.get_ref().is_empty() {
            mistakes.add(self.reason.span().start, "factor.reason", "must not be empty");
        }
        let points = mistakes.number(&self.points, "factor.points", 0..=100);
        let at_least = self.at_least.as_ref().map_or(0, |value| mistakes.number(value, "factor.at_least", 0..=100));
        let is_zero = |value: &Spanned<i64>| *value.get_ref() == 0;
        if is_zero(&self.points) && self.at_least.as_ref().is_none_or(is_zero) {
            mistakes.add(self.points.span().start, "factor.points", "a factor without points needs `at_least`");
        }
        let condition = self.condition(start, mistakes)?;
        Some(FactorRule {
            name: self.name.into_inner(),
            condition,
            points,
            at_least,
            reason: self.reason.into_inner(),
            action: self.action,
        })
    }

    fn condition(&self, start: usize, mistakes: &mut Mistakes<'_>) -> Option<Condition> {
        let kind = self.kind.get_ref().as_str();
        let Some((_, fields)) = FIELDS_OF_KINDS.iter().find(|(name, _)| *name == kind) else {
            let kinds: Vec<&str> = FIELDS_OF_KINDS.iter().map(|(name, _)| *name).collect();
            let problem = format!("`{kind}` is not a kind; the kinds are {}", kinds.join(", "));
            mistakes.add(self.kind.span().start, "factor.kind", problem);
            return None;
        };
        for (field, at) in self.given().into_iter().filter(|(field, _)| !fields.contains(field)) {
            mistakes.add(at, &format!("factor.{field}"), format!("a factor of kind `{kind}` has no such field"));
        }
        let mut days = |value: &Option<Spanned<i64>>, field: &str, most: u8| match value {
            Some(value) => Some(DAY * u32::from(mistakes.number(value, &format!("factor.{field}"), 1..=most))),
            None => {
                mistakes.add(start, &format!("factor.{field}"), format!("a factor of kind `{kind}` needs it"));
                None
            }
        };
        Some(match kind {
            "inactive" => Condition::Inactive {
                after: days(&self.after_days, "after_days", 255)?,
                since_first_seen: self.since_first_seen(mistakes)?,
                event: self.required_event(start, mistakes)?,
            },
            "usage_drop" => {
                let window = days(&self.window_days, "window_days", 30)?.as_secs() / DAY.as_secs();
                let Some(percent) = &self.more_than_percent else {
                    mistakes.add(start, "factor.more_than_percent", "a factor of kind `usage_drop` needs it");
                    return None;
                };
                Condition::UsageDrop(UsageDrop {
                    window: WindowLength::from_days(u8::try_from(window).expect("checked to be at most 30")),
                    more_than_percent: mistakes.number(percent, "factor.more_than_percent", 0..=99),
                })
            }
            "recent" => Condition::Recent {
                within: days(&self.within_days, "within_days", 255)?,
                event: self.required_event(start, mistakes)?,
                cleared_by: self.cleared_by.as_ref().map(|name| Name::of(name.get_ref())),
            },
            "sentiment" => {
                let within = days(&self.within_days, "within_days", 255)?;
                match &self.events {
                    Some(events) if !events.get_ref().is_empty() => {
                        Condition::Sentiment { events: events.get_ref().clone(), within }
                    }
                    _ => {
                        mistakes.add(start, "factor.events", "a factor of kind `sentiment` needs at least one");
                        return None;
                    }
                }
            }
            "cancellation" => Condition::Cancellation,
            "subscription" => match &self.statuses {
                Some(statuses) if !statuses.get_ref().is_empty() => {
                    Condition::Subscription { statuses: statuses.get_ref().clone() }
                }
                _ => {
                    mistakes.add(start, "factor.statuses", "a factor of kind `subscription` needs at least one");
                    return None;
                }
            },
            "dispute" => Condition::Dispute,
            "downgrade" => Condition::Downgrade { within: days(&self.within_days, "within_days", 255)? },
            _ => Condition::CardExpiry { within: days(&self.within_days, "within_days", 255)? },
        })
    }

    /// The optional fields that the file gives, with where they stand.
    fn given(&self) -> Vec<(&'static str, usize)> {
        fn at<T>(field: &'static str, value: &Option<Spanned<T>>) -> Option<(&'static str, usize)> {
            value.as_ref().map(|value| (field, value.span().start))
        }
        [
            at("event", &self.event),
            at("events", &self.events),
            at("cleared_by", &self.cleared_by),
            at("after_days", &self.after_days),
            at("within_days", &self.within_days),
            at("window_days", &self.window_days),
            at("more_than_percent", &self.more_than_percent),
            at("if_never", &self.if_never),
            at("statuses", &self.statuses),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    fn required_event(&self, start: usize, mistakes: &mut Mistakes<'_>) -> Option<Name> {
        match &self.event {
            Some(event) if !event.get_ref().is_empty() => Some(Name::of(event.get_ref())),
            _ => {
                let problem = format!("a factor of kind `{}` needs it", self.kind.get_ref());
                mistakes.add(start, "factor.event", problem);
                None
            }
        }
    }

    fn since_first_seen(&self, mistakes: &mut Mistakes<'_>) -> Option<bool> {
        match self.if_never.as_ref().map(|value| (value.get_ref().as_str(), value.span().start)) {
            None | Some(("ignore", _)) => Some(false),
            Some(("since_first_seen", _)) => Some(true),
            Some((other, at)) => {
                let problem = format!("`{other}` is not allowed: `ignore` or `since_first_seen` is");
                mistakes.add(at, "factor.if_never", problem);
                None
            }
        }
    }
}

fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes()[..at.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
}
