//! `churnd account`: who is served.

use super::{connect, output, settings::Settings};
use crate::event::ids::AccountId;

/// What can be done with accounts.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Add an account: its events are scored from then on
    Add(Add),
    /// List the accounts
    List(List),
}

/// The flags of `churnd account add`.
#[derive(Debug, clap::Args)]
pub struct Add {
    /// A short name, as it stands in subjects: 1 to 32 of a-z, 0-9, `_`, `-`
    #[arg(value_parser = output::account)]
    account: AccountId,
    /// What people call it
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    settings: Settings,
}

/// The flags of `churnd account list`.
#[derive(Debug, clap::Args)]
pub struct List {
    /// Print a line of JSON for each
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: Settings,
}

impl Command {
    /// Runs the subcommand.
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Add(options) => options.run().await,
            Self::List(options) => options.run().await,
        }
    }
}

impl Add {
    async fn run(self) -> anyhow::Result<()> {
        let store = connect::store(&self.settings.load()?).await?;
        let account = self.account;
        store.add_account(&account, self.name.as_deref().unwrap_or(account.as_str())).await?;
        output::line(format!("added account {account}"))?;
        eprintln!(
            "next: `churnd key add --account {account} --kind secret`, or publish to churn.events.{account}.<customer>"
        );
        Ok(())
    }
}

impl List {
    async fn run(self) -> anyhow::Result<()> {
        let accounts = connect::store(&self.settings.load()?).await?.list_accounts().await?;
        if self.json {
            for account in &accounts {
                output::json(&serde_json::json!({
                    "account": account.id, "name": account.name, "createdAt": account.created_at,
                }))?;
            }
            return Ok(());
        }
        if accounts.is_empty() {
            eprintln!("there is no account yet: add one with `churnd account add`");
            return Ok(());
        }
        let rows: Vec<_> = accounts
            .into_iter()
            .map(|account| [account.id.to_string(), output::to_the_second(account.created_at), account.name])
            .collect();
        output::table(["ACCOUNT", "CREATED", "NAME"], &rows)?;
        Ok(())
    }
}
