//! Ownership: one round after another, renews this instance's leases, takes what is free, and tells the worker.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::mutant::{Mutant, Mutants};
use crate::{
    event::ids::{Epoch, PartitionId},
    store::{
        leases::{Lease, Role, Target},
        ledger::Membership,
        partitioning::Layout,
    },
};

/// Partitions that may wait to be given back: more than there can be, so that none is forgotten.
const COMMANDS: usize = 1_024;

/// What changed in a round.
#[derive(Debug, Default)]
pub struct LeaseUpdate {
    /// How customers belong to partitions. With another number all that was ours before is lost.
    pub layout: Layout,
    /// Partitions that are ours now.
    pub gained: Vec<Lease>,
    /// Partitions that are somebody else's now.
    pub lost: Vec<PartitionId>,
    /// Partitions that others should have.
    pub surplus: Vec<PartitionId>,
}

enum Command {
    Release(PartitionId, Epoch),
    ReleaseAll(Vec<(PartitionId, Epoch)>, oneshot::Sender<()>),
}

/// Gives partitions back.
#[derive(Clone, Debug)]
pub struct Releaser(mpsc::Sender<Command>);

impl Releaser {
    pub(crate) fn release(&self, partition: PartitionId, epoch: Epoch) {
        if self.0.try_send(Command::Release(partition, epoch)).is_err() {
            debug!(partition = %partition, "{partition} could not be given back; its lease will run out");
        }
    }

    pub(crate) async fn release_all(&self, leases: Vec<(PartitionId, Epoch)>) {
        let (done, released) = oneshot::channel();
        if self.0.send(Command::ReleaseAll(leases, done)).await.is_ok() && released.await.is_err() {
            debug!("the partitions could not be given back; their leases will run out");
        }
    }
}

/// Keeps the leases of one instance.
pub struct Ownership {
    session: Box<dyn Membership>,
    role: Role,
    every: Duration,
    /// What the worker was told last.
    layout: Option<Layout>,
    /// Rounds in a row in which there was less than our share to take.
    wanting: u32,
    updates: mpsc::Sender<LeaseUpdate>,
    commands: mpsc::Receiver<Command>,
    /// What could not be given back yet: nobody works on it any more, and each round renews its lease.
    unreleased: Vec<(PartitionId, Epoch)>,
    mutants: Mutants,
}

/// How often leases are renewed and looked for at the least; three times per lease where that is more often. What was given
/// back, or whose owner was killed, waits that long for its next one.
const EVERY: Duration = Duration::from_secs(1);
/// How soon to look again for what others are to give up.
const WANTING_AGAIN: Duration = Duration::from_millis(200);
/// How often to look that soon, before it is left to the ordinary rounds.
const WANTING_ROUNDS: u32 = 100;

impl Ownership {
    /// Keeps leases under a session.
    pub fn new(
        session: Box<dyn Membership>,
        role: Role,
        mutants: Mutants,
    ) -> (Self, mpsc::Receiver<LeaseUpdate>, Releaser) {
        let (updates, receiver) = mpsc::channel(16);
        let (sender, commands) = mpsc::channel(COMMANDS);
        let every = EVERY.min(session.lease() / 3);
        let unreleased = Vec::new();
        let ownership = Self { session, role, every, layout: None, wanting: 0, updates, commands, unreleased, mutants };
        (ownership, receiver, Releaser(sender))
    }

    /// Keeps the leases until `stop`, then waits until they are given back.
    pub async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut round = tokio::time::interval(self.every);
        round.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let target = if stop.is_cancelled() { Target::Keep } else { Target::FairShare };
            tokio::select! {
                biased;
                command = self.commands.recv() => match command {
                    Some(Command::Release(partition, epoch)) => {
                        if !self.release(partition, epoch).await {
                            round.reset_immediately();
                        }
                    }
                    Some(Command::ReleaseAll(leases, done)) => {
                        for (partition, epoch) in leases {
                            self.release(partition, epoch).await;
                        }
                        if done.send(()).is_err() {
                            debug!("nobody waits for the partitions to be given back");
                        }
                        break;
                    }
                    None => break,
                },
                _ = round.tick() => {
                    for (partition, epoch) in std::mem::take(&mut self.unreleased) {
                        self.release(partition, epoch).await;
                    }
                    if self.round(target).await {
                        round.reset_after(WANTING_AGAIN.min(self.every));
                    }
                }
            }
        }
        self.session.close().await?;
        Ok(())
    }

    /// One round; says whether others are about to give up what should be ours, so that the next one should come soon.
    async fn round(&mut self, target: Target) -> bool {
        match self.session.acquire_and_renew(self.role, target).await {
            Ok(leases) => {
                self.wanting = if leases.wanting { self.wanting.saturating_add(1) } else { 0 };
                let layout = leases.layout;
                let update = LeaseUpdate { layout, gained: leases.gained, lost: leases.lost, surplus: leases.surplus };
                let quiet = update.gained.is_empty() && update.lost.is_empty() && update.surplus.is_empty();
                let news = self.layout.replace(layout) != Some(layout) || !quiet;
                if news && self.updates.send(update).await.is_err() {
                    debug!("the worker does not take leases any more");
                }
                (1..WANTING_ROUNDS).contains(&self.wanting)
            }
            Err(error) => {
                warn!("cannot renew the leases, trying again: {error}");
                false
            }
        }
    }

    /// Gives a partition back; `false` if it was not ours any more, and there may be others to take.
    async fn release(&mut self, partition: PartitionId, epoch: Epoch) -> bool {
        match self.session.release(self.role, partition, epoch).await {
            Ok(released) => released,
            Err(error) => {
                warn!(partition = %partition, "cannot give {partition} back yet, trying again: {error}");
                if !self.mutants.has(Mutant::ForgetRelease) {
                    self.unreleased.push((partition, epoch));
                }
                true
            }
        }
    }
}
