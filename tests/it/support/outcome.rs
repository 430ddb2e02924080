//! What a torture run came to, as a table.

use std::{fmt, time::Duration};

use super::{
    faults::{Fault, Injected},
    watch::Stalls,
};

/// What it came to.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) seed: u64,
    pub(crate) took: Duration,
    pub(crate) injected: Injected,
    /// How often an instance ended by itself because a server was away at its start.
    pub(crate) exits: u64,
    pub(crate) acked: u64,
    pub(crate) applied: u64,
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    pub(crate) alerts: u64,
    pub(crate) alerts_doubled: u64,
    pub(crate) fenced: u64,
    pub(crate) zombie_writes: u64,
    pub(crate) stalls: Stalls,
    pub(crate) calm_after: Duration,
    pub(crate) violations: Vec<String>,
}

impl Outcome {
    /// Processes that were killed.
    pub(crate) fn kills(&self) -> u64 {
        let killed = [Fault::KillDaemon, Fault::KillNats, Fault::KillPostgres, Fault::KillAllNats];
        self.injected.of(&killed) + 2 * self.injected.of(&[Fault::KillAllNats])
    }

    /// Connections that were cut, those inside COMMIT not counted.
    pub(crate) fn cuts(&self) -> u64 {
        self.injected.of(&[Fault::CutLink, Fault::CutRoute, Fault::IsolateNode, Fault::Closed])
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "seed {}, {} s, {} events\n", self.seed, self.took.as_secs(), self.acked)?;
        writeln!(formatter, "{}", self.injected)?;
        writeln!(formatter, "| what | figure |\n|---|---|")?;
        let rows = [
            ("processes killed", self.kills().to_string()),
            ("instances that ended by themselves because a server was away at their start", self.exits.to_string()),
            ("events acknowledged to the publisher", self.acked.to_string()),
            ("events applied (the others were repeats)", self.applied.to_string()),
            ("events lost", self.lost.to_string()),
            ("events doubled", self.doubled.to_string()),
            ("alerts published", self.alerts.to_string()),
            ("alerts doubled", self.alerts_doubled.to_string()),
            ("writes of superseded instances accepted", self.zombie_writes.to_string()),
            ("longest stall of everything", format!("{:.1} s", self.stalls.all.as_secs_f64())),
            ("longest stall of one partition", format!("{:.1} s", self.stalls.one.as_secs_f64())),
            ("longest recovery from an outage of everything", format!("{:.1} s", self.stalls.recovery.as_secs_f64())),
            ("from the last fault until all is right", format!("{:.1} s", self.calm_after.as_secs_f64())),
            ("violations", self.violations.len().to_string()),
        ];
        rows.iter().try_for_each(|(what, figure)| writeln!(formatter, "| {what} | {figure} |"))
    }
}
