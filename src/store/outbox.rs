//! Messages to publish, and those kept back: written by checkpoints, read here.
//!
//! Publishing is the pipeline's. A message that was published but not marked is published again after a crash, under the
//! same subject and id, and refused there.

use deadpool_postgres::tokio_postgres::Row;

use super::{
    Store,
    checkpoint::MARK_PUBLISHED,
    error::StoreError,
    leases::smallints,
    values::{PgText, PgTime, RowReader, bigint, row_limit},
};
use crate::{
    engine::checkpoint::{OutboxKind, OutboxRow},
    event::{ids::PartitionId, time::Timestamp},
};

/// A message as it stands in the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredOutboxRow {
    /// Grows with the order of writing within a partition.
    pub id: u64,
    /// The partition whose owner publishes it.
    pub partition: PartitionId,
    /// The message.
    pub row: OutboxRow,
    /// When it was marked as published.
    pub published_at: Option<Timestamp>,
}

/// What waits to be published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutboxPending {
    /// How many messages.
    pub count: u64,
    /// When the oldest of them came up.
    pub oldest: Option<Timestamp>,
}

pub(super) const OUTBOX_COLUMNS: &str =
    "id, partition, kind, account, token, customer, message_id, subject, body, at, published_at";
const PENDING: &str = "SELECT count(*) AS count, min(at) AS oldest FROM outbox
    WHERE published_at IS NULL AND kind <> 'held_alert'";
const PRUNE: &str = "DELETE FROM outbox WHERE id IN (
        SELECT id FROM outbox WHERE at < $1 AND (published_at IS NOT NULL OR kind = 'held_alert') ORDER BY id LIMIT $2
        FOR UPDATE SKIP LOCKED)
    RETURNING id";

impl Store {
    /// What these partitions have to publish, in the order it was written; goes on after the row `after_id`.
    pub async fn load_unpublished(
        &self,
        partitions: &[PartitionId],
        after_id: u64,
        limit: usize,
    ) -> Result<Vec<StoredOutboxRow>, StoreError> {
        let sql = format!(
            "SELECT {OUTBOX_COLUMNS} FROM outbox
             WHERE published_at IS NULL AND kind <> 'held_alert' AND partition = ANY ($1::smallint[]) AND id > $2
             ORDER BY id LIMIT $3"
        );
        let ids = smallints(partitions);
        let rows = self.statement("load the outbox", &sql, &[&ids, &bigint(after_id), &row_limit(limit)]).await?;
        read_outbox(&rows)
    }

    /// Marks messages as published; a checkpoint can do it on the way, see
    /// [`CheckpointWrite::published`](super::checkpoint::CheckpointWrite::published).
    pub async fn mark_published(&self, message_ids: &[String]) -> Result<(), StoreError> {
        let ids: Vec<PgText<'_>> = message_ids.iter().map(|id| PgText(id)).collect();
        self.statement("mark messages as published", MARK_PUBLISHED, &[&ids]).await?;
        Ok(())
    }

    /// How much waits to be published, of all partitions.
    pub async fn outbox_pending(&self) -> Result<OutboxPending, StoreError> {
        let rows = self.statement("count the outbox", PENDING, &[]).await?;
        let Some(row) = rows.first() else { return Ok(OutboxPending::default()) };
        let row = RowReader { table: "outbox", row };
        Ok(OutboxPending { count: row.number("count")?, oldest: row.optional_time("oldest")? })
    }

    /// Forgets up to `limit` messages that are done with and came up before an instant; says how many.
    pub async fn prune_outbox(&self, before: Timestamp, limit: usize) -> Result<usize, StoreError> {
        Ok(self.statement("prune the outbox", PRUNE, &[&PgTime(before), &row_limit(limit)]).await?.len())
    }
}

pub(super) fn read_outbox(rows: &[Row]) -> Result<Vec<StoredOutboxRow>, StoreError> {
    rows.iter().map(|row| read_message(&RowReader { table: "outbox", row })).collect()
}

fn read_message(row: &RowReader<'_>) -> Result<StoredOutboxRow, StoreError> {
    let kind = match row.get("kind")? {
        "alert" => OutboxKind::Alert,
        "held_alert" => OutboxKind::HeldAlert,
        "event" => OutboxKind::Event,
        _ => return Err(row.broken("kind")),
    };
    Ok(StoredOutboxRow {
        id: row.number("id")?,
        partition: row.partition("partition")?,
        row: OutboxRow {
            account: row.account("account")?,
            token: row.token("token")?,
            customer: row.customer("customer")?,
            message_id: row.text("message_id")?,
            subject: row.text("subject")?,
            body: row.get("body")?,
            kind,
            at: row.time("at")?,
        },
        published_at: row.optional_time("published_at")?,
    })
}
