//! The newest time of each event name: up to 64 names, those that the rules name kept first.
//!
//! Of the other names the 64 newest stay. A name's time only grows, so which names stay is a function of the set of
//! events and not of their order.

use std::cmp::Reverse;

use crate::event::time::Timestamp;

/// How many names a customer's state holds.
pub(crate) const NAMES_KEPT: usize = 64;

/// Names that are common enough to be stored as one byte. Part of the snapshot format: only ever appended to.
const COMMON_NAMES: [&str; 32] = [
    "login",
    "logout",
    "page_view",
    "billing_page_view",
    "support_ticket",
    "identify",
    "payment_failed",
    "payment_succeeded",
    "payment_voided",
    "payment_disputed",
    "payment_method_updated",
    "subscription_created",
    "subscription_updated",
    "subscription_canceled",
    "subscription_paused",
    "subscription_resumed",
    "feature_used",
    "session_start",
    "session_end",
    "signup",
    "purchase",
    "search",
    "export",
    "import",
    "invite_sent",
    "report_created",
    "api_call",
    "file_uploaded",
    "message_sent",
    "project_created",
    "task_completed",
    "settings_changed",
];

/// An event name, short where it is a common one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    Common(u8),
    Other(Box<str>),
}

impl Name {
    pub(crate) fn of(text: &str) -> Self {
        match COMMON_NAMES.iter().position(|name| *name == text) {
            Some(code) => Self::Common(u8::try_from(code).expect("there are 32 common names")),
            None => Self::Other(text.into()),
        }
    }

    /// A name from its stored code; `None` for one of a later version.
    pub(crate) fn from_code(code: u8) -> Option<Self> {
        COMMON_NAMES.get(usize::from(code)).map(|_| Self::Common(code))
    }

    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Common(code) => COMMON_NAMES[usize::from(*code)],
            Self::Other(text) => text,
        }
    }
}

/// The newest time of each name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    seen: Vec<(Name, Timestamp)>,
}

impl Names {
    pub(crate) fn from_seen(seen: Vec<(Name, Timestamp)>) -> Self {
        Self { seen }
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = &(Name, Timestamp)> {
        self.seen.iter()
    }

    /// When `name` was last seen.
    pub(crate) fn last(&self, name: &str) -> Option<Timestamp> {
        self.seen.iter().find(|(seen, _)| seen.as_str() == name).map(|(_, at)| *at)
    }

    /// Notes that `name` was seen at `at`. `in_rules` tells which names must stay when there are too many.
    pub(crate) fn see(&mut self, name: &str, at: Timestamp, in_rules: impl Fn(&str) -> bool) {
        if let Some((_, last)) = self.seen.iter_mut().find(|(seen, _)| seen.as_str() == name) {
            *last = at.max(*last);
            return;
        }
        self.seen.push((Name::of(name), at));
        if self.seen.len() > NAMES_KEPT {
            self.drop_least(in_rules);
        }
    }

    fn drop_least(&mut self, in_rules: impl Fn(&str) -> bool) {
        let least = self
            .seen
            .iter()
            .enumerate()
            .min_by_key(|(_, (name, at))| (in_rules(name.as_str()), *at, Reverse(name.as_str())))
            .map(|(place, _)| place);
        if let Some(place) = least {
            self.seen.swap_remove(place);
        }
    }
}

impl PartialEq for Names {
    fn eq(&self, other: &Self) -> bool {
        self.seen.len() == other.seen.len() && self.seen.iter().all(|(name, at)| other.last(name.as_str()) == Some(*at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_names_stay_in_whatever_order_they_come() {
        let at = |number: i64| Timestamp::from_millis(number);
        let fill = |order: &[i64]| {
            let mut names = Names::default();
            for number in order {
                names.see(&format!("event {number}"), at(*number), |name| name == "event 3");
            }
            names
        };
        let forwards: Vec<i64> = (0..200).collect();
        let backwards: Vec<i64> = forwards.iter().rev().copied().collect();
        assert_eq!(fill(&forwards), fill(&backwards));
        assert_eq!(fill(&forwards).seen.len(), NAMES_KEPT);
        assert_eq!(fill(&forwards).last("event 3"), Some(at(3)));
        assert_eq!(fill(&forwards).last("event 4"), None);
    }
}
