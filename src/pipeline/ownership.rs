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
    },
};

/// Partitions that may wait to be given back: more than there can be, so that none is forgotten.
const COMMANDS: usize = 1_024;

/// What changed in a round.
#[derive(Debug, Default)]
pub struct LeaseUpdate {
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
    updates: mpsc::Sender<LeaseUpdate>,
    commands: mpsc::Receiver<Command>,
    /// What could not be given back yet: nobody works on it any more, and each round renews its lease.
    unreleased: Vec<(PartitionId, Epoch)>,
    mutants: Mutants,
}

impl Ownership {
    /// Keeps leases under a session.
    pub fn new(
        session: Box<dyn Membership>,
        role: Role,
        mutants: Mutants,
    ) -> (Self, mpsc::Receiver<LeaseUpdate>, Releaser) {
        let (updates, receiver) = mpsc::channel(16);
        let (sender, commands) = mpsc::channel(COMMANDS);
        let every = session.lease() / 3;
        let ownership = Self { session, role, every, updates, commands, unreleased: Vec::new(), mutants };
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
                    Some(Command::Release(partition, epoch)) => self.release(partition, epoch).await,
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
                    self.round(target).await;
                }
            }
        }
        self.session.close().await?;
        Ok(())
    }

    async fn round(&mut self, target: Target) {
        match self.session.acquire_and_renew(self.role, target).await {
            Ok(leases) => {
                let update = LeaseUpdate { gained: leases.gained, lost: leases.lost, surplus: leases.surplus };
                let news = !(update.gained.is_empty() && update.lost.is_empty() && update.surplus.is_empty());
                if news && self.updates.send(update).await.is_err() {
                    debug!("the worker does not take leases any more");
                }
            }
            Err(error) => warn!("cannot renew the leases, trying again: {error}"),
        }
    }

    async fn release(&mut self, partition: PartitionId, epoch: Epoch) {
        if let Err(error) = self.session.release(self.role, partition, epoch).await {
            warn!(partition = %partition, "cannot give {partition} back yet, trying again: {error}");
            if !self.mutants.has(Mutant::ForgetRelease) {
                self.unreleased.push((partition, epoch));
            }
        }
    }
}
