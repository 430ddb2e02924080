//! What is told about mistakes: source, key, value (never a secret's) and what is allowed.

use std::{fmt, path::PathBuf};

use super::sources::Origin;

/// One mistake in the settings.
#[derive(Debug, thiserror::Error)]
pub enum Mistake {
    /// A file that was asked for cannot be read.
    #[error("{}: cannot be read: {problem}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system says.
        problem: String,
    },
    /// A file is not TOML.
    #[error("{}:{line}: {problem}", file.display())]
    NotToml {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What the parser says, without the line's text.
        problem: String,
    },
    /// There is no such setting.
    #[error("{origin}: there is no setting `{key}`{}", did_you_mean(nearest.as_deref()))]
    Unknown {
        /// The setting as it was written.
        key: String,
        /// Where it was written.
        origin: Origin,
        /// What may have been meant.
        nearest: Option<String>,
    },
    /// The value is of the wrong kind.
    #[error("{origin}: {key}{}: {problem}. {allowed}", shown(value.as_deref()))]
    Value {
        /// The setting.
        key: String,
        /// Where it was set.
        origin: Origin,
        /// The value, unless it is a secret.
        value: Option<String>,
        /// What is wrong with it.
        problem: String,
        /// The setting's sentence.
        allowed: String,
    },
    /// The value, or its combination with others, cannot work.
    #[error("{}{problem}", origin.as_ref().map(|origin| format!("{origin}: ")).unwrap_or_default())]
    Refused {
        /// A sentence that begins with the setting.
        problem: String,
        /// Where the setting was set, unless it is the default.
        origin: Option<Origin>,
    },
}

impl Mistake {
    /// The setting that is at fault, where it is one that exists.
    pub(super) fn key(&self) -> Option<&str> {
        match self {
            Self::Value { key, .. } => Some(key),
            Self::Unreadable { .. } | Self::NotToml { .. } | Self::Unknown { .. } | Self::Refused { .. } => None,
        }
    }
}

/// All mistakes in the settings, at least one.
#[derive(Debug)]
pub struct ConfigErrors(pub Vec<Mistake>);

impl std::error::Error for ConfigErrors {}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [mistake] => write!(formatter, "the configuration has a mistake\n  {mistake}"),
            mistakes => {
                write!(formatter, "the configuration has {} mistakes", mistakes.len())?;
                mistakes.iter().try_for_each(|mistake| write!(formatter, "\n  {mistake}"))
            }
        }
    }
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map(|key| format!("; did you mean `{key}`?")).unwrap_or_default()
}

fn shown(value: Option<&str>) -> String {
    value.map(|value| format!(" = `{value}`")).unwrap_or_default()
}
