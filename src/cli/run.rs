//! `churnd run`: the daemon.

use anyhow::Context as _;

use super::settings::{DaemonSettings, Settings};
use crate::{service::boot, telemetry::log};

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
        log::init(&config.log).context("cannot set up logging")?;
        super::block_on(boot::run(config, |_| {}))
    }
}
