//! What can go wrong in a torture run, how often, and the table of what did.

use std::{collections::BTreeMap, fmt};

use rand::{RngExt, rngs::StdRng, seq::SliceRandom};

/// One kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    KillDaemon,
    KillNats,
    KillPostgres,
    KillAllNats,
    Pause,
    CutLink,
    CutRoute,
    IsolateNode,
    HalfOpen,
    Slow,
    Closed,
    CutCommits,
    StepDown,
    NatsDiskFull,
    PostgresDiskFull,
    NatsSyncError,
    PostgresSyncError,
}

/// How often each comes in a deck of cards; a deck is played before the next is shuffled.
const DECK: [(Fault, usize); 17] = [
    (Fault::KillDaemon, 30),
    (Fault::KillNats, 12),
    (Fault::KillPostgres, 5),
    (Fault::KillAllNats, 1),
    (Fault::Pause, 14),
    (Fault::CutLink, 18),
    (Fault::CutRoute, 8),
    (Fault::IsolateNode, 3),
    (Fault::HalfOpen, 6),
    (Fault::Slow, 4),
    (Fault::Closed, 4),
    (Fault::CutCommits, 6),
    (Fault::StepDown, 14),
    (Fault::NatsDiskFull, 2),
    (Fault::PostgresDiskFull, 1),
    (Fault::NatsSyncError, 2),
    (Fault::PostgresSyncError, 1),
];

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::KillDaemon => "churnd killed (SIGKILL)",
            Self::KillNats => "one NATS node killed",
            Self::KillPostgres => "Postgres killed",
            Self::KillAllNats => "all NATS nodes killed at once",
            Self::Pause => "churnd halted for longer than its lease",
            Self::CutLink => "connections between churnd or a publisher and a server cut",
            Self::CutRoute => "routes between two NATS nodes cut",
            Self::IsolateNode => "one NATS node cut off from the others for seconds",
            Self::HalfOpen => "link half open: one direction swallowed for seconds",
            Self::Slow => "link slow: every piece delayed for seconds",
            Self::Closed => "link closed: connections refused for seconds",
            Self::CutCommits => "connection cut inside COMMIT",
            Self::StepDown => "leader of a stream made to step down",
            Self::NatsDiskFull => "disk of a NATS node full for seconds",
            Self::PostgresDiskFull => "disk of Postgres full for seconds",
            Self::NatsSyncError => "fsync of a NATS node fails for seconds",
            Self::PostgresSyncError => "fsync of Postgres fails for seconds",
        })
    }
}

/// Faults in random order, each as often as it is meant to come.
pub(crate) struct Deck {
    left: Vec<Fault>,
}

impl Deck {
    pub(crate) fn new() -> Self {
        Self { left: Vec::new() }
    }

    pub(crate) fn draw(&mut self, rng: &mut StdRng) -> Fault {
        if self.left.is_empty() {
            self.left = DECK.iter().flat_map(|(fault, count)| vec![*fault; *count]).collect();
            self.left.shuffle(rng);
        }
        self.left.pop().expect("a deck is not empty")
    }

    /// A fault that cannot be now comes later.
    pub(crate) fn postpone(&mut self, fault: Fault, rng: &mut StdRng) {
        let place = rng.random_range(0..=self.left.len());
        self.left.insert(place, fault);
    }
}

/// How many of each were injected, and those that this machine does not allow.
#[derive(Clone, Debug, Default)]
pub(crate) struct Injected {
    pub(crate) counts: BTreeMap<Fault, u64>,
    pub(crate) impossible: BTreeMap<Fault, &'static str>,
}

impl Injected {
    pub(crate) fn count(&mut self, fault: Fault, times: u64) {
        *self.counts.entry(fault).or_default() += times;
    }

    pub(crate) fn of(&self, faults: &[Fault]) -> u64 {
        faults.iter().filter_map(|fault| self.counts.get(fault)).sum()
    }
}

impl fmt::Display for Injected {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "| fault | times |\n|---|---|")?;
        for (fault, count) in &self.counts {
            writeln!(formatter, "| {fault} | {count} |")?;
        }
        for (fault, why) in &self.impossible {
            writeln!(formatter, "| {fault} | not injected: {why} |")?;
        }
        Ok(())
    }
}
