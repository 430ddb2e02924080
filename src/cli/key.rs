//! `churnd key`: who may come in. Keys are shown once, when they are made; afterwards only their beginning is known.

use std::{fs, io, path::PathBuf};

use anyhow::Context as _;
use secrecy::{ExposeSecret as _, SecretString};
use uuid::Uuid;

use super::{connect, output, settings::Settings};
use crate::{
    event::{ids::AccountId, time::Timestamp},
    store::{Store, StoreError, keys::KeyKind},
};

/// What can be done with keys.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Make a key and print it: this is the only time that it is shown
    Add(Add),
    /// List an account's keys
    List(List),
    /// Make a key count no longer; takes effect within seconds
    Revoke(Revoke),
}

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    /// For web pages: may only track and identify
    Publishable,
    /// For servers: may do everything that its account may
    Secret,
    /// The secret that Stripe signs the account's webhooks with (whsec_…)
    Stripe,
}

/// The flags of `churnd key add`.
#[derive(Debug, clap::Args)]
pub struct Add {
    /// Whose key
    #[arg(long, value_parser = output::account)]
    account: AccountId,
    /// What it is for
    #[arg(long, value_enum)]
    kind: Kind,
    /// Only for stripe: the file with the secret that Stripe shows, `-` for standard input; without it one is made up
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// Only for stripe: what people call the secret
    #[arg(long, default_value = "webhooks")]
    label: String,
    /// Web origins that the key may be used from, such as `https://app.example.com`; all when not given
    #[arg(long = "origin", value_name = "ORIGIN")]
    origins: Vec<String>,
    /// Tracking requests a minute and client address
    #[arg(long, value_name = "N")]
    rate: Option<u32>,
    /// Print a line of JSON instead of the bare key
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: Settings,
}

/// The flags of `churnd key list`.
#[derive(Debug, clap::Args)]
pub struct List {
    /// Whose keys
    #[arg(long, value_parser = output::account)]
    account: AccountId,
    /// Keys that were revoked, too
    #[arg(long)]
    revoked: bool,
    /// Print a line of JSON for each
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: Settings,
}

/// The flags of `churnd key revoke`.
#[derive(Debug, clap::Args)]
pub struct Revoke {
    /// The key's id, or its beginning as `churnd key list` shows it
    key: String,
    #[command(flatten)]
    settings: Settings,
}

impl Command {
    /// Runs the subcommand.
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Add(options) => options.run().await,
            Self::List(options) => options.run().await,
            Self::Revoke(options) => options.run().await,
        }
    }
}

/// A key that was just made, to be shown once.
struct Shown {
    id: Uuid,
    kind: &'static str,
    secret: SecretString,
}

impl Add {
    async fn run(self) -> anyhow::Result<()> {
        let store = connect::store(&self.settings.load()?).await?;
        let made = match self.kind {
            Kind::Publishable => self.make(&store, KeyKind::Publishable).await?,
            Kind::Secret => self.make(&store, KeyKind::Secret).await?,
            Kind::Stripe => self.take_from_stripe(&store).await?,
        };
        if self.json {
            output::json(&serde_json::json!({
                "id": made.id, "account": self.account, "kind": made.kind, "key": made.secret.expose_secret(),
            }))?;
        } else {
            output::line(made.secret.expose_secret())?;
            eprintln!("keep it now: it is not shown again (id {})", made.id);
        }
        Ok(())
    }

    async fn make(&self, store: &Store, kind: KeyKind) -> anyhow::Result<Shown> {
        anyhow::ensure!(
            self.secret_file.is_none(),
            "--secret-file goes with --kind stripe only: other keys are made here"
        );
        let new = store.add_key(&self.account, kind).await?;
        if !self.origins.is_empty() || self.rate.is_some() {
            store.limit_key(new.id, &self.origins, self.rate).await?;
        }
        Ok(Shown { id: new.id, kind: kind.as_str(), secret: new.key })
    }

    async fn take_from_stripe(&self, store: &Store) -> anyhow::Result<Shown> {
        let given = self.secret_file.as_ref().map(read_secret).transpose()?;
        let stored = store.add_stripe_secret(&self.account, given, &self.label).await?;
        Ok(Shown { id: stored.id, kind: "stripe", secret: stored.secret })
    }
}

fn read_secret(file: &PathBuf) -> anyhow::Result<SecretString> {
    let text = match file.to_str() {
        Some("-") => io::read_to_string(io::stdin()).context("cannot read the secret from standard input")?,
        _ => fs::read_to_string(file).with_context(|| format!("cannot read the secret from {}", file.display()))?,
    };
    let secret = text.trim();
    anyhow::ensure!(
        secret.starts_with("whsec_") && !secret.contains(char::is_whitespace),
        "this is no signing secret: Stripe's begin with whsec_ and stand in the webhook endpoint's page"
    );
    Ok(SecretString::from(secret))
}

/// A key as it is listed.
struct Listed {
    kind: &'static str,
    prefix: String,
    id: Uuid,
    created_at: Timestamp,
    last_used_at: Option<Timestamp>,
    revoked_at: Option<Timestamp>,
}

impl List {
    async fn run(self) -> anyhow::Result<()> {
        let store = connect::store(&self.settings.load()?).await?;
        anyhow::ensure!(
            store.known_accounts().await?.contains(&self.account),
            "there is no account {}: `churnd account list` shows those that are there",
            self.account
        );
        let mut keys = self.keys(&store).await?;
        keys.retain(|key| self.revoked || key.revoked_at.is_none());
        if self.json {
            keys.iter().try_for_each(|key| output::json(&key.as_json(&self.account)))?;
        } else if keys.is_empty() {
            eprintln!("account {} has no keys: make one with `churnd key add`", self.account);
        } else {
            let rows: Vec<_> = keys.iter().map(Listed::as_row).collect();
            output::table(["KIND", "BEGINS", "ID", "CREATED", "LAST USED", "REVOKED"], &rows)?;
        }
        Ok(())
    }

    async fn keys(&self, store: &Store) -> Result<Vec<Listed>, StoreError> {
        let keys = store.list_keys(&self.account).await?.into_iter().map(|key| Listed {
            kind: key.kind.as_str(),
            prefix: key.prefix,
            id: key.id,
            created_at: key.created_at,
            last_used_at: key.last_used_at,
            revoked_at: key.revoked_at,
        });
        let secrets = store.list_stripe_secrets().await?.into_iter().filter(|secret| secret.account == self.account);
        let secrets = secrets.map(|secret| Listed {
            kind: "stripe",
            prefix: "whsec_…".to_owned(),
            id: secret.id,
            created_at: secret.created_at,
            last_used_at: None,
            revoked_at: None,
        });
        Ok(keys.chain(secrets).collect())
    }
}

impl Listed {
    fn as_json(&self, account: &AccountId) -> serde_json::Value {
        serde_json::json!({
            "id": self.id, "account": account, "kind": self.kind, "prefix": self.prefix, "createdAt": self.created_at,
            "lastUsedAt": self.last_used_at, "revokedAt": self.revoked_at,
        })
    }

    fn as_row(&self) -> [String; 6] {
        let or_never = |at: Option<Timestamp>| at.map_or_else(|| "-".to_owned(), output::to_the_second);
        [
            self.kind.to_owned(),
            self.prefix.clone(),
            self.id.to_string(),
            output::to_the_second(self.created_at),
            or_never(self.last_used_at),
            or_never(self.revoked_at),
        ]
    }
}

impl Revoke {
    async fn run(self) -> anyhow::Result<()> {
        let store = connect::store(&self.settings.load()?).await?;
        match store.revoke_key(&self.key).await {
            Ok(key) => {
                output::line(format!(
                    "revoked the {} key {}… of account {}",
                    key.kind.as_str(),
                    key.prefix,
                    key.account
                ))?;
                Ok(())
            }
            Err(StoreError::UnknownKey(shown)) => {
                self.revoke_stripe_secret(&store, StoreError::UnknownKey(shown)).await
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn revoke_stripe_secret(&self, store: &Store, unknown: StoreError) -> anyhow::Result<()> {
        let Ok(id) = self.key.parse::<Uuid>() else { return Err(unknown.into()) };
        anyhow::ensure!(store.revoke_stripe_secret(id).await?, unknown);
        output::line(format!("revoked the Stripe signing secret {id}"))?;
        Ok(())
    }
}
