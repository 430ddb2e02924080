//! The rules in force: the default set and one for each account that has its own, read from files.

use std::{collections::HashMap, fs, path::Path, sync::Arc};

use super::config::RulesConfig;
use crate::{
    engine::rules::{InvalidRules, Rules},
    event::ids::AccountId,
};

/// All rules of an installation.
#[derive(Clone, Debug, Default)]
pub struct RuleBook {
    default: Arc<Rules>,
    accounts: HashMap<AccountId, Arc<Rules>>,
}

/// Why rules cannot be used; those in force stay.
#[derive(Debug, thiserror::Error)]
pub enum RuleBookError {
    /// A file cannot be read.
    #[error("cannot read rules from {path}: {source}")]
    Unreadable {
        /// The file or directory.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file says something that is not allowed.
    #[error(transparent)]
    Invalid(#[from] InvalidRules),
    /// A file of the accounts' directory is not named after an account.
    #[error(
        "{path}: a file of rules.accounts_dir is named <account>.toml, and an account is 1 to 32 of a-z, 0-9, `_`, `-`"
    )]
    NotAnAccount {
        /// The file.
        path: String,
    },
}

impl RuleBook {
    /// The same rules for all accounts.
    pub fn of_all(rules: Rules) -> Self {
        Self { default: Arc::new(rules), accounts: HashMap::new() }
    }

    /// Reads the files that the settings name; the built-in rules where they name none.
    pub fn load(config: &RulesConfig) -> Result<Self, RuleBookError> {
        let default = match &config.file {
            Some(file) => read(file)?,
            None => Rules::default(),
        };
        let mut accounts = HashMap::new();
        if let Some(directory) = &config.accounts_dir {
            let unreadable = |source| RuleBookError::Unreadable { path: directory.display().to_string(), source };
            for entry in fs::read_dir(directory).map_err(unreadable)? {
                let path = entry.map_err(unreadable)?.path();
                if path.extension().is_some_and(|extension| extension == "toml") {
                    accounts.insert(account_of(&path)?, Arc::new(read(&path)?));
                }
            }
        }
        Ok(Self { default: Arc::new(default), accounts })
    }

    /// The rules of an account.
    pub fn of(&self, account: &str) -> Arc<Rules> {
        let own = AccountId::parse(account).ok().and_then(|account| self.accounts.get(&account));
        Arc::clone(own.unwrap_or(&self.default))
    }

    /// How many accounts have rules of their own.
    pub fn accounts(&self) -> usize {
        self.accounts.len()
    }

    /// Tells books apart: customers are scored anew when it changes.
    pub fn hash(&self) -> String {
        let mut hash = self.default.hash();
        for (account, rules) in &self.accounts {
            let seed = rules.hash();
            hash ^= xxhash_rust::xxh3::xxh3_64_with_seed(account.as_str().as_bytes(), seed);
        }
        format!("{hash:016x}")
    }
}

fn read(path: &Path) -> Result<Rules, RuleBookError> {
    let name = path.display().to_string();
    let text = fs::read_to_string(path).map_err(|source| RuleBookError::Unreadable { path: name.clone(), source })?;
    Ok(Rules::parse(&text, &name)?)
}

fn account_of(path: &Path) -> Result<AccountId, RuleBookError> {
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    AccountId::parse(stem).map_err(|_| RuleBookError::NotAnAccount { path: path.display().to_string() })
}
