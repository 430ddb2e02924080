//! `churnd doctor`: what is reachable, in which version, how far it is, what is wrong, and the next step for each fault.
//!
//! Only looks: it changes nothing and takes no work from anybody. Each part looks by itself, so that one server that is
//! away does not hide what is wrong with the other.

mod finding; // one thing that was looked at
mod lag; // what waits to be scored
mod nats; // the server and its streams
mod partitions; // owners, watermarks
mod postgres; // the server, its tables, what waits in them

use anyhow::bail;

use self::finding::{Finding, Findings};
use super::{output, settings::Settings};
use crate::{config::Config, pipeline::rulebook::RuleBook, service::clock::Clock};

/// The flags of `churnd doctor`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: Settings,
}

impl Options {
    /// Looks at everything; fails if something is wrong.
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let config = self.settings.load()?;
        let mut findings = Findings::default();
        findings.add(rules(&config));
        let now = Clock::system().now();
        let (nats, postgres) = tokio::join!(nats::look(&config), postgres::look(&config, now));
        let (context, store) = (nats.context, postgres.store);
        findings.extend(nats.findings);
        findings.extend(postgres.findings);
        if let Some(store) = &store {
            findings.extend(partitions::look(store, context.as_ref()).await);
        }
        if self.json {
            findings.print_json()?
        } else {
            findings.print()?
        }
        match findings.faults() {
            0 => Ok(()),
            faults => bail!("{} found", output::counted(faults, "fault")),
        }
    }
}

fn rules(config: &Config) -> Finding {
    match RuleBook::load(&config.rules) {
        Ok(book) => {
            let default = match &config.rules.file {
                Some(file) => file.display().to_string(),
                None => "built in".to_owned(),
            };
            let own = match book.accounts() {
                0 => String::new(),
                accounts => format!("; accounts with rules of their own: {accounts}"),
            };
            Finding::fine("rules", format!("{default}{own}"))
        }
        Err(error) => Finding::fault("rules", error.to_string(), "correct the file; `churnd check` names all mistakes"),
    }
}
