//! Which alerts a channel takes, when, and in which words.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::engine::checkpoint::Level;

/// The largest amount that [`Settings::minimum_mrr`] may be.
const LARGEST_MRR: i64 = 9_000_000_000_000_000;

/// Which alerts a channel takes, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Settings {
    /// An alert is taken if the level before or after it is at least this one.
    pub minimum_level: Level,
    /// Only alerts about customers who bring at least this a month, in minor units of whatever currency.
    #[schema(minimum = 0, maximum = 9_000_000_000_000_000_i64)] // LARGEST_MRR
    pub minimum_mrr: Option<i64>,
    /// When nothing is sent: what comes up meanwhile is sent when they end.
    pub quiet_hours: Option<QuietHours>,
    /// The most messages in any hour; what is over them waits and is sent in one.
    #[schema(minimum = 1, maximum = 4_294_967_295_i64)]
    pub per_hour: Option<u32>,
    /// The most messages about one customer in any hour; what is over them waits and is sent in one.
    #[schema(minimum = 1, maximum = 4_294_967_295_i64)]
    pub per_customer_per_hour: Option<u32>,
    /// From how many alerts on that are due at once they are sent in one message.
    #[schema(minimum = 2, maximum = 4_294_967_295_i64)]
    pub digest_after: Option<u32>,
}

/// A time of every day, by the clocks of a place. It may span midnight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct QuietHours {
    /// When it begins, `HH:MM`.
    #[schema(example = "20:00")]
    pub from: String,
    /// When it ends, `HH:MM`.
    #[schema(example = "08:00")]
    pub to: String,
    /// Whose clocks count, by the IANA's name of their zone.
    #[schema(example = "Europe/Berlin")]
    pub zone: String,
}

/// How a channel wants its messages: templates of its own, in minijinja's language. What is empty is built in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Templates {
    /// The subject of a mail, and the first line elsewhere.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subject: String,
    /// The message as plain text.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// The message as HTML, for mail only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub html: Option<String>,
}

const MAX_TEMPLATE_BYTES: usize = 64 * 1024;

impl Default for Settings {
    fn default() -> Self {
        Self {
            minimum_level: Level::Medium,
            minimum_mrr: None,
            quiet_hours: None,
            per_hour: None,
            per_customer_per_hour: None,
            digest_after: Some(10),
        }
    }
}

impl Settings {
    /// Everything that cannot work, each as a sentence that begins with the setting.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if let Some(quiet) = &self.quiet_hours {
            for (field, text) in [("from", &quiet.from), ("to", &quiet.to)] {
                if quiet.time(text).is_none() {
                    problems.push(format!("quietHours.{field} is `{}`: it must be a time such as 20:00", shown(text)));
                }
            }
            if quiet.from == quiet.to {
                problems
                    .push("quietHours.to equals quietHours.from: nothing would be sent, or never nothing".to_owned());
            }
            if jiff::tz::TimeZone::get(&quiet.zone).is_err() {
                let zone = shown(&quiet.zone);
                problems.push(format!("quietHours.zone is `{zone}`: it must be a time zone such as Europe/Berlin"));
            }
        }
        if self.minimum_mrr.is_some_and(|least| !(0..=LARGEST_MRR).contains(&least)) {
            problems.push("minimumMrr must be an amount in minor units, such as 5000".to_owned());
        }
        for (field, most) in [("perHour", self.per_hour), ("perCustomerPerHour", self.per_customer_per_hour)] {
            if most == Some(0) {
                problems.push(format!("{field} is 0: nothing would ever be sent; pause the channel instead"));
            }
        }
        if self.digest_after.is_some_and(|count| count < 2) {
            problems.push("digestAfter is below 2: one alert makes no digest; leave it out to send none".to_owned());
        }
        problems
    }
}

impl QuietHours {
    /// When they begin and end, where that can be read.
    pub fn span(&self) -> Option<(jiff::civil::Time, jiff::civil::Time)> {
        Some((self.time(&self.from)?, self.time(&self.to)?))
    }

    fn time(&self, text: &str) -> Option<jiff::civil::Time> {
        let (hour, minute) = text.split_once(':')?;
        let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<i8>().ok())?;
        if (hour.len(), minute.len()) != (2, 2) {
            return None;
        }
        jiff::civil::Time::new(number(hour)?, number(minute)?, 0, 0).ok()
    }
}

impl Templates {
    /// Everything that cannot be stored, each as a sentence that begins with the template.
    pub fn problems(&self) -> Vec<String> {
        let html = self.html.as_deref().unwrap_or_default();
        let mut problems = Vec::new();
        for (name, template) in [("subject", self.subject.as_str()), ("text", &self.text), ("html", html)] {
            if template.len() > MAX_TEMPLATE_BYTES {
                problems.push(format!("templates.{name} has more than {MAX_TEMPLATE_BYTES} bytes"));
            }
            if template.contains('\0') {
                problems.push(format!("templates.{name} holds a NUL character"));
            }
        }
        problems
    }
}

fn shown(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(40).collect()
}
