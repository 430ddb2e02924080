//! `churnd run`: the daemon.

use anyhow::Context as _;

use super::settings::{DaemonSettings, Settings};
use crate::{
    service::boot,
    telemetry::{log, sentry::Reporter},
};

/// The flags of `churnd run`.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    daemon: DaemonSettings,
}

impl Options {
    /// Runs until the daemon is told to stop and has drained.
    pub(super) fn run(self) -> anyhow::Result<()> {
        let config = self.settings.load_for(&self.daemon)?;
        let reporter =
            Reporter::start(&config.sentry, &config.instance_name()).context("errors cannot be reported to Sentry")?;
        log::init(&config.log, reporter.clone()).context("cannot set up logging")?;
        if let Some(reporter) = &reporter {
            reporter.watch_panics();
        }
        let outcome = super::block_on(boot::run(config, |_| {}));
        if let Some(reporter) = reporter {
            reporter.flush();
        }
        outcome
    }
}
