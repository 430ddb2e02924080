//! `churnd provision`: the streams as declared, without ever deleting data.

use super::{connect, output, settings::Settings};
use crate::stream::topology::{self, Remedy};

/// The flags of `churnd provision`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Copies of each stream; without it new streams get one, and existing ones keep theirs
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=5))]
    replicas: Option<u8>,
    /// Keep the streams' limits within this many MiB together, for small disks
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(16..))]
    room: Option<u64>,
    /// Only show what would be done
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    settings: Settings,
}

impl Options {
    /// Shows how the server differs, and makes it as declared.
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let config = self.settings.load()?;
        let mut topology = topology::declared(config.pipeline.partitions);
        if let Some(replicas) = self.replicas {
            topology = topology.with_replicas(replicas);
        }
        if let Some(room) = self.room {
            topology = topology.with_room(room << 20);
        }
        let context = connect::jetstream(&config, "provision").await?;
        let differences = topology.plan(&context).await?;
        for difference in &differences {
            output::line(difference)?;
        }
        let changes = differences.iter().filter(|difference| difference.remedy != Remedy::Keep).count();
        let server = config.nats.redacted_url();
        if changes == 0 {
            output::line(format!("{server} is as declared; nothing to do"))?;
        } else if self.dry_run {
            let refused = differences.iter().any(|difference| matches!(difference.remedy, Remedy::Refuse(_)));
            anyhow::ensure!(!refused, "what is marked `!` would be refused; nothing was changed");
            output::line("nothing was changed: this was a dry run")?;
        } else {
            topology.apply(&context).await?;
            output::line(format!("{server} is as declared now"))?;
        }
        Ok(())
    }
}
