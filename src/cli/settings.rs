//! Flags that are settings: they win over the environment, which wins over the file.

use std::path::PathBuf;

use crate::config::{Config, ConfigErrors, Flag, Sources};

/// The flags that every command with servers takes.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Settings")]
pub(super) struct Settings {
    /// The configuration file; without it `$CONFIGURATION_DIRECTORY/churnd.toml`, else /etc/churnd/churnd.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where NATS is [setting nats.url]
    #[arg(long, value_name = "URL")]
    nats_url: Option<String>,
    /// Where Postgres is [setting postgres.url]; a password is better kept in `$CHURND__POSTGRES__URL`
    #[arg(long, value_name = "URL", hide_env_values = true)]
    postgres_url: Option<String>,
}

/// The flags of a daemon.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Settings")]
pub(super) struct DaemonSettings {
    /// What this process does, with commas between: engine, bridge, archive, notify [setting roles]
    #[arg(long, value_name = "ROLES")]
    roles: Option<String>,
    /// The name of this instance [setting instance]
    #[arg(long, value_name = "NAME")]
    instance: Option<String>,
    /// Where to serve HTTP, as IP:PORT; port 0 takes a free one [setting http.listen]
    #[arg(long, value_name = "ADDR")]
    http: Option<String>,
    /// The least level that is logged [setting log.level]
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// The file with the rules [setting rules.file]
    #[arg(long, value_name = "FILE")]
    rules: Option<String>,
}

impl Settings {
    /// Reads and checks the whole configuration.
    pub(super) fn load(&self) -> Result<Config, ConfigErrors> {
        Config::load(&self.sources(Vec::new()))
    }

    /// Reads and checks the whole configuration of a daemon.
    pub(super) fn load_for(&self, daemon: &DaemonSettings) -> Result<Config, ConfigErrors> {
        Config::load(&self.sources(daemon.flags()))
    }

    /// Where settings come from, with further flags.
    pub(super) fn sources(&self, mut flags: Vec<Flag>) -> Sources {
        flags.extend(flag("--nats-url", "nats.url", self.nats_url.as_ref()));
        flags.extend(flag("--postgres-url", "postgres.url", self.postgres_url.as_ref()));
        Sources::of_this_process(self.config.clone(), flags)
    }
}

impl DaemonSettings {
    /// The flags that were given.
    pub(super) fn flags(&self) -> Vec<Flag> {
        let given = [
            flag("--roles", "roles", self.roles.as_ref()),
            flag("--instance", "instance", self.instance.as_ref()),
            flag("--http", "http.listen", self.http.as_ref()),
            flag("--log-level", "log.level", self.log_level.as_ref()),
            flag("--rules", "rules.file", self.rules.as_ref()),
        ];
        given.into_iter().flatten().collect()
    }
}

fn flag(name: &'static str, key: &'static str, value: Option<&String>) -> Option<Flag> {
    value.map(|value| Flag { name, key, value: value.clone() })
}
