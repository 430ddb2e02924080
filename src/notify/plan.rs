//! What of a channel's waiting alerts is sent now, alone or together, and what waits until when.
//!
//! Pure: what waits, what was sent within the last hour and the instant come in, a [`Plan`] goes out. It is worked out anew from
//! everything that waits each time something may be due, so what was planned before never matters. Nothing is dropped: whatever
//! is neither sent now nor under way waits for an instant that is named.
//!
//! Alerts about one customer are sent in the order they came: the next one waits until the one before it has arrived.

use std::collections::{BTreeMap, HashSet};

use super::quiet;
use crate::{
    event::time::Timestamp,
    store::{
        channels::Settings,
        deliveries::HeldReason,
        lanes::{SentMessage, WaitingRow},
    },
};

/// The most alerts of one message.
pub(super) const MOST_IN_ONE: usize = 100;
/// The span that limits are about.
pub(super) const HOUR_MILLIS: i64 = 3_600_000;

/// What is sent, and what waits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Messages in the order to send them.
    pub(super) send: Vec<Message>,
    /// What waits otherwise than it did before.
    pub(super) hold: Vec<Hold>,
}

/// A message to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// The deliveries it is made of, in the order they came.
    pub(super) rows: Vec<u64>,
    /// What it is recognized by, if it was tried before.
    pub(super) key: Option<String>,
}

/// Deliveries that wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hold {
    /// Which.
    pub(super) rows: Vec<u64>,
    /// Until when.
    pub(super) until: Timestamp,
    /// Why.
    pub(super) reason: HeldReason,
}

/// Plans a channel. `waiting` is everything that waits, in the order it came; `sent` what arrived within the last hour, the
/// oldest first.
pub(super) fn plan(settings: &Settings, waiting: &[WaitingRow], sent: &[SentMessage], now: Timestamp) -> Plan {
    let mut planner = Planner { settings, now, sent, waiting, send: Vec::new(), hold: BTreeMap::new() };
    planner.tests();
    match settings.quiet_hours.as_ref().and_then(|quiet| quiet::ends(quiet, now)) {
        Some(end) => planner.wait(waiting.iter().filter(|row| !row.is_test), end, HeldReason::QuietHours),
        None => planner.alerts(),
    }
    planner.finish()
}

struct Planner<'a> {
    settings: &'a Settings,
    now: Timestamp,
    sent: &'a [SentMessage],
    waiting: &'a [WaitingRow],
    send: Vec<Message>,
    hold: BTreeMap<(Timestamp, &'static str), Hold>,
}

impl<'a> Planner<'a> {
    /// Whoever tries a channel out wants to see something now.
    fn tests(&mut self) {
        for row in self.waiting.iter().filter(|row| row.is_test) {
            if row.key.is_none() || row.next_attempt_at <= self.now {
                self.send.push(Message { rows: vec![row.id], key: row.key.clone() });
            }
        }
    }

    fn alerts(&mut self) {
        let limit = self.settings.per_hour.map_or(usize::MAX, |most| most as usize);
        let mut left = limit.saturating_sub(self.sent.len());
        let free_at = self.free_again(self.sent.iter(), limit);
        let begun = self.begun(&mut left, free_at);
        let is_free = |row: &&WaitingRow| {
            !row.is_test && row.key.is_none() && !row.token.as_ref().is_some_and(|token| begun.contains(token.as_ref()))
        };
        let fresh: Vec<&WaitingRow> = self.waiting.iter().filter(is_free).collect();
        if left == 0 {
            self.wait(fresh, free_at, HeldReason::Limit);
        } else if self.settings.digest_after.is_some_and(|count| fresh.len() >= count as usize) {
            self.digest(&fresh, left, free_at);
        } else {
            self.singles(&fresh, left, free_at);
        }
    }

    /// Goes on with messages that were tried before. Gives the customers whom they are about: others wait behind them.
    fn begun(&mut self, left: &mut usize, free_at: Timestamp) -> HashSet<&'a str> {
        let mut messages: BTreeMap<&str, Vec<&WaitingRow>> = BTreeMap::new();
        for row in self.waiting.iter().filter(|row| !row.is_test) {
            if let Some(key) = &row.key {
                messages.entry(key).or_default().push(row);
            }
        }
        let mut messages: Vec<(&str, Vec<&WaitingRow>)> = messages.into_iter().collect();
        messages.sort_unstable_by_key(|(_, rows)| rows[0].id);
        let mut busy: BTreeMap<&str, Option<Timestamp>> = BTreeMap::new();
        for (key, rows) in messages {
            let due = rows.iter().map(|row| row.next_attempt_at).max().unwrap_or(self.now);
            let behind = if due > self.now {
                Some(due)
            } else if *left == 0 {
                self.wait(rows.iter().copied(), free_at, HeldReason::Limit);
                Some(free_at)
            } else {
                *left -= 1;
                self.send.push(Message { rows: rows.iter().map(|row| row.id).collect(), key: Some(key.to_owned()) });
                None
            };
            for token in rows.iter().filter_map(|row| row.token.as_deref()) {
                let until = busy.entry(token).or_default();
                *until = (*until).max(behind);
            }
        }
        for row in self.waiting.iter().filter(|row| !row.is_test && row.key.is_none()) {
            if let Some(Some(until)) = row.token.as_deref().and_then(|token| busy.get(token)) {
                self.wait([row], *until, HeldReason::Retry);
            }
        }
        busy.into_keys().collect()
    }

    /// As few messages as hold all of them; what is over the limit waits.
    fn digest(&mut self, rows: &[&'a WaitingRow], left: usize, free_at: Timestamp) {
        for (index, rows) in rows.chunks(MOST_IN_ONE).enumerate() {
            if index < left {
                self.send.push(Message { rows: rows.iter().map(|row| row.id).collect(), key: None });
            } else {
                self.wait(rows.iter().copied(), free_at, HeldReason::Limit);
            }
        }
    }

    /// One message each, or one for each customer with more alerts than messages are left for it.
    fn singles(&mut self, rows: &[&'a WaitingRow], left: usize, free_at: Timestamp) {
        let (mut messages, mut held) = (Vec::new(), Vec::new());
        for (token, rows) in by_customer(rows) {
            let about =
                token.map(|token| self.sent.iter().filter(move |sent| sent.tokens.iter().any(|one| one == token)));
            let limit = self.settings.per_customer_per_hour.filter(|_| token.is_some());
            let limit = limit.map_or(usize::MAX, |most| most as usize);
            let allowed = limit.saturating_sub(about.clone().map_or(0, Iterator::count));
            if rows.len() <= allowed {
                messages.extend(rows.iter().map(|row| vec![*row]));
            } else if allowed > 0 {
                messages.extend(rows.chunks(MOST_IN_ONE).map(<[&WaitingRow]>::to_vec));
            } else {
                held.push((rows, self.free_again(about.into_iter().flatten(), limit)));
            }
        }
        if messages.len() > left {
            return self.digest(rows, left, free_at);
        }
        messages.sort_unstable_by_key(|rows| rows[0].id);
        let send = |rows: Vec<&WaitingRow>| Message { rows: rows.iter().map(|row| row.id).collect(), key: None };
        self.send.extend(messages.into_iter().map(send));
        for (rows, until) in held {
            self.wait(rows, until, HeldReason::Limit);
        }
    }

    /// When the oldest of as many messages as are allowed within an hour is an hour old.
    fn free_again<'s>(&self, sent: impl Iterator<Item = &'s SentMessage>, limit: usize) -> Timestamp {
        let times: Vec<Timestamp> = sent.map(|sent| sent.at).collect();
        let oldest = times.len().checked_sub(limit).and_then(|index| times.get(index));
        oldest.map_or(self.now, |at| at.plus_millis(HOUR_MILLIS)).max(self.now.plus_millis(1))
    }

    fn wait(&mut self, rows: impl IntoIterator<Item = &'a WaitingRow>, until: Timestamp, reason: HeldReason) {
        for row in rows {
            if row.next_attempt_at != until || row.held != Some(reason) {
                let empty = || Hold { rows: Vec::new(), until, reason };
                self.hold.entry((until, reason.as_str())).or_insert_with(empty).rows.push(row.id);
            }
        }
    }

    fn finish(self) -> Plan {
        Plan { send: self.send, hold: self.hold.into_values().collect() }
    }
}

/// The rows of each customer, in the order of their first; those about nobody each for itself.
fn by_customer<'a>(rows: &[&'a WaitingRow]) -> Vec<(Option<&'a str>, Vec<&'a WaitingRow>)> {
    let mut customers: Vec<(Option<&str>, Vec<&WaitingRow>)> = Vec::new();
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    for row in rows {
        match row.token.as_deref() {
            None => customers.push((None, vec![row])),
            Some(token) => {
                let place = *places.entry(token).or_insert(customers.len());
                if place == customers.len() {
                    customers.push((Some(token), Vec::new()));
                }
                customers[place].1.push(row);
            }
        }
    }
    customers
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
