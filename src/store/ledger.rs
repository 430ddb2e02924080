//! What the pipeline asks of the tables, as traits: [`Store`] answers from Postgres, a simulation from memory.
//!
//! Every call stands for the method of the same name of [`Store`] or [`Session`]; what it promises is said there, and
//! a suite of tests holds whoever implements it to that.

use std::{collections::HashSet, time::Duration};

use futures_util::{FutureExt as _, future::BoxFuture};

use super::{
    Store, StoreError,
    checkpoint::CheckpointWrite,
    erasure::{Forgotten, ToForget},
    leases::{Leases, Owner, Role, Target},
    outbox::{OutboxPending, StoredOutboxRow},
    partitioning::{Layout, Rewind},
    session::Session,
    states::{DueRow, LoadedState, RecentScore},
    suppression::Known,
};
use crate::event::{
    ids::{AccountId, Epoch, PartitionId},
    time::Timestamp,
};

/// How a call ends, some time later.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// The tables, as the worker and the outbox see them.
pub trait Ledger: Send + Sync {
    /// See [`Store::known_accounts`].
    fn known_accounts(&self) -> Answer<'_, HashSet<AccountId>>;
    /// See [`Store::load_customers`].
    fn load_customers<'a>(&'a self, keys: &'a [(&'a str, &'a str)]) -> Answer<'a, Known>;
    /// See [`Store::load_due`].
    fn load_due<'a>(
        &'a self,
        partitions: &'a [PartitionId],
        until_hour: i64,
        after: Option<&'a DueRow>,
        limit: usize,
    ) -> Answer<'a, Vec<DueRow>>;
    /// See [`Store::load_page`].
    fn load_page<'a>(
        &'a self,
        partitions: &'a [PartitionId],
        after: Option<(&'a str, &'a str)>,
        limit: usize,
    ) -> Answer<'a, Vec<LoadedState>>;
    /// See [`Store::store_checkpoint`].
    fn store_checkpoint<'a>(&'a self, write: &'a CheckpointWrite) -> Answer<'a, ()>;
    /// See [`Store::owners`].
    fn owners(&self) -> Answer<'_, Vec<Owner>>;
    /// See [`Store::rewind`].
    fn rewind<'a>(&'a self, rewind: &'a Rewind) -> Answer<'a, bool>;
    /// See [`Store::customers_to_forget`].
    fn customers_to_forget(&self) -> Answer<'_, Vec<ToForget>>;
    /// See [`Store::settle_forgotten`].
    fn settle_forgotten<'a>(&'a self, forgotten: &'a [Forgotten]) -> Answer<'a, ()>;
    /// See [`Store::load_unpublished`].
    fn load_unpublished<'a>(
        &'a self,
        partitions: &'a [PartitionId],
        after_id: u64,
        limit: usize,
    ) -> Answer<'a, Vec<StoredOutboxRow>>;
    /// See [`Store::mark_published`].
    fn mark_published<'a>(&'a self, message_ids: &'a [String]) -> Answer<'a, ()>;
    /// See [`Store::outbox_pending`].
    fn outbox_pending(&self) -> Answer<'_, OutboxPending>;
    /// See [`Store::last_score_at`].
    fn last_score_at(&self, layout: Layout, partition: PartitionId) -> Answer<'_, Option<Timestamp>>;
    /// See [`Store::recent_scores`].
    fn recent_scores<'a>(
        &'a self,
        partitions: &'a [PartitionId],
        since: Timestamp,
        after: Option<(&'a str, &'a str)>,
        limit: usize,
    ) -> Answer<'a, Vec<RecentScore>>;
}

/// An instance among those that share the partitions.
pub trait Membership: Send + Sync {
    /// How long a lease lasts after its last renewal.
    fn lease(&self) -> Duration;
    /// See [`Session::acquire_and_renew`].
    fn acquire_and_renew(&self, role: Role, target: Target) -> Answer<'_, Leases>;
    /// See [`Session::release`].
    fn release(&self, role: Role, partition: PartitionId, epoch: Epoch) -> Answer<'_, bool>;
    /// See [`Session::close`].
    fn close(self: Box<Self>) -> Answer<'static, ()>;
}

impl Ledger for Store {
    fn known_accounts(&self) -> Answer<'_, HashSet<AccountId>> {
        self.known_accounts().boxed()
    }

    fn load_customers<'a>(&'a self, keys: &'a [(&'a str, &'a str)]) -> Answer<'a, Known> {
        self.load_customers(keys).boxed()
    }

    fn load_due<'a>(
        &'a self,
        partitions: &'a [PartitionId],
        until_hour: i64,
        after: Option<&'a DueRow>,
        limit: usize,
    ) -> Answer<'a, Vec<DueRow>> {
        self.load_due(partitions, until_hour, after, limit).boxed()
    }

    fn load_page<'a>(
        &'a self,
        partitions: &'a [PartitionId],
        after: Option<(&'a str, &'a str)>,
        limit: usize,
    ) -> Answer<'a, Vec<LoadedState>> {
        self.load_page(partitions, after, limit).boxed()
    }

    fn store_checkpoint<'a>(&'a self, write: &'a CheckpointWrite) -> Answer<'a, ()> {
        self.store_checkpoint(write).boxed()
    }

    fn owners(&self) -> Answer<'_, Vec<Owner>> {
        self.owners().boxed()
    }

    fn rewind<'a>(&'a self, rewind: &'a Rewind) -> Answer<'a, bool> {
        self.rewind(rewind).boxed()
    }

    fn customers_to_forget(&self) -> Answer<'_, Vec<ToForget>> {
        self.customers_to_forget().boxed()
    }

    fn settle_forgotten<'a>(&'a self, forgotten: &'a [Forgotten]) -> Answer<'a, ()> {
        self.settle_forgotten(forgotten).boxed()
    }

    fn load_unpublished<'a>(
        &'a self,
        partitions: &'a [PartitionId],
        after_id: u64,
        limit: usize,
    ) -> Answer<'a, Vec<StoredOutboxRow>> {
        self.load_unpublished(partitions, after_id, limit).boxed()
    }

    fn mark_published<'a>(&'a self, message_ids: &'a [String]) -> Answer<'a, ()> {
        self.mark_published(message_ids).boxed()
    }

    fn outbox_pending(&self) -> Answer<'_, OutboxPending> {
        self.outbox_pending().boxed()
    }

    fn last_score_at(&self, layout: Layout, partition: PartitionId) -> Answer<'_, Option<Timestamp>> {
        self.last_score_at(layout, partition).boxed()
    }

    fn recent_scores<'a>(
        &'a self,
        partitions: &'a [PartitionId],
        since: Timestamp,
        after: Option<(&'a str, &'a str)>,
        limit: usize,
    ) -> Answer<'a, Vec<RecentScore>> {
        self.recent_scores(partitions, since, after, limit).boxed()
    }
}

impl Membership for Session {
    fn lease(&self) -> Duration {
        Session::lease(self)
    }

    fn acquire_and_renew(&self, role: Role, target: Target) -> Answer<'_, Leases> {
        self.acquire_and_renew(role, target).boxed()
    }

    fn release(&self, role: Role, partition: PartitionId, epoch: Epoch) -> Answer<'_, bool> {
        self.release(role, partition, epoch).boxed()
    }

    fn close(self: Box<Self>) -> Answer<'static, ()> {
        Session::close(*self).boxed()
    }
}
