//! `churnd replay-dead`: a second chance for dead letters. What today's decoding and accounts accept is published again
//! to the subject it came by; the rest stays where it is.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};

use super::{connect, output, settings::Settings};
use crate::{
    event::ids::AccountId,
    pipeline::second_chance::verdict,
    stream::{
        dead::{self, Selection},
        publisher::{DEFAULT_WINDOW, Publisher},
    },
};

/// The flags of `churnd replay-dead`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Only this account's letters
    #[arg(long, value_parser = output::account)]
    account: Option<AccountId>,
    /// Only letters with this reason, such as `unknown_account`
    #[arg(long, value_name = "CODE")]
    reason: Option<String>,
    /// Also replay what would be refused again today
    #[arg(long)]
    all: bool,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    settings: Settings,
}

impl Options {
    /// Looks at each letter and replays those that have become valid.
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let config = self.settings.load()?;
        let accounts = connect::store(&config).await?.known_accounts().await?;
        let publisher = Publisher::new(connect::nats(&config, "replay-dead").await?, DEFAULT_WINDOW);
        let selection = Selection {
            account: self.account.as_ref().map(ToString::to_string),
            reason: self.reason.clone(),
            ..Selection::default()
        };
        let letters = dead::list(publisher.context(), &selection).await.context("cannot list the dead letters")?;
        let (mut replayed, mut stay) = (0_u64, BTreeMap::<String, u64>::new());
        let mut failures = 0_u64;
        let is_known = |account: &str| AccountId::parse(account).is_ok_and(|account| accounts.contains(&account));
        for letter in &letters {
            match verdict(letter, is_known) {
                Err(why) if !self.all => *stay.entry(why).or_default() += 1,
                _ if self.dry_run => replayed += 1,
                _ => match dead::replay(&publisher, letter.sequence).await {
                    Ok(_) => replayed += 1,
                    Err(error) => {
                        failures += 1;
                        eprintln!("{:#}", anyhow::Error::new(error));
                    }
                },
            }
        }
        self.summarize(letters.len(), replayed, &stay)?;
        if failures > 0 {
            bail!("{} could not be replayed and stay", output::counted(failures, "letter"));
        }
        Ok(())
    }

    fn summarize(&self, letters: usize, replayed: u64, stay: &BTreeMap<String, u64>) -> Result<(), output::NotPrinted> {
        if letters == 0 {
            return output::line("there are no dead letters to look at");
        }
        let of = output::counted(letters as u64, "dead letter");
        let did = if self.dry_run { "would be replayed" } else { "replayed" };
        output::line(format!("{replayed} of {of} {did}"))?;
        stay.iter().try_for_each(|(why, count)| output::line(format!("{count} stay: {why}")))?;
        if !stay.is_empty() && !self.all {
            eprintln!("`--all` replays those too: they will come back as dead letters unless their cause is gone");
        }
        Ok(())
    }
}
