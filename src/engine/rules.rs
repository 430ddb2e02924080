//! Rules as data: what makes a customer a risk, read from TOML and checked as a whole.
//!
//! Reading is pure: the caller brings the text and the name it should have in messages. A mistake is reported with
//! file, line and field, and all mistakes at once.

use std::{fmt, time::Duration};

use xxhash_rust::xxh3::xxh3_64;

use super::{
    checkpoint::Level,
    names::{COMMON_NAMES, EventName, Name},
    rules_file,
    usage::WindowLength,
};
use crate::event::fact::SubscriptionStatus;

/// The rules that come with churnd.
pub const DEFAULT_RULES: &str = include_str!("../../config/rules.toml");

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
        rules_file::read(text).map_err(|mistakes| InvalidRules { file: file.to_owned(), mistakes })
    }

    pub(super) fn new(
        text: &str,
        (medium, high): (u8, u8),
        factors: Vec<FactorRule>,
        usage_except: Vec<String>,
        usage_except_prefixes: Vec<String>,
    ) -> Self {
        let hash = xxh3_64(text.as_bytes());
        let (common, usage_drops) = (Vec::new(), Vec::new());
        Self { medium, high, factors, usage_except, usage_except_prefixes, common, usage_drops, hash }.prepared()
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
