//! A made-up company with customers that behave like customers: what scripts/demo shows churnd with.
//!
//! The same seed gives the same customers; only the present moves with the clock.

mod cast; // who the customers are, and how each behaves
mod history; // what they did in the last weeks
mod live; // what they do now
mod random; // chance that can be repeated
mod stripe; // what Stripe would send

use super::{output, settings::Settings};
use crate::event::ids::AccountId;

/// What is made up.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Print some weeks of events that end now
    History(Scale),
    /// Publish Stripe's webhooks about everybody's subscription
    Billing(Live),
    /// Go on publishing: usage every moment, and now and then something that matters
    Live(Live),
}

/// How much is made up.
#[derive(Clone, Debug, clap::Args)]
pub struct Scale {
    /// How many customers
    #[arg(long, default_value_t = 300)]
    customers: usize,
    /// How many days back
    #[arg(long, default_value_t = 42)]
    days: i64,
    /// The same seed makes up the same customers
    #[arg(long, default_value_t = 7)]
    seed: u64,
}

/// Where to publish.
#[derive(Debug, clap::Args)]
pub struct Live {
    /// Whose customers they are
    #[arg(long, value_parser = output::account)]
    account: AccountId,
    #[command(flatten)]
    scale: Scale,
    #[command(flatten)]
    settings: Settings,
}

impl Command {
    /// Runs the subcommand.
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::History(scale) => Ok(history::print(&scale)?),
            Self::Billing(options) => live::bill(options).await,
            Self::Live(options) => live::go_on(options).await,
        }
    }
}
