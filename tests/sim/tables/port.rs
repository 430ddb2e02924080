//! An instance's way to the tables: calls that take time and break.

use std::{collections::HashSet, time::Duration};

use churnd::{
    event::{
        ids::{AccountId, Epoch, PartitionId},
        time::Timestamp,
    },
    store::{
        StoreError,
        checkpoint::CheckpointWrite,
        erasure::{Forgotten, ToForget},
        error::Cause,
        leases::Owner,
        ledger::{Answer, Ledger},
        outbox::{OutboxPending, StoredOutboxRow},
        partitioning::{Layout, Rewind},
        states::{DueRow, LoadedState, RecentScore},
        suppression::Known,
    },
};
use futures_util::FutureExt as _;

use super::Stood;
use crate::{
    instance::Port,
    world::{Called, Inner, Server},
};

/// How long an instance waits for an answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// An instance's way to the tables.
#[derive(Clone)]
pub(crate) struct TablesPort {
    pub(super) port: Port,
}

fn away(doing: &'static str) -> StoreError {
    StoreError::unavailable(doing, "the connection broke")
}

impl TablesPort {
    pub(crate) fn of(port: &Port) -> Self {
        Self { port: port.clone() }
    }

    pub(super) async fn ask<T: Send + 'static>(
        &self,
        doing: &'static str,
        effect: impl FnOnce(&mut Inner) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        match self.port.world.call(self.port.who, Server::Tables, PATIENCE, effect).await {
            Called::Done(answer) => Ok(answer),
            Called::Refused | Called::NoAnswer => Err(away(doing)),
        }
    }
}

fn owned(keys: &[(&str, &str)]) -> Vec<(String, String)> {
    keys.iter().map(|(account, token)| ((*account).to_owned(), (*token).to_owned())).collect()
}

impl Ledger for TablesPort {
    fn known_accounts(&self) -> Answer<'_, HashSet<AccountId>> {
        self.ask("look up accounts", |inner| inner.tables.accounts.clone()).boxed()
    }

    fn load_customers<'a>(&'a self, keys: &'a [(&'a str, &'a str)]) -> Answer<'a, Known> {
        let keys = owned(keys);
        let load = move |inner: &mut Inner| Known { states: inner.tables.load(&keys), ..Known::default() };
        self.ask("load states", load).boxed()
    }

    fn load_due<'a>(
        &'a self,
        partitions: &'a [PartitionId],
        until_hour: i64,
        after: Option<&'a DueRow>,
        limit: usize,
    ) -> Answer<'a, Vec<DueRow>> {
        let of = partitions.to_vec();
        let after = after.map(|row| (row.due_at.hour(), row.account.as_str().to_owned(), row.token.to_string()));
        self.ask("load who is due", move |inner| inner.tables.due(&of, until_hour, after, limit)).boxed()
    }

    fn load_page<'a>(
        &'a self,
        partitions: &'a [PartitionId],
        after: Option<(&'a str, &'a str)>,
        limit: usize,
    ) -> Answer<'a, Vec<LoadedState>> {
        let after = after.map(|(account, token)| (account.to_owned(), token.to_owned()));
        let of = partitions.to_vec();
        self.ask("load a page of states", move |inner| inner.tables.page(&of, after, limit)).boxed()
    }

    fn store_checkpoint<'a>(&'a self, write: &'a CheckpointWrite) -> Answer<'a, ()> {
        const DOING: &str = "store a checkpoint";
        let (copy, port) = (write.clone(), self.port.clone());
        async move {
            let lease = crate::story::LEASE;
            let effect = move |inner: &mut Inner| inner.store(&copy, port.who, port.life, lease);
            match self.port.world.call(self.port.who, Server::Tables, PATIENCE, effect).await {
                Called::Done(Stood::Now | Stood::Before) => Ok(()),
                Called::Done(Stood::Fenced(partition, epoch)) => {
                    Err(StoreError::Fenced { partition: PartitionId(partition), epoch: Epoch(epoch) })
                }
                Called::Done(Stood::Torn) => Err(StoreError::unavailable(DOING, "the id was used before")),
                Called::Refused => Err(away(DOING)),
                Called::NoAnswer => {
                    Err(StoreError::OutcomeUnknown { doing: DOING, cause: Cause::text("the connection broke") })
                }
            }
        }
        .boxed()
    }

    fn owners(&self) -> Answer<'_, Vec<Owner>> {
        self.ask("list the owners", |inner| inner.tables.owners(inner.wall())).boxed()
    }

    fn rewind<'a>(&'a self, rewind: &'a Rewind) -> Answer<'a, bool> {
        let rewind = *rewind;
        let effect = move |inner: &mut Inner| {
            let done = inner.tables.rewind(&rewind);
            inner.note(format_args!("{rewind:?}: {done}"));
            done
        };
        self.ask("put the partitions back", effect).boxed()
    }

    fn customers_to_forget(&self) -> Answer<'_, Vec<ToForget>> {
        async { Ok(Vec::new()) }.boxed()
    }

    fn settle_forgotten<'a>(&'a self, _forgotten: &'a [Forgotten]) -> Answer<'a, ()> {
        async { Ok(()) }.boxed()
    }

    fn load_unpublished<'a>(
        &'a self,
        partitions: &'a [PartitionId],
        after_id: u64,
        limit: usize,
    ) -> Answer<'a, Vec<StoredOutboxRow>> {
        let of = partitions.to_vec();
        self.ask("load the outbox", move |inner| inner.tables.unpublished(&of, after_id, limit)).boxed()
    }

    fn mark_published<'a>(&'a self, message_ids: &'a [String]) -> Answer<'a, ()> {
        let ids = message_ids.to_vec();
        let mark = move |inner: &mut Inner| {
            let now = inner.wall();
            inner.tables.mark(&ids, now);
        };
        self.ask("mark messages as published", mark).boxed()
    }

    fn outbox_pending(&self) -> Answer<'_, OutboxPending> {
        self.ask("count the outbox", |inner| inner.tables.pending()).boxed()
    }

    fn last_score_at(&self, _: Layout, partition: PartitionId) -> Answer<'_, Option<Timestamp>> {
        self.ask("look up the last score", move |inner| inner.tables.last_score_at(partition)).boxed()
    }

    fn recent_scores<'a>(
        &'a self,
        partitions: &'a [PartitionId],
        since: Timestamp,
        after: Option<(&'a str, &'a str)>,
        limit: usize,
    ) -> Answer<'a, Vec<RecentScore>> {
        let (of, after) = (partitions.to_vec(), after.map(|(account, token)| (account.to_owned(), token.to_owned())));
        let look = move |inner: &mut Inner| {
            let after = after.as_ref().map(|(account, token)| (account.as_str(), token.as_str()));
            inner.tables.recent(&of, since, after, limit)
        };
        self.ask("load recent scores", look).boxed()
    }
}
