//! What the customers did in the last weeks: events by time, the newest a few minutes old.

use std::io::{self, BufWriter, Write as _};

use serde_json::{Value, json};

use super::{
    Scale,
    cast::{Customer, Habit, cast},
};
use crate::{cli::output::NotPrinted, event::time::Timestamp, service::clock::Clock};

pub(super) const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

pub(super) const FEATURES: [&str; 6] =
    ["report_created", "file_uploaded", "search", "dashboard_viewed", "export_finished", "comment_added"];
const SOUR: [&str; 3] = [
    "This is the third time the export is broken. Very frustrated.",
    "Still no answer, terrible support. We are disappointed.",
    "The new editor is slow and unusable, we are losing time every day.",
];

/// Prints all events, one a line.
pub(super) fn print(scale: &Scale) -> Result<(), NotPrinted> {
    let mut out = BufWriter::new(io::stdout().lock());
    for (_, event) in &events(scale, Clock::system().now()) {
        writeln!(out, "{event}").map_err(NotPrinted)?;
    }
    out.flush().map_err(NotPrinted)
}

/// All events up to now, by time.
fn events(scale: &Scale, now: Timestamp) -> Vec<(Timestamp, Value)> {
    let mut events = Vec::new();
    for customer in cast(scale) {
        let mut diary = Diary { customer, now, events: &mut events, count: 0 };
        diary.arrive(now.plus_millis(-scale.days * DAY));
        for day in (0..scale.days).rev() {
            diary.live_through(day);
        }
        diary.come_to_the_point();
    }
    events.retain(|(at, _)| *at < now.plus_millis(-2 * MINUTE));
    events.sort_by_key(|(at, _)| *at);
    events
}

/// One customer's events as they come up.
struct Diary<'e> {
    customer: Customer,
    now: Timestamp,
    events: &'e mut Vec<(Timestamp, Value)>,
    count: usize,
}

impl Diary<'_> {
    fn write(&mut self, at: Timestamp, event: &str, properties: &Value) {
        self.count += 1;
        let id = format!("demo-{}-{}-{}", self.customer.id, at.millis(), self.count);
        let mut line = json!({ "customerId": self.customer.id, "event": event, "id": id, "timestamp": at });
        if properties.is_object() {
            line["properties"] = properties.clone();
        }
        self.events.push((at, line));
    }

    /// The first thing that is known of a customer is how Stripe calls it.
    fn arrive(&mut self, at: Timestamp) {
        let stripe = self.customer.stripe.clone();
        self.write(at, "identify", &json!({ "stripeCustomerId": stripe }));
    }

    /// A day, counted back from today.
    fn live_through(&mut self, day: i64) {
        let chance = match self.customer.habit {
            Habit::Daily | Habit::Calculating | Habit::Failing => 90,
            Habit::Weekly => 30,
            Habit::Fading if day < 7 => 12,
            Habit::Sour if day < 7 => 35,
            // Nobody logs in any more; what was set up to upload files goes on for a week.
            Habit::Silent if day < 8 => 0,
            Habit::Silent if day < 15 => {
                return self.write(self.now.plus_millis(-day * DAY), "file_uploaded", &Value::Null);
            }
            Habit::Fading | Habit::Sour | Habit::Silent => 90,
        };
        // Everybody but the silent was seen yesterday: only those stand out who should.
        let expected = day == 1 && !matches!(self.customer.habit, Habit::Silent);
        if !expected && !self.customer.random.percent(chance) {
            return;
        }
        let start = self.now.plus_millis(-day * DAY - self.customer.random.millis(6 * HOUR) - 5 * MINUTE);
        self.write(start, "login", &Value::Null);
        for _ in 0..=self.customer.random.below(4) {
            let at = start.plus_millis(self.customer.random.millis(3 * HOUR));
            let feature = *self.customer.random.pick(&FEATURES);
            self.write(at, feature, &Value::Null);
        }
    }

    /// What makes a troubled customer one.
    fn come_to_the_point(&mut self) {
        let now = self.now;
        let days_ago = |days: i64| now.plus_millis(-days * DAY);
        match self.customer.habit {
            Habit::Calculating => {
                for day in [5, 3, 1] {
                    self.write(days_ago(day), "billing_page_view", &Value::Null);
                }
                let message = *self.customer.random.pick(&SOUR);
                self.write(days_ago(2), "support_ticket", &json!({ "message": message }));
            }
            Habit::Failing => self.write(days_ago(3), "payment_failed", &Value::Null),
            Habit::Sour => {
                let message = *self.customer.random.pick(&SOUR);
                self.write(days_ago(1), "support_ticket", &json!({ "message": message }));
            }
            Habit::Fading => self.write(days_ago(2), "billing_page_view", &Value::Null),
            Habit::Daily | Habit::Weekly | Habit::Silent => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::cast::CEDAR, *};
    use crate::engine::{checkpoint::Level, offline::Offline, rules::Rules};

    #[test]
    fn the_healthy_score_low_and_the_troubled_stand_out() {
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        for seed in 0..5 {
            let scale = Scale { customers: 300, days: 42, seed };
            let mut offline = Offline::new(Rules::default(), now);
            for (_, event) in events(&scale, now) {
                offline.apply_line(event.to_string().as_bytes()).unwrap();
            }
            let scores: Vec<_> = offline.scores().collect();
            assert_eq!(scores.len(), 300);
            let at_risk = scores.iter().filter(|score| score.level > Level::Low).count();
            assert!((8..=45).contains(&at_risk), "seed {seed}: {at_risk} at risk");
            let cedar = scores.iter().find(|score| score.customer_id.as_str() == CEDAR).unwrap();
            assert_eq!((cedar.level, cedar.score), (Level::Medium, 55), "{cedar:?}");
        }
    }
}
