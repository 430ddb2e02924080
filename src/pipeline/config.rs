//! The settings of the pipeline and of what it produces. Defaults and their meaning stand in `config/churnd.toml`.

use std::{ops::RangeInclusive, path::PathBuf, time::Duration};

use serde::Deserialize;

use super::worker::WAITING_BYTES_AT_MOST;
use crate::engine::fleet;

/// The program, its connections, HTTP, rules, the archive's copies, what the allocator keeps for each thread, and what else does
/// not grow.
const BASE_BYTES: u64 = 96 << 20;
/// A customer ready for scoring, with its key and its share of the tables.
const RESIDENT_BYTES: u64 = 1_000;
/// What a changed customer takes while its checkpoint is on its way: snapshot, score, reasons, and all of it encoded.
const CHECKPOINT_BYTES: u64 = 1_500;
/// What the cache takes beside its weight is half as much again.
const CACHE_HALVES: u64 = 3;
/// What waits for a checkpoint besides states stands in the checkpoint under way, too.
const WAITING_COPIES: u64 = 2;
/// Batches in hand, ahead, and on their way from the server.
const BATCHES: usize = 6;
/// A message of the usual size with its headers, as the client holds it.
const MESSAGE_BYTES: u64 = 1_500;

/// The settings under `[pipeline]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Partitions that a new installation begins with.
    pub partitions: u16,
    /// Events taken from the stream at once.
    pub batch: usize,
    /// How long changes may wait for a checkpoint.
    pub checkpoint_interval_ms: u64,
    /// How long an alert may wait for a checkpoint.
    pub checkpoint_linger_ms: u64,
    /// How long changes may wait for a checkpoint while catching up.
    pub catch_up_checkpoint_ms: u64,
    /// Changed customers held in memory before reading stops.
    pub dirty_customers_max: usize,
    /// Customers kept ready for scoring after their checkpoint.
    pub hot_customers: usize,
    /// Memory for snapshots of customers that are not ready for scoring.
    pub cache_bytes: u64,
    /// How old an event must be at its receipt to count as imported history.
    pub history_after_seconds: u64,
    /// How long no history may have come before its customer is scored.
    pub settle_seconds: u64,
    /// When a customer is scored although history still comes.
    pub settle_max_seconds: u64,
}

/// The settings under `[rules]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RulesConfig {
    /// The file with factors, levels and usage; the built-in rules when absent.
    pub file: Option<PathBuf>,
    /// A directory with a file for each account that has rules of its own.
    pub accounts_dir: Option<PathBuf>,
}

/// The settings under `[alerts]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlertsConfig {
    /// How long the same level is not announced again.
    pub cooldown_hours: u64,
}

/// The settings under `[fleet]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FleetConfig {
    /// Accounts whose events stop coming are guarded.
    pub enabled: bool,
    /// Events that an account must usually have in 90 minutes to be guarded.
    pub minimum_events: u64,
    /// Below how many percent of what is usual events count as gone.
    pub collapse_percent: u64,
    /// From how many percent of what is usual on they count as back.
    pub return_percent: u64,
}

/// The settings under `[archive]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArchiveConfig {
    /// How many days events are kept in Postgres.
    pub retention_days: u32,
}

/// The settings under `[erasure]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErasureConfig {
    /// How long after everything of a customer was erased it is looked for again.
    pub settle_seconds: u64,
}

impl Config {
    /// How much memory the daemon may come to hold with customers of the usual size, in bytes: whatever the backlog,
    /// however long Postgres is away, however many customers there are. For comparison, for `MemoryMax=`, and for the tests;
    /// nothing is allotted.
    pub fn memory_bound(&self) -> u64 {
        let customers = (self.hot_customers + self.dirty_customers_max) as u64;
        BASE_BYTES
            + customers * RESIDENT_BYTES
            + self.dirty_customers_max as u64 * CHECKPOINT_BYTES
            + self.cache_bytes / 2 * CACHE_HALVES
            + (self.batch * BATCHES) as u64 * MESSAGE_BYTES
            + WAITING_COPIES * WAITING_BYTES_AT_MOST as u64
    }

    /// How long changes may wait for a checkpoint.
    pub fn checkpoint_interval(&self) -> Duration {
        Duration::from_millis(self.checkpoint_interval_ms)
    }

    /// How long an alert may wait for a checkpoint.
    pub fn checkpoint_linger(&self) -> Duration {
        Duration::from_millis(self.checkpoint_linger_ms)
    }

    /// How long changes may wait for a checkpoint while catching up.
    pub fn catch_up_checkpoint(&self) -> Duration {
        Duration::from_millis(self.catch_up_checkpoint_ms)
    }

    /// How old an event must be at its receipt to count as imported history.
    pub fn history_after(&self) -> Duration {
        Duration::from_secs(self.history_after_seconds)
    }

    /// How long no history may have come before its customer is scored.
    pub fn settle(&self) -> Duration {
        Duration::from_secs(self.settle_seconds)
    }

    /// When a customer is scored although history still comes.
    pub fn settle_max(&self) -> Duration {
        Duration::from_secs(self.settle_max_seconds)
    }

    /// Everything that cannot work, each as a sentence that begins with the setting.
    pub fn problems(&self) -> Vec<String> {
        let mut problems: Vec<String> = [
            outside("pipeline.partitions", self.partitions.into(), 1..=256),
            outside("pipeline.batch", self.batch as u64, 1..=10_000),
            outside("pipeline.checkpoint_interval_ms", self.checkpoint_interval_ms, 10..=60_000),
            outside("pipeline.checkpoint_linger_ms", self.checkpoint_linger_ms, 0..=1_000),
            outside("pipeline.catch_up_checkpoint_ms", self.catch_up_checkpoint_ms, 10..=60_000),
            outside("pipeline.dirty_customers_max", self.dirty_customers_max as u64, 1_000..=10_000_000),
            outside("pipeline.hot_customers", self.hot_customers as u64, 0..=10_000_000),
            outside("pipeline.history_after_seconds", self.history_after_seconds, 60..=604_800),
            outside("pipeline.settle_seconds", self.settle_seconds, 1..=3_600),
            outside("pipeline.settle_max_seconds", self.settle_max_seconds, 1..=86_400),
        ]
        .into_iter()
        .flatten()
        .collect();
        if self.settle_max_seconds < self.settle_seconds {
            problems.push(format!(
                "pipeline.settle_max_seconds is {}: it must not be less than pipeline.settle_seconds, {}",
                self.settle_max_seconds, self.settle_seconds
            ));
        }
        problems
    }
}

impl RulesConfig {
    /// Everything that cannot work, each as a sentence that begins with the setting.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if let Some(file) = self.file.as_ref().filter(|file| !file.is_file()) {
            problems.push(format!("rules.file: there is no file {}", file.display()));
        }
        if let Some(directory) = self.accounts_dir.as_ref().filter(|directory| !directory.is_dir()) {
            problems.push(format!("rules.accounts_dir: there is no directory {}", directory.display()));
        }
        problems
    }
}

impl AlertsConfig {
    /// How long the same level is not announced again.
    pub fn cooldown(&self) -> Duration {
        Duration::from_secs(self.cooldown_hours * 3_600)
    }

    /// Everything that cannot work, each as a sentence that begins with the setting.
    pub fn problems(&self) -> Vec<String> {
        outside("alerts.cooldown_hours", self.cooldown_hours, 0..=8_760).into_iter().collect()
    }
}

impl FleetConfig {
    /// When volume counts as collapsed.
    pub fn policy(&self) -> fleet::Policy {
        fleet::Policy {
            minimum_events: self.minimum_events,
            collapse_percent: self.collapse_percent,
            return_percent: self.return_percent,
        }
    }

    /// Everything that cannot work, each as a sentence that begins with the setting.
    pub fn problems(&self) -> Vec<String> {
        let mut problems: Vec<String> = [
            outside("fleet.minimum_events", self.minimum_events, 20..=1_000_000_000),
            outside("fleet.collapse_percent", self.collapse_percent, 1..=50),
            outside("fleet.return_percent", self.return_percent, 2..=100),
        ]
        .into_iter()
        .flatten()
        .collect();
        if self.return_percent <= self.collapse_percent {
            problems.push(format!(
                "fleet.return_percent is {}: it must be above fleet.collapse_percent, {}",
                self.return_percent, self.collapse_percent
            ));
        }
        problems
    }
}

impl ArchiveConfig {
    /// Everything that cannot work, each as a sentence that begins with the setting.
    pub fn problems(&self) -> Vec<String> {
        outside("archive.retention_days", self.retention_days.into(), 1..=3_650).into_iter().collect()
    }
}

impl ErasureConfig {
    /// How long after everything of a customer was erased it is looked for again.
    pub fn settle(&self) -> Duration {
        Duration::from_secs(self.settle_seconds)
    }

    /// Everything that cannot work, each as a sentence that begins with the setting.
    pub fn problems(&self) -> Vec<String> {
        outside("erasure.settle_seconds", self.settle_seconds, 1..=3_600).into_iter().collect()
    }
}

fn outside(setting: &str, value: u64, allowed: RangeInclusive<u64>) -> Option<String> {
    (!allowed.contains(&value))
        .then(|| format!("{setting} is {value}: it must lie between {} and {}", allowed.start(), allowed.end()))
}
