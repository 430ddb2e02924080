//! The archive: every event as it was stored, one table partition per UTC day, off the scoring path.
//!
//! Written in the transaction that moves the archive's own watermark (role `archive` in `partitions`), so each event
//! stands in it exactly once; by arrays, since COPY is not to be had where policies guard rows. Days are created and dropped by functions of the database, so that the daemon's role
//! needs no right to change tables.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use deadpool_postgres::tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::{
    Store,
    checkpoint::{Advance, CommitState, advance, fenced, standing},
    customers::{ContactRow, keep_contacts},
    erase_rows,
    error::StoreError,
    suppression::{SuppressionKey, suppressed_among},
    tx::Tx,
    values::{PgText, PgTime, bigint, smallint},
};
use crate::{
    engine::checkpoint::Counters,
    event::{
        ids::{AccountId, CustomerId, Epoch, PartitionId, StreamSequence},
        time::Timestamp,
    },
};

/// An event as the archive keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchivedEvent {
    /// Its position in the stream.
    pub sequence: StreamSequence,
    /// When the stream stored it: decides the day it stands under.
    pub stored_at: Timestamp,
    /// The event stream's partition it belongs to.
    pub partition: PartitionId,
    /// The tenant.
    pub account: AccountId,
    /// The customer's subject token.
    pub token: Box<str>,
    /// The customer's full id, where it is known.
    pub customer: Option<CustomerId>,
    /// The event's name.
    pub name: String,
    /// The event's id, if it has one.
    pub event_id: Option<String>,
    /// When it happened.
    pub occurred_at: Timestamp,
    /// Who of the customer's people did it.
    pub user_id: Option<String>,
    /// Its properties as JSON.
    pub properties: Option<String>,
}

/// A stretch of the stream to be archived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveWrite {
    /// Names this write; the same when it is tried again.
    pub id: Uuid,
    /// The archive's partition: 0 where one instance archives the whole stream.
    pub partition: PartitionId,
    /// The lease's epoch.
    pub epoch: Epoch,
    /// The watermark the stretch begins at.
    pub from: StreamSequence,
    /// The watermark it ends at.
    pub to: StreamSequence,
    /// When the message at `to` was stored.
    pub to_time: Option<Timestamp>,
    /// When the stream was created.
    pub stream_created: Option<Timestamp>,
    /// The events; messages that are none are left out.
    pub events: Vec<ArchivedEvent>,
    /// Who their customers are, where that is stored.
    pub contacts: Vec<ContactRow>,
}

const DOING: &str = "archive events";
const INSERT: &str = "
    INSERT INTO events (sequence, stored_at, partition, account, token, customer, name, event_id, occurred_at, user_id,
        properties)
    SELECT * FROM unnest($1::bigint[], $2::timestamptz[], $3::smallint[], $4::text[], $5::text[], $6::text[], $7::text[],
        $8::text[], $9::timestamptz[], $10::text[], $11::text[])";
const ADD_DAY: &str = "SELECT churnd_add_event_day(date '1970-01-01' + $1::integer)";
const DROP_DAYS: &str = "SELECT churnd_drop_event_days(date '1970-01-01' + $1::integer)";

impl Store {
    /// Archives a stretch of the stream and moves the archive's watermark, in one transaction; storing the same write
    /// again is harmless. Events of erased customers are left out.
    pub async fn copy_events(&self, write: &ArchiveWrite) -> Result<(), StoreError> {
        self.add_days(&write.events).await?;
        let advances = &[write.advance()];
        let lease = self.lease().as_secs_f64();
        let key = self.suppression_key().await?;
        self.transaction(DOING, move |tx| async move {
            erase_rows::begin_copy(&tx).await?;
            match advance(&tx, "archive", write.id, lease, advances).await? {
                CommitState::NotCommitted => {
                    let suppressed = suppressed_of(&tx, key, &write.events).await?;
                    copy(&tx, &write.events, &suppressed).await?;
                    keep_contacts(&tx, &write.contacts, &suppressed).await
                }
                CommitState::Committed => Ok(()),
                CommitState::Fenced(partition) => Err(fenced(advances, partition)),
            }
        })
        .await
    }

    /// Looks up what became of a write whose COMMIT was not answered.
    pub async fn archive_stood(&self, write: &ArchiveWrite) -> Result<CommitState, StoreError> {
        let advances = &[write.advance()];
        let look = move |tx: Arc<Tx>| async move { standing(&tx, "archive", write.id, advances).await };
        self.transaction("look up an archive write", look).await
    }

    /// Drops all days before the one that `instant` lies in; says how many.
    pub async fn drop_archive_before(&self, instant: Timestamp) -> Result<u32, StoreError> {
        let day = day_number(instant);
        let drop = move |tx: Arc<Tx>| async move { tx.query(DROP_DAYS, &[&day]).await };
        let rows = self.transaction("drop old days of the archive", drop).await?;
        Ok(rows.first().map_or(0, |row| row.get::<_, i32>(0)).unsigned_abs())
    }

    /// Creates the days that are missing, outside of the copy: the table is locked for an instant only.
    async fn add_days(&self, events: &[ArchivedEvent]) -> Result<(), StoreError> {
        let days: BTreeSet<i32> = events.iter().map(|event| day_number(event.stored_at)).collect();
        for day in days {
            let add = move |tx: Arc<Tx>| async move { tx.query(ADD_DAY, &[&day]).await };
            self.transaction("add a day to the archive", add).await?;
        }
        Ok(())
    }
}

impl ArchiveWrite {
    fn advance(&self) -> Advance<'_> {
        Advance {
            partition: self.partition,
            epoch: self.epoch,
            from: self.from,
            to: self.to,
            to_time: self.to_time,
            stream_created: self.stream_created,
            rules_hash: None,
            counters: Counters::default(),
        }
    }
}

/// The customers of these events that were erased, by account and token.
async fn suppressed_of<'a>(
    tx: &Tx,
    key: &SuppressionKey,
    events: &'a [ArchivedEvent],
) -> Result<HashSet<(&'a str, &'a str)>, StoreError> {
    let mut customers: Vec<(&str, &str)> = events.iter().map(customer_of).collect();
    customers.sort_unstable();
    customers.dedup();
    let places = suppressed_among(tx, key, &customers).await?;
    Ok(places.into_iter().map(|place| customers[place]).collect())
}

/// Copies the events of all but erased customers.
async fn copy(tx: &Tx, events: &[ArchivedEvent], suppressed: &HashSet<(&str, &str)>) -> Result<(), StoreError> {
    let kept: Vec<&ArchivedEvent> = events.iter().filter(|event| !suppressed.contains(&customer_of(event))).collect();
    if kept.is_empty() {
        return Ok(());
    }
    let text = |value: fn(&ArchivedEvent) -> Option<&str>| -> Vec<Option<PgText<'_>>> {
        kept.iter().map(|event| value(event).map(PgText)).collect()
    };
    let parameters: [&(dyn ToSql + Sync); 11] = [
        &kept.iter().map(|event| bigint(event.sequence.0)).collect::<Vec<_>>(),
        &kept.iter().map(|event| PgTime(event.stored_at)).collect::<Vec<_>>(),
        &kept.iter().map(|event| smallint(event.partition)).collect::<Vec<_>>(),
        &kept.iter().map(|event| event.account.as_str()).collect::<Vec<_>>(),
        &kept.iter().map(|event| &*event.token).collect::<Vec<_>>(),
        &text(|event| event.customer.as_ref().map(CustomerId::as_str)),
        &text(|event| Some(&event.name)),
        &text(|event| event.event_id.as_deref()),
        &kept.iter().map(|event| PgTime(event.occurred_at)).collect::<Vec<_>>(),
        &text(|event| event.user_id.as_deref()),
        &text(|event| event.properties.as_deref()),
    ];
    tx.execute(INSERT, &parameters).await?;
    Ok(())
}

fn customer_of(event: &ArchivedEvent) -> (&str, &str) {
    (event.account.as_str(), &event.token)
}

/// Days since 1970, within what a `date` holds.
fn day_number(instant: Timestamp) -> i32 {
    const LAST_DAY: i64 = 2_932_896; // 9999-12-31
    i32::try_from(instant.day().clamp(0, LAST_DAY)).unwrap_or(0)
}
