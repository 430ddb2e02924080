//! An instance's session, which holds its leases.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use churnd::{
    event::ids::{Epoch, PartitionId},
    store::{
        StoreError,
        leases::{Decision, Leases, Memory, Role, Target},
        ledger::{Answer, Membership},
        partitioning::Layout,
    },
};
use futures_util::FutureExt as _;
use tokio::sync::Mutex;
use uuid::Uuid;

use super::{Round, TablesPort};
use crate::{instance::Port, world::Inner};

/// An instance's session.
pub(crate) struct Seat {
    port: TablesPort,
    id: Uuid,
    lease: Duration,
    standing: Mutex<Standing>,
}

#[derive(Default)]
struct Standing {
    rounds: u64,
    suspects: HashSet<Uuid>,
    held: BTreeMap<PartitionId, Epoch>,
}

impl Seat {
    pub(crate) async fn open(port: &Port, lease: Duration) -> Result<Self, StoreError> {
        let (who, life) = (port.who, port.life);
        let port = TablesPort::of(port);
        let id = port.ask("open a session", move |inner| inner.tables.join(who, life)).await?;
        Ok(Self { port, id, lease, standing: Mutex::default() })
    }

    async fn one_round(&self, target: Target) -> Result<Leases, StoreError> {
        let mut standing = self.standing.lock().await;
        let memory = Memory { rounds: standing.rounds, suspects: standing.suspects.clone() };
        let (me, lease, who) = (self.id, self.lease, self.port.port.who);
        let asked = move |inner: &mut Inner| {
            let now = inner.wall();
            let round = inner.tables.round(me, target, &memory, now, lease);
            if !round.decision.take.is_empty() || !round.decision.surplus.is_empty() {
                let Decision { take, surplus, dead, .. } = &round.decision;
                inner.note(format_args!("i{who} takes {take:?}, of dead {}, has too many: {surplus:?}", dead.len()));
            }
            (round, u16::try_from(inner.tables.partitions.len()).unwrap())
        };
        let (Round { held, decision }, partitions) = match self.port.ask("renew the leases", asked).await {
            Ok(round) => round,
            Err(error) => {
                // The session gives its connection up with the error, and its lock with that.
                let mut inner = self.port.port.world.lock();
                if let Some(member) = inner.tables.members.get_mut(&me) {
                    member.connected = false;
                }
                return Err(error);
            }
        };
        let now_held: BTreeMap<_, _> = held.iter().map(|lease| (lease.partition, lease.epoch)).collect();
        let before = std::mem::replace(&mut standing.held, now_held.clone());
        standing.rounds += 1;
        standing.suspects = decision.suspects;
        Ok(Leases {
            gained: held.iter().filter(|lease| before.get(&lease.partition) != Some(&lease.epoch)).cloned().collect(),
            lost: before
                .iter()
                .filter(|(partition, epoch)| now_held.get(partition) != Some(epoch))
                .map(|(partition, _)| *partition)
                .collect(),
            surplus: decision.surplus,
            layout: Layout::new(partitions),
            wanting: held.len() < decision.share && standing.suspects.is_empty(),
            valid_for: lease,
            held,
        })
    }

    async fn give_back(&self, partition: PartitionId, epoch: Epoch) -> Result<bool, StoreError> {
        let (me, who) = (self.id, self.port.port.who);
        let released = self
            .port
            .ask("release a partition", move |inner| {
                inner.note(format_args!("i{who} gives {partition} back in epoch {epoch}"));
                inner.tables.release(me, partition, epoch)
            })
            .await?;
        let held = &mut self.standing.lock().await.held;
        if held.get(&partition) == Some(&epoch) {
            held.remove(&partition);
        }
        Ok(released)
    }
}

impl Membership for Seat {
    fn lease(&self) -> Duration {
        self.lease
    }

    fn acquire_and_renew(&self, _role: Role, target: Target) -> Answer<'_, Leases> {
        self.one_round(target).boxed()
    }

    fn release(&self, _role: Role, partition: PartitionId, epoch: Epoch) -> Answer<'_, bool> {
        self.give_back(partition, epoch).boxed()
    }

    fn close(self: Box<Self>) -> Answer<'static, ()> {
        async move {
            let me = self.id;
            self.port.ask("leave the instances", move |inner| inner.tables.leave(me)).await
        }
        .boxed()
    }
}
