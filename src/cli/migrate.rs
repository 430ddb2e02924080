//! `churnd migrate`: the tables as this binary needs them.

use anyhow::Context as _;

use super::{connect, output, settings::Settings};
use crate::store::{Store, roles::Grant};

/// The flags of `churnd migrate`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Only say which schema the database has and which one this churnd needs; fails if they differ
    #[arg(long)]
    dry_run: bool,
    /// Give this role the right to do all of the daemon's work, and none to change tables
    #[arg(long, value_name = "ROLE")]
    app_role: Option<String>,
    /// Give this role the right to read everything but keys, secrets and channels
    #[arg(long, value_name = "ROLE")]
    read_role: Option<String>,
    #[command(flatten)]
    settings: Settings,
}

impl Options {
    /// Applies what the database lacks.
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let config = self.settings.load()?;
        let store = Store::connect(&config.postgres)?;
        if self.dry_run {
            let found = store.schema_version().await.context(connect::POSTGRES)?;
            output::line(format!(
                "the database has schema version {found}, this churnd needs {}",
                store.expected_version()
            ))?;
            return Ok(store.check_schema().await?);
        }
        let applied = store.migrate().await.context(connect::POSTGRES)?;
        for migration in &applied {
            output::line(format!("applied {:04} {}", migration.version, migration.name))?;
        }
        let version = store.schema_version().await?;
        output::line(match applied.len() {
            0 => format!("schema version {version} is there already; nothing to do"),
            _ => format!("the database has schema version {version} now"),
        })?;
        if let Some(role) = &self.app_role {
            store.grant(role, Grant::Work).await.context(connect::POSTGRES)?;
            output::line(format!("{role} may do the daemon's work"))?;
        }
        if let Some(role) = &self.read_role {
            store.grant(role, Grant::Read).await.context(connect::POSTGRES)?;
            output::line(format!("{role} may read"))?;
        }
        Ok(())
    }
}
