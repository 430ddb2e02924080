//! The newest time of each event name: up to 64 names, those that the rules name kept first.
//!
//! Of the other names the 64 newest stay. A name's time only grows, so which names stay is a function of the set of
//! events and not of their order.

use std::cmp::Reverse;

use crate::event::time::Timestamp;

/// How many names a customer's state holds.
pub(crate) const NAMES_KEPT: usize = 64;

/// Names that are common enough to be stored as one byte. Part of the snapshot format: only ever appended to.
pub(crate) const COMMON_NAMES: [&str; 32] = [
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

/// What Stripe's invoices say beside events of these names.
pub(crate) const PAYMENT_FAILED: u8 = 6;
pub(crate) const PAYMENT_SUCCEEDED: u8 = 7;

/// Places in which common names are looked up: each has its own.
const PLACES: usize = 128;
/// The code of the common name that belongs in a place.
const CODES: [Option<u8>; PLACES] = codes();

const fn codes() -> [Option<u8>; PLACES] {
    let mut codes = [None; PLACES];
    let mut code: u8 = 0;
    while (code as usize) < COMMON_NAMES.len() {
        let place = place_of(COMMON_NAMES[code as usize].as_bytes());
        assert!(codes[place].is_none(), "two common names share a place");
        codes[place] = Some(code);
        code += 1;
    }
    codes
}

const fn place_of(text: &[u8]) -> usize {
    (text.len() * 7 + text[0] as usize * 23 + text[text.len().saturating_sub(5)] as usize) % PLACES
}

/// An event name as it comes with an event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EventName<'a> {
    pub(crate) text: &'a str,
    /// Its code, if it is a common one.
    pub(crate) code: Option<u8>,
}

impl<'a> EventName<'a> {
    pub(crate) fn of(text: &'a str) -> Self {
        let candidate = if text.is_empty() { None } else { CODES[place_of(text.as_bytes())] };
        Self { text, code: candidate.filter(|code| COMMON_NAMES[usize::from(*code)] == text) }
    }
}

/// An event name, short where it is a common one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    Common(u8),
    Other(Box<str>),
}

impl Name {
    pub(crate) fn of(text: &str) -> Self {
        let name = EventName::of(text);
        name.code.map_or_else(|| Self::Other(text.into()), Self::Common)
    }

    /// Whether it is the name of an event.
    pub(crate) fn is(&self, name: EventName<'_>) -> bool {
        match self {
            Self::Common(code) => name.code == Some(*code),
            Self::Other(text) => name.code.is_none() && **text == *name.text,
        }
    }

    /// The name as it comes with an event.
    pub(crate) fn as_event(&self) -> EventName<'_> {
        match self {
            Self::Common(code) => EventName { text: COMMON_NAMES[usize::from(*code)], code: Some(*code) },
            Self::Other(text) => EventName { text, code: None },
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
    pub(crate) fn last(&self, name: &Name) -> Option<Timestamp> {
        self.seen.iter().find(|(seen, _)| seen == name).map(|(_, at)| *at)
    }

    /// Notes that `name` was seen at `at`. `in_rules` tells which names must stay when there are too many.
    pub(crate) fn see(&mut self, name: EventName<'_>, at: Timestamp, in_rules: impl Fn(EventName<'_>) -> bool) {
        if let Some((_, last)) = self.seen.iter_mut().find(|(seen, _)| seen.is(name)) {
            *last = at.max(*last);
            return;
        }
        self.seen.push((Name::of(name.text), at));
        if self.seen.len() > NAMES_KEPT {
            self.drop_least(in_rules);
        }
    }

    fn drop_least(&mut self, in_rules: impl Fn(EventName<'_>) -> bool) {
        let least = self
            .seen
            .iter()
            .enumerate()
            .min_by_key(|(_, (name, at))| (in_rules(name.as_event()), *at, Reverse(name.as_str())))
            .map(|(place, _)| place);
        if let Some(place) = least {
            self.seen.swap_remove(place);
        }
    }
}

impl PartialEq for Names {
    fn eq(&self, other: &Self) -> bool {
        self.seen.len() == other.seen.len() && self.seen.iter().all(|(name, at)| other.last(name) == Some(*at))
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
                let text = format!("event {number}");
                names.see(EventName::of(&text), at(*number), |name| name.text == "event 3");
            }
            names
        };
        let forwards: Vec<i64> = (0..200).collect();
        let backwards: Vec<i64> = forwards.iter().rev().copied().collect();
        assert_eq!(fill(&forwards), fill(&backwards));
        assert_eq!(fill(&forwards).seen.len(), NAMES_KEPT);
        assert_eq!(fill(&forwards).last(&Name::of("event 3")), Some(at(3)));
        assert_eq!(fill(&forwards).last(&Name::of("event 4")), None);
    }

    #[test]
    fn a_common_name_is_known_by_its_code_and_no_other_is() {
        for (code, name) in COMMON_NAMES.into_iter().enumerate() {
            assert_eq!(EventName::of(name).code.map(usize::from), Some(code), "{name}");
            assert_eq!(EventName::of(&name.to_uppercase()).code, None);
            assert_eq!(EventName::of(&format!("{name}_")).code, None);
            assert_eq!(Name::of(name).as_str(), name);
        }
        assert_eq!(EventName::of("").code, None);
        assert_eq!(Name::of("payment_failed"), Name::Common(PAYMENT_FAILED));
        assert_eq!(Name::of("payment_succeeded"), Name::Common(PAYMENT_SUCCEEDED));
    }
}
