//! Rules as data: what makes a customer a risk, read from TOML and checked as a whole.
//!
//! Reading is pure: the caller brings the text and the name it should have in messages. A mistake is reported with
//! file, line and field, and all mistakes at once.

use std::{fmt, time::Duration};

use serde::Deserialize;
use toml::Spanned;
use xxhash_rust::xxh3::xxh3_64;

use super::{
    checkpoint::Level,
    names::{COMMON_NAMES, EventName, Name},
    usage::WindowLength,
};
use crate::event::fact::SubscriptionStatus;

/// The rules that come with churnd.
pub const DEFAULT_RULES: &str = include_str!("../../config/rules.toml");

/// A set holds no more factors than a bit mask has bits.
const MOST_FACTORS: usize = 64;
const DAY: Duration = Duration::from_secs(86_400);

/// A checked set of rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    pub(crate) medium: u8,
    pub(crate) high: u8,
    pub(crate) factors: Vec<FactorRule>,
    usage_except: Vec<String>,
    usage_except_prefixes: Vec<String>,
    /// What is known beforehand of common names, by code.
    common: Vec<Meaning>,
    /// The factors that usage alone decides, each with its bit.
    usage_drops: Vec<(u64, UsageDrop)>,
    hash: u64,
}

/// What events of a name mean to the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Meaning {
    /// They count as usage.
    pub(crate) is_usage: bool,
    /// They are support interactions.
    pub(crate) is_support: bool,
    /// Some factor asks when the last one came.
    pub(crate) is_named: bool,
}

/// A drop of usage between two neighboring windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UsageDrop {
    pub(crate) window: WindowLength,
    pub(crate) more_than_percent: u8,
}

/// One factor of a score.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FactorRule {
    pub(crate) name: String,
    pub(crate) condition: Condition,
    pub(crate) points: u8,
    pub(crate) at_least: u8,
    pub(crate) reason: String,
    pub(crate) action: Option<String>,
}

/// When a factor is active.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    Inactive { event: Name, after: Duration, since_first_seen: bool },
    UsageDrop(UsageDrop),
    Recent { event: Name, within: Duration, cleared_by: Option<Name> },
    Sentiment { events: Vec<String>, within: Duration },
    Cancellation,
    Subscription { statuses: Vec<SubscriptionStatus> },
    Dispute,
    Downgrade { within: Duration },
    CardExpiry { within: Duration },
}

/// One mistake in a rules file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleMistake {
    /// Counted from 1; 0 where the mistake is that of the whole file.
    pub line: usize,
    /// The field, as `factor.points`; empty where the text is not TOML at all.
    pub field: String,
    /// What is wrong and what is allowed.
    pub problem: String,
}

/// Everything that is wrong with a rules file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct InvalidRules {
    /// The file, as the caller named it.
    pub file: String,
    /// At least one.
    pub mistakes: Vec<RuleMistake>,
}

impl fmt::Display for InvalidRules {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, mistake) in self.mistakes.iter().enumerate() {
            let separator = if place == 0 { "" } else { "\n" };
            write!(formatter, "{separator}{}", self.file)?;
            if mistake.line > 0 {
                write!(formatter, ":{}", mistake.line)?;
            }
            if !mistake.field.is_empty() {
                write!(formatter, ": `{}`", mistake.field)?;
            }
            write!(formatter, ": {}", mistake.problem)?;
        }
        Ok(())
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self::parse(DEFAULT_RULES, "config/rules.toml").expect("the rules that come with churnd are valid")
    }
}

impl Rules {
    /// Reads and checks a rules file's text; `file` names it in messages.
    pub fn parse(text: &str, file: &str) -> Result<Self, InvalidRules> {
        let invalid = |mistakes| InvalidRules { file: file.to_owned(), mistakes };
        let source: RulesSource = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(0, |span| line_of(text, span.start));
            let field = error.span().map_or_else(String::new, |span| field_at(text, span.start));
            invalid(vec![RuleMistake { line, field, problem: error.message().replace('\n', ", ") }])
        })?;
        let mut mistakes = Mistakes { text, found: Vec::new() };
        let rules = source.check(text, &mut mistakes);
        if mistakes.found.is_empty() { Ok(rules) } else { Err(invalid(mistakes.found)) }
    }

    /// Tells sets of rules apart: customers are evaluated again when it changes.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Whether events of this name count as usage.
    pub fn is_usage(&self, name: &str) -> bool {
        !self.usage_except.iter().any(|except| except == name)
            && !self.usage_except_prefixes.iter().any(|prefix| name.starts_with(prefix.as_str()))
    }

    /// What events of a name mean.
    pub(crate) fn meaning(&self, name: EventName<'_>) -> Meaning {
        match name.code {
            Some(code) => self.common[usize::from(code)],
            None => self.meaning_of(name),
        }
    }

    /// The factors that usage alone decides, each with its bit in [`super::state::Evaluation::active`].
    pub(crate) fn usage_drops(&self) -> &[(u64, UsageDrop)] {
        &self.usage_drops
    }

    fn meaning_of(&self, name: EventName<'_>) -> Meaning {
        Meaning {
            is_usage: self.is_usage(name.text),
            is_support: self.is_support(name.text),
            is_named: self.names(name),
        }
    }

    /// Works out what can be known before the first event.
    fn prepared(mut self) -> Self {
        self.common = COMMON_NAMES.iter().map(|name| self.meaning_of(EventName::of(name))).collect();
        let drops = self.factors.iter().enumerate().filter_map(|(place, factor)| match factor.condition {
            Condition::UsageDrop(drop) => Some((1 << place, drop)),
            Condition::Inactive { .. }
            | Condition::Recent { .. }
            | Condition::Sentiment { .. }
            | Condition::Cancellation
            | Condition::Subscription { .. }
            | Condition::Dispute
            | Condition::Downgrade { .. }
            | Condition::CardExpiry { .. } => None,
        });
        self.usage_drops = drops.collect();
        self
    }

    /// Whether some factor asks when the last event of this name came.
    pub(crate) fn names(&self, name: EventName<'_>) -> bool {
        self.factors.iter().any(|factor| match &factor.condition {
            Condition::Inactive { event, .. } => event.is(name),
            Condition::Recent { event, cleared_by, .. } => {
                event.is(name) || cleared_by.as_ref().is_some_and(|cleared_by| cleared_by.is(name))
            }
            Condition::UsageDrop(_)
            | Condition::Sentiment { .. }
            | Condition::Cancellation
            | Condition::Subscription { .. }
            | Condition::Dispute
            | Condition::Downgrade { .. }
            | Condition::CardExpiry { .. } => false,
        })
    }

    /// Whether events of this name are support interactions.
    fn is_support(&self, name: &str) -> bool {
        self.factors.iter().any(|factor| {
            matches!(&factor.condition, Condition::Sentiment { events, .. } if events.iter().any(|event| event == name))
        })
    }

    /// The level of a score.
    pub fn level_of(&self, score: u8) -> Level {
        if score >= self.high {
            Level::High
        } else if score >= self.medium {
            Level::Medium
        } else {
            Level::Low
        }
    }
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
        Rules {
            medium,
            high,
            factors,
            usage_except: self.usage.except,
            usage_except_prefixes: self.usage.except_prefixes,
            common: Vec::new(),
            usage_drops: Vec::new(),
            hash: xxh3_64(text.as_bytes()),
        }
        .prepared()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn mistakes(change: (&str, &str)) -> String {
        let line = format!("\n{}", change.0);
        assert!(DEFAULT_RULES.contains(&line), "no line of the default rules begins with `{}`", change.0);
        let text = DEFAULT_RULES.replacen(&line, &format!("\n{}", change.1), 1);
        Rules::parse(&text, "rules.toml").unwrap_err().to_string()
    }

    #[test]
    fn mistakes_name_file_line_and_field() {
        let line = |needle: &str| DEFAULT_RULES.lines().position(|line| line == needle).unwrap() + 1;
        assert_eq!(
            mistakes(("points = 30", "points = 300")),
            format!("rules.toml:{}: `factor.points`: 300 is not allowed: 0 to 100 is", line("points = 30"))
        );
        assert_eq!(
            mistakes(("if_never = \"ignore\"", "if_never = \"maybe\"")),
            format!(
                "rules.toml:{}: `factor.if_never`: `maybe` is not allowed: `ignore` or `since_first_seen` is",
                line("if_never = \"ignore\"")
            )
        );
        assert!(mistakes(("high = 70", "high = 30")).contains("`levels.high`: must be above levels.medium"));
        assert!(mistakes(("kind = \"dispute\"", "kind = \"quarrel\"")).contains("`quarrel` is not a kind"));
        assert!(
            mistakes(("after_days = 14\n", "")).contains("`factor.after_days`: a factor of kind `inactive` needs it")
        );
        assert!(
            mistakes(("name = \"usage_drop\"", "name = \"login_inactivity\"")).contains("another factor has this name")
        );
        assert!(
            mistakes(("kind = \"cancellation\"", "kind = \"cancellation\"\nevent = \"x\"")).contains("no such field")
        );
        assert!(mistakes(("version = 1", "version = 2")).contains("`version`"));
        assert!(mistakes(("[levels]", "[levels")).starts_with("rules.toml:"));
        assert!(mistakes(("window_days = 7", "window_days = 31")).contains("1 to 30 is"));
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let text = DEFAULT_RULES.replace("points = 30", "points = -1").replace("high = 70", "high = 500");
        assert_eq!(Rules::parse(&text, "f").unwrap_err().mistakes.len(), 2);
    }

    #[test]
    fn usage_is_everything_but_the_exceptions() {
        let rules = Rules::default();
        for name in ["login", "page_view", "paymentx", "Billing_page_view"] {
            assert!(rules.is_usage(name), "{name}");
        }
        for name in ["billing_page_view", "support_ticket", "identify", "payment_x", "subscription_"] {
            assert!(!rules.is_usage(name), "{name}");
        }
    }
}
