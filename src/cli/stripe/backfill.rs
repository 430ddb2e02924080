//! `churnd stripe backfill`: events that no webhook brought are read from Stripe's list and published as webhooks.
//!
//! Each is published under the id that its webhook has, and its facts are idempotent: what came already changes nothing, and
//! repeating the whole is harmless. The list begins with the newest; a run that was broken off is gone on with by `--until`.

use std::time::Duration;

use anyhow::{Context as _, bail};
use indicatif::{ProgressBar, ProgressStyle};

use super::list::{EventList, Listed, Query};
use crate::{
    bridge::stripe::message,
    cli::{connect, output, settings::Settings},
    config::Config,
    event::{ids::AccountId, stripe::is_known_type, time::Timestamp},
    stream::publisher::Publisher,
    web::{Limits, Web},
};

/// Events under way at once: a page.
const WINDOW: usize = 100;
/// How long an event is tried before the run is broken off.
const PATIENCE: Duration = Duration::from_secs(30);
/// A page of a hundred large events.
const PAGE_LIMITS: Limits = Limits { time: Duration::from_secs(60), body_bytes: 64 * 1024 * 1024 };
/// The most types that Stripe takes in one question.
const MOST_TYPES: usize = 20;

/// The flags of `churnd stripe backfill`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Whose events they are
    #[arg(long, value_parser = output::account)]
    account: AccountId,
    /// Fetch none that is older, such as 2026-03-01T12:00:00Z; without it all that Stripe still has (30 days)
    #[arg(long, value_name = "TIME")]
    since: Option<Timestamp>,
    /// Fetch none that is newer
    #[arg(long, value_name = "TIME")]
    until: Option<Timestamp>,
    /// Fetch this type only, such as invoice.paid; may be given up to 20 times. Without it all that say something of risk
    #[arg(long = "type", value_name = "TYPE", value_parser = kind)]
    types: Vec<String>,
    #[command(flatten)]
    settings: Settings,
}

/// What became of the events.
#[derive(Debug, Default)]
struct Tally {
    published: u64,
    repeated: u64,
    skipped: u64,
    /// The oldest event that was dealt with: everything newer was too.
    reached: Option<Timestamp>,
}

impl Options {
    /// Fetches and publishes until the list ends.
    pub(super) async fn run(self) -> anyhow::Result<()> {
        if self.types.len() > MOST_TYPES {
            bail!("Stripe takes {MOST_TYPES} types at the most: leave --type out to fetch all that matter");
        }
        let config = self.settings.load()?;
        let list = self.list(&config)?;
        let store = connect::store(&config).await?;
        if !store.known_accounts().await?.contains(&self.account) {
            bail!("there is no account {}: `churnd account list` shows those that are there", self.account);
        }
        let publisher =
            Publisher::new(connect::nats(&config, "stripe backfill").await?, WINDOW).with_patience(PATIENCE);
        let mut tally = Tally::default();
        let outcome = tokio::select! {
            outcome = self.fetch(&list, &publisher, &mut tally) => outcome,
            signal = tokio::signal::ctrl_c() => {
                signal.context("cannot wait for Ctrl-C").and_then(|()| bail!("interrupted"))
            }
        };
        list.bar.finish_and_clear();
        self.conclude(outcome, &tally)
    }

    fn list(&self, config: &Config) -> anyhow::Result<EventList> {
        let api_key = config.stripe.api_key.clone().context(
            "there is no key to ask Stripe with: set stripe.api_key or $STRIPE_API_KEY; a restricted key that may read events is enough",
        )?;
        let query = Query { since: self.since, until: self.until, types: self.types.clone() };
        let bar = ProgressBar::new_spinner();
        bar.set_style(ProgressStyle::with_template("{spinner} {msg}").unwrap_or_else(|_| ProgressStyle::default_bar()));
        Ok(EventList { web: Web::new(PAGE_LIMITS)?, api_url: config.stripe.api_url.clone(), api_key, query, bar })
    }

    async fn fetch(&self, list: &EventList, publisher: &Publisher, tally: &mut Tally) -> anyhow::Result<()> {
        let mut last: Option<String> = None;
        loop {
            let page = list.page(last.as_deref()).await.context("cannot read Stripe's events")?;
            let Some(oldest) = page.events.last().cloned() else { return Ok(()) };
            self.publish(publisher, page.events, tally).await?;
            tally.reached = Some(oldest.created);
            list.bar.set_message(format!("{}, back to {}", output::counted(tally.published, "event"), oldest.created));
            list.bar.tick();
            if !page.has_more {
                return Ok(());
            }
            if last.as_ref() == Some(&oldest.id) {
                bail!("Stripe's list does not go on after {}: is stripe.api_url right?", oldest.id);
            }
            last = Some(oldest.id);
        }
    }

    async fn publish(&self, publisher: &Publisher, events: Vec<Listed>, tally: &mut Tally) -> anyhow::Result<()> {
        let (wanted, others): (Vec<_>, Vec<_>) = events.into_iter().partition(|event| self.wants(&event.kind));
        tally.skipped += others.len() as u64;
        let messages = wanted.into_iter().map(|event| message(&self.account, event.body));
        for outcome in publisher.publish_all(messages).await {
            let ack = outcome.context("an event was not published")?;
            *(if ack.duplicate { &mut tally.repeated } else { &mut tally.published }) += 1;
        }
        Ok(())
    }

    fn wants(&self, kind: &str) -> bool {
        if self.types.is_empty() { is_known_type(kind) } else { self.types.iter().any(|wanted| wanted == kind) }
    }

    fn conclude(&self, outcome: anyhow::Result<()>, tally: &Tally) -> anyhow::Result<()> {
        let Tally { published, repeated, skipped, reached } = tally;
        let mut said =
            format!("published {} of Stripe to account {}", output::counted(*published, "event"), self.account);
        if *repeated > 0 {
            said += &format!("; {repeated} more were there already");
        }
        if *skipped > 0 {
            said += &format!("; {skipped} say nothing of risk");
        }
        match (outcome, reached) {
            (Ok(()), _) => Ok(output::line(said)?),
            (Err(error), Some(reached)) => {
                eprintln!("{said}");
                Err(error.context(format!("stopped on the way back: go on with --until {reached}")))
            }
            (Err(error), None) => Err(error),
        }
    }
}

/// Reads a type off the command line.
fn kind(text: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_');
    if !text.is_empty() && text.bytes().all(plain) {
        Ok(text.to_owned())
    } else {
        Err("Stripe's types are made of a-z, 0-9, `.` and `_`".to_owned())
    }
}
