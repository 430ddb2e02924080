//! The built-in `config/churnd.toml` as a catalog: every setting's key, default and sentence.

use std::collections::BTreeMap;

use config::{File, FileFormat, Source, Value, ValueKind};

/// The built-in file.
pub const DEFAULTS: &str = include_str!("../../config/churnd.toml");

/// Settings whose values no message may show.
const SECRETS: [&str; 11] = [
    "nats.url",
    "nats.password",
    "nats.nkey_seed",
    "postgres.url",
    "stripe.webhook_secret",
    "stripe.api_key",
    "smtp.password",
    "sendgrid.api_key",
    "slack.client_id",
    "slack.client_secret",
    "sentry.dsn",
];

/// One setting.
pub(super) struct Setting {
    pub(super) default: ValueKind,
    pub(super) sentence: String,
}

/// All settings by key, such as `nats.url`.
pub(super) struct Catalog(BTreeMap<String, Setting>);

impl Catalog {
    /// The catalog that is built into the program.
    pub(super) fn built_in() -> Self {
        let mut sentences = sentences(DEFAULTS);
        let settings = leaves_of_toml(DEFAULTS).expect("a test parses the built-in settings");
        let known = |(key, default): (String, ValueKind)| {
            let sentence = sentences.remove(&key).unwrap_or_default();
            (key, Setting { default, sentence })
        };
        Self(settings.into_iter().map(known).collect())
    }

    pub(super) fn get(&self, key: &str) -> Option<&Setting> {
        self.0.get(key)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Setting)> {
        self.0.iter().map(|(key, setting)| (key.as_str(), setting))
    }

    pub(super) fn is_secret(key: &str) -> bool {
        SECRETS.contains(&key)
    }

    /// The known key nearest to `key`, if one is near enough to be meant.
    pub(super) fn nearest(&self, key: &str) -> Option<&str> {
        let last = |key: &str| key.rsplit('.').next().unwrap_or(key).to_owned();
        let same_name = || self.0.keys().find(|known| last(known) == last(key));
        let (near, distance) =
            self.0.keys().map(|known| (known, edit_distance(known, key))).min_by_key(|(_, distance)| *distance)?;
        if distance <= 1 + key.len() / 5 { Some(near) } else { same_name().map(String::as_str) }
    }

    /// The setting that a sentence begins with.
    pub(super) fn setting_of(&self, sentence: &str) -> Option<&str> {
        let first = sentence.trim_start_matches('`').split([' ', ':', '`']).next()?;
        self.0.get_key_value(first).map(|(key, _)| key.as_str())
    }
}

/// Every value of a TOML text by its dotted key.
pub(super) fn leaves_of_toml(text: &str) -> Result<BTreeMap<String, ValueKind>, config::ConfigError> {
    let root = File::from_str(text, FileFormat::Toml).collect()?;
    let mut leaves = BTreeMap::new();
    for (key, value) in root {
        flatten(key, value, &mut leaves);
    }
    Ok(leaves)
}

fn flatten(key: String, value: Value, leaves: &mut BTreeMap<String, ValueKind>) {
    match value.kind {
        ValueKind::Table(table) => {
            for (name, value) in table {
                flatten(format!("{key}.{name}"), value, leaves);
            }
        }
        leaf => {
            leaves.insert(key, leaf);
        }
    }
}

/// The comment directly above each key.
fn sentences(text: &str) -> BTreeMap<String, String> {
    let mut sentences = BTreeMap::new();
    let (mut section, mut comment) = (String::new(), Vec::new());
    for line in text.lines() {
        if let Some(words) = line.strip_prefix('#') {
            comment.push(words.trim());
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = format!("{name}.");
        } else if let Some((key, _)) = line.split_once(" = ") {
            sentences.insert(format!("{section}{key}"), comment.join(" "));
        }
        comment.clear();
    }
    sentences
}

/// The number of letters to insert, remove or replace (Levenshtein).
fn edit_distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (index, letter) in left.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], index + 1);
        for (column, other) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[right.len()]
}
