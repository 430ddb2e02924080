//! `churnd stripe`: what is to be had from Stripe besides its webhooks.

mod backfill; // what was missed
mod list; // Stripe's list of events

/// What can be done with Stripe.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Fetch past events that no webhook brought, up to 30 days back; harmless to repeat
    Backfill(backfill::Options),
}

impl Command {
    /// Runs the subcommand.
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Backfill(options) => options.run().await,
        }
    }
}
