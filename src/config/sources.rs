//! Where settings come from, collected before any of them is looked at, so that tests need no process environment.

use std::{
    env, fmt,
    path::{Path, PathBuf},
};

/// The prefix of our environment variables; `__` also separates the parts of a key.
const PREFIX: &str = "CHURND__";

/// Variables that are honoured besides our own, and what they set.
const FOREIGN: [(&str, &str); 8] = [
    ("DATABASE_URL", "postgres.url"),
    ("PORT", "http.listen"),
    ("STRIPE_WEBHOOK_SECRET", "stripe.webhook_secret"),
    ("STRIPE_API_KEY", "stripe.api_key"),
    ("SENDGRID_API_KEY", "sendgrid.api_key"),
    ("SLACK_CLIENT_ID", "slack.client_id"),
    ("SLACK_CLIENT_SECRET", "slack.client_secret"),
    ("SENTRY_DSN", "sentry.dsn"),
];

/// A flag of the command line that sets a setting.
#[derive(Clone, Debug)]
pub struct Flag {
    /// The flag as it is typed: `--nats-url`.
    pub name: &'static str,
    /// The setting: `nats.url`.
    pub key: &'static str,
    /// Its value.
    pub value: String,
}

/// All places that settings are read from, the weakest first. The default has none: the built-in settings alone.
#[derive(Clone, Default)]
pub struct Sources {
    /// The file that was asked for; it must exist.
    pub file: Option<PathBuf>,
    /// Files to try when none was asked for; the first that exists is taken.
    pub usual_files: Vec<PathBuf>,
    /// The directory with a file for each secret.
    pub credentials: Option<PathBuf>,
    /// The environment.
    pub environment: Vec<(String, String)>,
    /// The flags of the command.
    pub flags: Vec<Flag>,
}

/// Where a value stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A configuration file.
    File(PathBuf),
    /// A file in the credentials directory.
    Credential(PathBuf),
    /// An environment variable.
    Environment(String),
    /// A flag of the command line.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(formatter, "{}", path.display()),
            Self::Credential(path) => write!(formatter, "credential {}", path.display()),
            Self::Environment(name) => write!(formatter, "environment {name}"),
            Self::Flag(name) => formatter.write_str(name),
        }
    }
}

impl Sources {
    /// Those of this process: `file` and `flags` from its arguments, the rest from its environment.
    pub fn of_this_process(file: Option<PathBuf>, flags: Vec<Flag>) -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        let environment: Vec<(String, String)> = env::vars_os().filter_map(text).collect();
        let named = |wanted: &str| environment.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
        let directories =
            named("CONFIGURATION_DIRECTORY").unwrap_or_default().split(':').filter(|path| !path.is_empty());
        let usual_files = directories.chain(["/etc/churnd"]).map(|path| Path::new(path).join("churnd.toml")).collect();
        let credentials = named("CREDENTIALS_DIRECTORY").map(PathBuf::from);
        Self { file, usual_files, credentials, environment, flags }
    }

    /// Settings from variables of other makers, then from our own: key, value, variable.
    pub(super) fn variables(&self) -> Vec<(String, String, Origin)> {
        let mut settings = Vec::new();
        for (name, key) in FOREIGN {
            let variable = self.environment.iter().find(|(other, value)| other == name && !value.is_empty());
            if let Some((_, value)) = variable {
                let value = if name == "PORT" { format!("0.0.0.0:{value}") } else { value.clone() };
                settings.push((key.to_owned(), value, Origin::Environment(name.to_owned())));
            }
        }
        for (name, value) in &self.environment {
            if let Some(key) = name.strip_prefix(PREFIX) {
                let key = key.to_lowercase().replace("__", ".");
                settings.push((key, value.clone(), Origin::Environment(name.clone())));
            }
        }
        settings
    }
}
