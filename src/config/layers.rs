//! One source over the other: merges them by key, remembers where each value came from, and reads the result.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use config::{Config as Merged, ConfigError, ValueKind};
use serde::de::DeserializeOwned;

use super::{
    catalog::{Catalog, Setting, leaves_of_toml},
    errors::Mistake,
    sources::{Origin, Sources},
};

/// The credential that is a file by itself rather than a value.
const NATS_CREDENTIALS: &str = "nats.creds";

/// What was set, by key, over the defaults.
#[derive(Default)]
pub(super) struct Layers(BTreeMap<String, (ValueKind, Origin)>);

impl Layers {
    /// Reads all sources, the weakest first.
    pub(super) fn collect(catalog: &Catalog, sources: &Sources, mistakes: &mut Vec<Mistake>) -> Self {
        let mut layers = Self::default();
        let usual = || sources.usual_files.iter().find(|file| file.exists());
        if let Some(file) = sources.file.as_ref().or_else(usual) {
            layers.add_file(catalog, file, mistakes);
        }
        if let Some(directory) = &sources.credentials {
            layers.add_credentials(catalog, directory, mistakes);
        }
        for (key, value, origin) in sources.variables() {
            layers.add(catalog, &key, ValueKind::String(value), origin, mistakes);
        }
        for flag in &sources.flags {
            layers.add(catalog, flag.key, ValueKind::String(flag.value.clone()), Origin::Flag(flag.name), mistakes);
        }
        layers
    }

    /// Where a setting was set, unless it stands at its default.
    pub(super) fn origin_of(&self, key: &str) -> Option<Origin> {
        self.0.get(key).map(|(_, origin)| origin.clone())
    }

    fn add_file(&mut self, catalog: &Catalog, file: &Path, mistakes: &mut Vec<Mistake>) {
        match read_toml(file) {
            Ok(leaves) => {
                for (key, value) in leaves {
                    self.add(catalog, &key, value, Origin::File(file.to_owned()), mistakes);
                }
            }
            Err(mistake) => mistakes.push(*mistake),
        }
    }

    fn add_credentials(&mut self, catalog: &Catalog, directory: &Path, mistakes: &mut Vec<Mistake>) {
        for (key, _) in catalog.iter() {
            let file = directory.join(key);
            if !file.exists() {
                continue;
            }
            match fs::read_to_string(&file) {
                Ok(text) => {
                    let value = ValueKind::String(text.trim_end_matches(['\r', '\n']).to_owned());
                    self.add(catalog, key, value, Origin::Credential(file), mistakes);
                }
                Err(error) => mistakes.push(Mistake::Unreadable { file, problem: error.to_string() }),
            }
        }
        let creds: PathBuf = directory.join(NATS_CREDENTIALS);
        if creds.exists() {
            let value = ValueKind::String(creds.display().to_string());
            self.add(catalog, "nats.credentials_file", value, Origin::Credential(creds), mistakes);
        }
    }

    fn add(&mut self, catalog: &Catalog, key: &str, value: ValueKind, origin: Origin, mistakes: &mut Vec<Mistake>) {
        let Some(setting) = catalog.get(key) else {
            let nearest = catalog.nearest(key).map(str::to_owned);
            mistakes.push(Mistake::Unknown { key: key.to_owned(), origin, nearest });
            return;
        };
        match coerce(&setting.default, value.clone()) {
            Ok(value) => {
                self.0.insert(key.to_owned(), (value, origin));
            }
            Err(problem) => mistakes.push(wrong(key, setting, &value, origin, problem.to_owned())),
        }
    }

    /// Reads the settings. A value that does not fit is a mistake, and its default is read instead, so that all
    /// mistakes are found.
    pub(super) fn deserialize<T: DeserializeOwned>(&self, catalog: &Catalog, mistakes: &mut Vec<Mistake>) -> T {
        let mut fitting = BTreeMap::new();
        for (key, (value, origin)) in &self.0 {
            let alone = BTreeMap::from([(key.as_str(), value)]);
            match read::<T>(catalog, &alone) {
                Ok(_) => {
                    fitting.insert(key.as_str(), value);
                }
                Err(error) => {
                    let setting = catalog.get(key).expect("unknown settings are not collected");
                    mistakes.push(wrong(key, setting, value, origin.clone(), problem_of(&error)));
                }
            }
        }
        read(catalog, &fitting).expect("a test reads the defaults, and each value fits by itself")
    }
}

/// The defaults with `set` over them. An empty text that is the default means: not set.
fn read<T: DeserializeOwned>(catalog: &Catalog, set: &BTreeMap<&str, &ValueKind>) -> Result<T, ConfigError> {
    let mut merged = Merged::builder();
    let mut sections: Vec<&str> = Vec::new();
    for (key, setting) in catalog.iter() {
        let value = *set.get(key).unwrap_or(&&setting.default);
        let unset = |value: &ValueKind| matches!(value, ValueKind::String(text) if text.is_empty());
        if !(unset(value) && unset(&setting.default)) {
            merged = merged.set_override(key, value.clone())?;
        } else if let Some((section, _)) = key.split_once('.') {
            sections.push(section);
        }
    }
    // A section of which nothing is set must still be there.
    for section in sections {
        merged = merged.set_default(section, config::Map::<String, config::Value>::new())?;
    }
    merged.build()?.try_deserialize()
}

/// The value as the setting's default has it: texts of the environment and of flags become numbers, truths and lists.
fn coerce(default: &ValueKind, value: ValueKind) -> Result<ValueKind, &'static str> {
    match (default, value) {
        (ValueKind::I64(_), ValueKind::I64(number)) => Ok(ValueKind::I64(number)),
        (ValueKind::I64(_), ValueKind::String(text)) => {
            text.trim().parse().map(ValueKind::I64).map_err(|_| "this is not a whole number")
        }
        (ValueKind::I64(_), _) => Err("this is not a whole number"),
        (ValueKind::Boolean(_), ValueKind::Boolean(truth)) => Ok(ValueKind::Boolean(truth)),
        (ValueKind::Boolean(_), ValueKind::String(text)) => {
            text.trim().parse().map(ValueKind::Boolean).map_err(|_| "this is neither true nor false")
        }
        (ValueKind::Boolean(_), _) => Err("this is neither true nor false"),
        (ValueKind::Array(_), ValueKind::Array(list)) => Ok(ValueKind::Array(list)),
        (ValueKind::Array(_), ValueKind::String(text)) => {
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            Ok(ValueKind::Array(parts.map(config::Value::from).collect()))
        }
        (ValueKind::Array(_), _) => Err("this is not a list"),
        (_, ValueKind::String(text)) => Ok(ValueKind::String(text)),
        _ => Err("this is not a text in quotes"),
    }
}

fn wrong(key: &str, setting: &Setting, value: &ValueKind, origin: Origin, problem: String) -> Mistake {
    let secret = Catalog::is_secret(key) || matches!(origin, Origin::Credential(_));
    let problem = if secret { "this value cannot be read".to_owned() } else { problem };
    let value = (!secret).then(|| shown(value));
    Mistake::Value { key: key.to_owned(), origin, value, problem, allowed: setting.sentence.clone() }
}

fn shown(value: &ValueKind) -> String {
    match value {
        ValueKind::Array(list) => list.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// The innermost message: key and origin are told by us.
fn problem_of(error: &ConfigError) -> String {
    match error {
        ConfigError::At { error, .. } => problem_of(error),
        ConfigError::Type { unexpected, expected, .. } => format!("this is {unexpected}, expected {expected}"),
        other => other.to_string(),
    }
}

/// Parsed by the plain TOML parser first: its errors name a line, and do not show the line's text, which may be secret.
fn read_toml(file: &Path) -> Result<BTreeMap<String, ValueKind>, Box<Mistake>> {
    let unreadable = |problem: String| Box::new(Mistake::Unreadable { file: file.to_owned(), problem });
    let text = fs::read_to_string(file).map_err(|error| unreadable(error.to_string()))?;
    if let Err(error) = text.parse::<toml::Table>() {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let problem = error.message().to_owned();
        return Err(Box::new(Mistake::NotToml { file: file.to_owned(), line, problem }));
    }
    leaves_of_toml(&text).map_err(|error| unreadable(problem_of(&error)))
}
