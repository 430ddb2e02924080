//! Files of events, drawn from a seed, whose instants lie on every edge of the contract and one millisecond beside it.

use std::fmt::Write;

use rand::{
    RngExt, SeedableRng,
    rngs::StdRng,
    seq::{IndexedRandom, SliceRandom},
};
use serde_json::{Value, json};

use super::instant::{self, DAY, HOUR};

/// A generated file, and as of when to score it.
pub(crate) struct File {
    pub(crate) text: String,
    pub(crate) as_of: i64,
}

/// Draws the file of a seed: always the same.
pub(crate) fn file(seed: u64) -> File {
    let mut rng = StdRng::seed_from_u64(seed);
    let as_of = draw_as_of(&mut rng);
    file_around(rng, as_of)
}

/// Draws the file of a seed around a given instant, less what lies after it: what can have happened by then.
pub(crate) fn past_of(seed: u64, as_of: i64) -> File {
    let File { text, as_of } = file_around(StdRng::seed_from_u64(seed), as_of);
    let lines = text.lines().filter(|line| time_of(line) <= as_of).map(|line| format!("{line}\n"));
    File { text: lines.collect(), as_of }
}

fn file_around(rng: StdRng, as_of: i64) -> File {
    let mut generator = Generator { rng, as_of, next_id: 0, lines: Vec::new() };
    let customers = generator.draw_customers();
    for customer in &customers {
        generator.play_scenario(customer);
    }
    for _ in 0..generator.rng.random_range(20..300) {
        let customer = generator.zipf(&customers).to_owned();
        generator.add_any(&customer);
    }
    generator.repeat_some();
    generator.disorder();
    let mut text = generator.lines.join("\n");
    if generator.rng.random_bool(0.8) {
        text.push('\n');
    }
    File { text, as_of }
}

fn draw_as_of(rng: &mut StdRng) -> i64 {
    let any = rng.random_range(1_700_000_000_000..1_900_000_000_000_i64);
    match rng.random_range(0..5) {
        0 => any - any % HOUR,
        1 => any - any % HOUR - 1,
        2 => any - any % DAY,
        _ => any,
    }
}

struct Generator {
    rng: StdRng,
    as_of: i64,
    next_id: u32,
    lines: Vec<String>,
}

/// Names that count as usage, some of them near to those that do not.
const USAGE: [&str; 9] = [
    "feature_used",
    "report_exported",
    "page_viewed",
    "payments_page",
    "subscription",
    "payment",
    "Login",
    "identified",
    "überblick geöffnet",
];

/// Names that are no usage and no factor of the default rules.
const SILENT: [&str; 3] = ["identify", "payment_method_updated", "subscription_renewed"];

impl Generator {
    fn draw_customers(&mut self) -> Vec<String> {
        let odd = [
            "A",
            "=41",
            "=h",
            "a.b",
            "a b",
            "über",
            "ü",
            "日本語",
            "🦀",
            "*",
            ">",
            ".",
            "..",
            "\"quoted\"",
            "back\\slash",
            "tab\tnew\nline",
            "null",
            "-",
            "_",
            "0",
            "a",
            "B",
            "b",
            "\u{e000}",
            "\u{10ffff}",
            "c=",
            "=3D41",
            "é",
            "e\u{301}",
        ];
        let mut customers: Vec<String> = odd.iter().map(|&id| id.to_owned()).collect();
        customers.shuffle(&mut self.rng);
        customers.truncate(self.rng.random_range(0..=odd.len()));
        customers.push("x".repeat(255));
        customers.push(format!("{}y", "ß".repeat(127)));
        for _ in 0..self.rng.random_range(0..12) {
            customers.push(format!("cus-{}", self.rng.random_range(0..1_000_000)));
        }
        customers.shuffle(&mut self.rng);
        customers.truncate(self.rng.random_range(1..=customers.len()));
        customers.sort();
        customers.dedup();
        customers.shuffle(&mut self.rng);
        customers
    }

    /// One of the customers: the first far more often than the last.
    fn zipf<'a>(&mut self, customers: &'a [String]) -> &'a str {
        let weights: Vec<f64> =
            (1..=customers.len()).map(|rank| 1.0 / f64::from(u32::try_from(rank).unwrap())).collect();
        let mut point = self.rng.random_range(0.0..weights.iter().sum());
        for (customer, weight) in customers.iter().zip(weights) {
            if point < weight {
                return customer;
            }
            point -= weight;
        }
        customers.last().expect("there is a customer")
    }

    /// Something for one customer that tries one edge on purpose.
    fn play_scenario(&mut self, customer: &str) {
        match self.rng.random_range(0..8) {
            0 => self.drop_near_the_limit(customer),
            1 => self.payments_side_by_side(customer),
            2 => self.tickets_side_by_side(customer),
            3 => self.one_at_the_edge(customer, "login", 14 * DAY),
            4 => self.one_at_the_edge(customer, "billing_page_view", 7 * DAY),
            5 => self.one_at_the_edge(customer, "payment_failed", 30 * DAY),
            6 => {
                let at = self.as_of - 30 * DAY + self.beside();
                self.add(customer, "support_ticket", at, json!({"sentiment": "negative"}));
            }
            _ => self.everything_at_once(customer),
        }
    }

    fn one_at_the_edge(&mut self, customer: &str, name: &str, edge: i64) {
        let at = self.as_of - edge + self.beside();
        self.add(customer, name, at, Value::Null);
    }

    /// Usage of the week before, and about half as much in the last week.
    fn drop_near_the_limit(&mut self, customer: &str) {
        let previous = self.rng.random_range(1..=24_i64);
        let current = (previous / 2 + self.rng.random_range(-2..=2)).max(0);
        for _ in 0..previous {
            let at = self.within_hours(168, 335);
            self.add_usage(customer, at);
        }
        for _ in 0..current {
            let at = self.within_hours(0, 167).min(self.as_of);
            self.add_usage(customer, at);
        }
    }

    fn payments_side_by_side(&mut self, customer: &str) {
        let at = self.as_of - self.rng.random_range(0..31 * DAY);
        for _ in 0..self.rng.random_range(1..4) {
            let name = if self.rng.random_bool(0.5) { "payment_failed" } else { "payment_succeeded" };
            let beside = self.beside();
            self.add(customer, name, at + beside, Value::Null);
        }
    }

    fn tickets_side_by_side(&mut self, customer: &str) {
        let at = self.as_of - self.rng.random_range(0..31 * DAY);
        for _ in 0..self.rng.random_range(1..5) {
            let (properties, beside) = (self.ticket(), self.beside());
            self.add(customer, "support_ticket", at + beside, properties);
        }
    }

    fn everything_at_once(&mut self, customer: &str) {
        let login = self.as_of - self.rng.random_range(15 * DAY..60 * DAY);
        self.add(customer, "login", login, Value::Null);
        for (name, days) in [("payment_failed", 30), ("billing_page_view", 7), ("support_ticket", 30)] {
            if self.rng.random_bool(0.8) {
                let at = self.as_of - self.rng.random_range(0..days * DAY);
                self.add(customer, name, at, json!({"sentiment": "negative"}));
            }
        }
        let at = self.within_hours(168, 335);
        self.add_usage(customer, at);
    }

    fn add_any(&mut self, customer: &str) {
        let at = self.any_instant();
        match self.rng.random_range(0..20) {
            0..=8 => self.add_usage(customer, at),
            9..=11 => self.add(customer, "login", at, Value::Null),
            12 | 13 => self.add(customer, "billing_page_view", at, Value::Null),
            14 | 15 => {
                let properties = self.ticket();
                self.add(customer, "support_ticket", at, properties);
            }
            16 | 17 => self.add(customer, "payment_failed", at, Value::Null),
            18 => self.add(customer, "payment_succeeded", at, Value::Null),
            _ => {
                let name = *SILENT.choose(&mut self.rng).expect("not empty");
                self.add(customer, name, at, Value::Null);
            }
        }
    }

    /// A ticket whose sentiment is said, not known, or something else than a sentiment.
    fn ticket(&mut self) -> Value {
        let choices = [
            json!({"sentiment": "negative"}),
            json!({"sentiment": "negative", "message": "I love it"}),
            json!({"sentiment": "neutral"}),
            json!({"sentiment": "positive", "message": "terrible, please cancel"}),
            json!({"subject": "invoice"}),
            json!({}),
        ];
        choices.choose(&mut self.rng).expect("not empty").clone()
    }

    fn add_usage(&mut self, customer: &str, at: i64) {
        let name = *USAGE.choose(&mut self.rng).expect("not empty");
        self.add(customer, name, at, Value::Null);
    }

    fn beside(&mut self) -> i64 {
        self.rng.random_range(-1..=1)
    }

    /// An instant in the hours that lie so many hours before that of `as_of`, often at a border of them.
    fn within_hours(&mut self, newest: i64, oldest: i64) -> i64 {
        let hour = self.as_of.div_euclid(HOUR);
        match self.rng.random_range(0..6) {
            0 => (hour - oldest) * HOUR,
            1 => (hour - newest + 1) * HOUR - 1,
            _ => self.rng.random_range((hour - oldest) * HOUR..(hour - newest + 1) * HOUR),
        }
    }

    fn any_instant(&mut self) -> i64 {
        let hour = self.as_of.div_euclid(HOUR);
        match self.rng.random_range(0..12) {
            0..=3 => self.as_of - self.rng.random_range(0..15 * DAY),
            4 | 5 => self.as_of - self.rng.random_range(0..70 * DAY),
            6 | 7 => {
                let hours = *[0, 1, 166, 167, 168, 169, 334, 335, 336].choose(&mut self.rng).expect("not empty");
                (hour - hours) * HOUR + self.beside()
            }
            8 | 9 => {
                let days = *[7, 14, 30].choose(&mut self.rng).expect("not empty");
                self.as_of - days * DAY + self.beside()
            }
            10 => self.as_of + self.beside(),
            _ => self.as_of + self.rng.random_range(1..3 * DAY),
        }
    }

    fn add(&mut self, customer: &str, name: &str, at: i64, properties: Value) {
        let mut fields = vec![
            ("customerId", self.json_text(customer)),
            ("event", self.json_text(name)),
            ("timestamp", format!("\"{}\"", instant::in_any_spelling(at, &mut self.rng))),
        ];
        if self.rng.random_bool(0.8) {
            self.next_id += 1;
            let id = match self.rng.random_range(0..6) {
                0 => format!("{}-{}", "i".repeat(90), self.next_id),
                1 => format!("ü.*> {}", self.next_id),
                _ => format!("evt-{}", self.next_id),
            };
            fields.push(("id", self.json_text(&id)));
        }
        if !properties.is_null() {
            fields.push(("properties", properties.to_string()));
        } else if self.rng.random_bool(0.3) {
            fields
                .push(("properties", r#"{"nested":{"deep":[1,2,{"event":"login"}]},"customerId":"other"}"#.to_owned()));
        }
        if self.rng.random_bool(0.2) {
            fields.push(("userId", "\"u-1\"".to_owned()));
        }
        if self.rng.random_bool(0.1) {
            fields.push(("somethingNew", r#"[{"timestamp":"2026-01-01T00:00:00Z"},null,1e9]"#.to_owned()));
        }
        fields.shuffle(&mut self.rng);
        let space = *["", "", " "].choose(&mut self.rng).expect("not empty");
        let members: Vec<String> = fields.iter().map(|(key, value)| format!("\"{key}\":{space}{value}")).collect();
        self.lines.push(format!("{{{space}{}{space}}}", members.join(&format!(",{space}"))));
    }

    /// A text as JSON, now and then with more escapes than it needs.
    fn json_text(&mut self, text: &str) -> String {
        if !self.rng.random_bool(0.1) {
            return Value::from(text).to_string();
        }
        let mut escaped = String::new();
        for unit in text.encode_utf16() {
            write!(escaped, "\\u{unit:04x}").expect("a string takes all");
        }
        format!("\"{escaped}\"")
    }

    /// Repeats some events that carry an id, anywhere in the file.
    fn repeat_some(&mut self) {
        let share = *[0.0, 0.1, 0.4].choose(&mut self.rng).expect("not empty");
        let with_id: Vec<String> = self.lines.iter().filter(|line| line.contains("\"id\":")).cloned().collect();
        for line in with_id {
            while self.rng.random_bool(share) {
                let place = self.rng.random_range(0..=self.lines.len());
                self.lines.insert(place, line.clone());
            }
        }
    }

    fn disorder(&mut self) {
        match self.rng.random_range(0..3) {
            0 => self.lines.shuffle(&mut self.rng),
            1 => self.lines.sort_by_cached_key(|line| time_of(line)),
            _ => {
                self.lines.sort_by_cached_key(|line| time_of(line));
                for window in self.lines.chunks_mut(8) {
                    window.shuffle(&mut self.rng);
                }
            }
        }
    }
}

fn time_of(line: &str) -> i64 {
    let event: Value = serde_json::from_str(line).expect("generated lines are JSON");
    event["timestamp"].as_str().and_then(instant::parse).expect("generated events have a time")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{
        super::scoring::{Parameters, score_file},
        *,
    };

    const SEEDS: std::ops::Range<u64> = 0..240;

    #[test]
    fn a_seed_always_gives_the_same_file() {
        assert_eq!(file(7).text, file(7).text);
        assert_ne!(file(7).text, file(8).text);
    }

    #[test]
    fn every_combination_of_factors_comes_up() {
        let mut combinations = BTreeSet::new();
        for seed in SEEDS {
            let File { text, as_of } = file(seed);
            for line in score_file(&text, as_of, &Parameters::default()) {
                // The first words tell the factors apart.
                let kinds = line.factors.iter().map(|reason| reason.split(' ').next().expect("not empty").to_owned());
                combinations.insert(kinds.collect::<Vec<_>>());
            }
        }
        assert_eq!(combinations.len(), 32, "{combinations:?}");
    }

    #[test]
    fn a_misreading_by_the_smallest_step_would_be_noticed() {
        type Misreading = fn(&mut Parameters);
        let misreadings: [(&str, Misreading); 13] = [
            ("login later", |parameters| parameters.login.0 += 1),
            ("login sooner", |parameters| parameters.login.0 -= 1),
            ("usage window longer", |parameters| parameters.usage_hours += 1),
            ("usage window shorter", |parameters| parameters.usage_hours -= 1),
            ("half is a drop", |parameters| parameters.usage_drop.0 -= 1),
            ("more than half is none", |parameters| parameters.usage_drop.0 += 2),
            ("billing longer", |parameters| parameters.billing.0 += 1),
            ("billing shorter", |parameters| parameters.billing.0 -= 1),
            ("support longer", |parameters| parameters.support.0 += 1),
            ("support shorter", |parameters| parameters.support.0 -= 1),
            ("payment longer", |parameters| parameters.payment.0 += 1),
            ("payment shorter", |parameters| parameters.payment.0 -= 1),
            ("high above 70", |parameters| parameters.high += 1),
        ];
        let files: Vec<File> = SEEDS.map(file).collect();
        for (name, misread) in misreadings {
            let mut parameters = Parameters::default();
            misread(&mut parameters);
            let noticed = files.iter().filter(|file| {
                score_file(&file.text, file.as_of, &parameters)
                    != score_file(&file.text, file.as_of, &Parameters::default())
            });
            assert!(noticed.count() >= 3, "{name} shows in fewer than three files");
        }
    }
}
