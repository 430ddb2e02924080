//! The fleet guard's tables: how many events of an account came, and when they did not.
//!
//! Checkpoints add to the volume in their own transaction, so an event counts once. A guard and the alert that tells of it
//! are one transaction too, and at most one guard of an account is open: however many instances notice, one tells.

use std::{collections::BTreeMap, ops::Range};

use super::{
    Store,
    checkpoint::insert_outbox,
    error::StoreError,
    tx::Tx,
    values::{PgTime, RowReader, bigint, row_limit, smallint},
};
use crate::{
    engine::{
        checkpoint::{OutboxRow, VolumeRow},
        fleet::{Outage, SLOTS_KEPT, Volume},
    },
    event::{
        ids::{AccountId, PartitionId, StreamSequence},
        time::Timestamp,
    },
};

/// A guard as it stands in the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    /// Its name.
    pub id: u64,
    /// The tenant.
    pub account: AccountId,
    /// Since when events did not come, until when, and how many are usual.
    pub outage: Outage,
    /// When that was noticed.
    pub noticed_at: Timestamp,
    /// How many came instead.
    pub seen: u64,
    /// The alert that told of it.
    pub alert_id: String,
}

/// A guard that is to be set.
#[derive(Clone, Debug)]
pub struct NewGuard<'a> {
    /// The tenant.
    pub account: &'a AccountId,
    /// Since when events do not come.
    pub since: Timestamp,
    /// When that was noticed.
    pub noticed_at: Timestamp,
    /// How many events are usual.
    pub expected: u64,
    /// How many came.
    pub seen: u64,
    /// The alert that tells of it.
    pub alert_id: &'a str,
}

/// How far all partitions of the event stream are accounted for, and how many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LowWatermark {
    /// Everything up to here is accounted for, whatever partition it is in.
    pub watermark: StreamSequence,
    /// How many partitions there are.
    pub partitions: u64,
}

const ADD_VOLUME: &str = "
    INSERT INTO account_volume AS v (account, slot, shard, events)
    SELECT u.account, u.slot, $1, u.events FROM unnest($2::text[], $3::bigint[], $4::bigint[]) AS u (account, slot, events)
    ON CONFLICT (account, slot, shard) DO UPDATE SET events = v.events + excluded.events";
const VOLUMES: &str = "
    SELECT w.account, v.slot, sum(v.events)::bigint AS events
    FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS w (account, since, until)
    JOIN account_volume v ON v.account = w.account COLLATE \"C\" AND v.slot >= w.since AND v.slot < w.until
    GROUP BY w.account, v.slot";
const FIRST_SLOTS: &str = "
    SELECT f.account, f.slot FROM (
        SELECT a.id AS account, (SELECT min(v.slot) FROM account_volume v WHERE v.account = a.id) AS slot FROM accounts a
    ) f WHERE f.slot IS NOT NULL";
const GUARDS: &str = "
    SELECT id, account, since, noticed_at, expected, seen, alert_id, released_at FROM account_guards
    WHERE released_at IS NULL OR released_at >= $1 ORDER BY id";
const SET_GUARD: &str = "
    INSERT INTO account_guards (account, since, noticed_at, expected, seen, alert_id) VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (account) WHERE released_at IS NULL DO NOTHING RETURNING id";
const RELEASE_GUARD: &str =
    "UPDATE account_guards SET released_at = $2 WHERE id = $1 AND released_at IS NULL RETURNING id";
const LOW_WATERMARK: &str =
    "SELECT count(*) AS partitions, coalesce(min(watermark), 0) AS watermark FROM partitions WHERE role = 'engine'";
/// What an open guard is compared with stays for as long as it is open.
const PRUNE_VOLUME: &str = "DELETE FROM account_volume WHERE (account, slot, shard) IN (
        SELECT v.account, v.slot, v.shard FROM account_volume v
        LEFT JOIN account_guards g ON g.account = v.account AND g.released_at IS NULL
        WHERE v.slot < $1 AND (g.id IS NULL OR v.slot < (extract(epoch FROM g.since) / 900)::bigint - $2)
        LIMIT $3 FOR UPDATE OF v SKIP LOCKED)
    RETURNING slot";
const PRUNE_GUARDS: &str = "DELETE FROM account_guards WHERE released_at < $1 RETURNING id";

/// Adds what partitions counted, in rows of the lowest of them: no other checkpoint writes those at the same time.
pub(super) async fn add_volume<'a>(
    tx: &Tx,
    shard: PartitionId,
    counted: impl Iterator<Item = &'a VolumeRow>,
) -> Result<(), StoreError> {
    let mut sums: BTreeMap<(&str, i64), u64> = BTreeMap::new();
    for row in counted {
        *sums.entry((row.account.as_str(), row.slot)).or_default() += row.events;
    }
    if sums.is_empty() {
        return Ok(());
    }
    let (accounts, slots): (Vec<&str>, Vec<i64>) = sums.keys().copied().unzip();
    let events: Vec<i64> = sums.values().copied().map(bigint).collect();
    tx.execute(ADD_VOLUME, &[&smallint(shard), &accounts, &slots, &events]).await?;
    Ok(())
}

impl Store {
    /// How far all partitions of the event stream are accounted for.
    pub async fn low_watermark(&self) -> Result<LowWatermark, StoreError> {
        let rows = self.statement("look up the watermarks", LOW_WATERMARK, &[]).await?;
        let Some(row) = rows.first() else {
            return Ok(LowWatermark { watermark: StreamSequence(0), partitions: 0 });
        };
        let row = RowReader { table: "partitions", row };
        let watermark = StreamSequence(row.number("watermark")?);
        Ok(LowWatermark { watermark, partitions: row.number("partitions")? })
    }

    /// When an account's first event was counted, of those accounts that have any.
    pub async fn first_slots(&self) -> Result<BTreeMap<AccountId, i64>, StoreError> {
        let rows = self.statement("look up the first volumes", FIRST_SLOTS, &[]).await?;
        rows.iter()
            .map(|row| {
                let row = RowReader { table: "account_volume", row };
                Ok((row.account("account")?, row.get("slot")?))
            })
            .collect()
    }

    /// What was counted in some slots; ranges of one account must not overlap.
    pub async fn volumes(
        &self,
        wanted: &[(&AccountId, Range<i64>)],
    ) -> Result<BTreeMap<AccountId, Volume>, StoreError> {
        let accounts: Vec<&str> = wanted.iter().map(|(account, _)| account.as_str()).collect();
        let since: Vec<i64> = wanted.iter().map(|(_, slots)| slots.start).collect();
        let until: Vec<i64> = wanted.iter().map(|(_, slots)| slots.end).collect();
        let rows = self.statement("load volumes", VOLUMES, &[&accounts, &since, &until]).await?;
        let mut volumes: BTreeMap<AccountId, Volume> = BTreeMap::new();
        for row in &rows {
            let row = RowReader { table: "account_volume", row };
            let volume = volumes.entry(row.account("account")?).or_default();
            volume.slots.insert(row.get("slot")?, row.number("events")?);
        }
        Ok(volumes)
    }

    /// The guards that are open, or were released since an instant; the oldest first.
    pub async fn guards(&self, released_since: Timestamp) -> Result<Vec<Guard>, StoreError> {
        let rows = self.statement("load guards", GUARDS, &[&PgTime(released_since)]).await?;
        rows.iter()
            .map(|row| {
                let row = RowReader { table: "account_guards", row };
                Ok(Guard {
                    id: row.number("id")?,
                    account: row.account("account")?,
                    outage: Outage {
                        from: row.time("since")?,
                        until: row.optional_time("released_at")?,
                        expected: row.number("expected")?,
                    },
                    noticed_at: row.time("noticed_at")?,
                    seen: row.number("seen")?,
                    alert_id: row.text("alert_id")?,
                })
            })
            .collect()
    }

    /// Guards an account and has it told; `false` if it is guarded already, and then nothing is told.
    pub async fn set_guard(
        &self,
        guard: &NewGuard<'_>,
        partition: PartitionId,
        alert: &OutboxRow,
    ) -> Result<bool, StoreError> {
        self.transaction("guard an account", move |tx| async move {
            let account = guard.account.as_str();
            let (since, noticed_at) = (PgTime(guard.since), PgTime(guard.noticed_at));
            let (expected, seen) = (bigint(guard.expected), bigint(guard.seen));
            let rows = tx.query(SET_GUARD, &[&account, &since, &noticed_at, &expected, &seen, &guard.alert_id]).await?;
            if !rows.is_empty() {
                insert_outbox(&tx, &[(smallint(partition), alert)]).await?;
            }
            Ok(!rows.is_empty())
        })
        .await
    }

    /// Releases a guard and has it told; `false` if it was released already, and then nothing is told.
    pub async fn release_guard(
        &self,
        id: u64,
        at: Timestamp,
        partition: PartitionId,
        alert: &OutboxRow,
    ) -> Result<bool, StoreError> {
        self.transaction("release a guard", move |tx| async move {
            let rows = tx.query(RELEASE_GUARD, &[&bigint(id), &PgTime(at)]).await?;
            if !rows.is_empty() {
                insert_outbox(&tx, &[(smallint(partition), alert)]).await?;
            }
            Ok(!rows.is_empty())
        })
        .await
    }

    /// Forgets up to `limit` volumes from before a slot, and guards that were released before an instant; says how many
    /// volumes.
    pub async fn prune_volumes(&self, before: i64, released: Timestamp, limit: usize) -> Result<usize, StoreError> {
        self.statement("prune the guards", PRUNE_GUARDS, &[&PgTime(released)]).await?;
        let rows =
            self.statement("prune the volumes", PRUNE_VOLUME, &[&before, &SLOTS_KEPT, &row_limit(limit)]).await?;
        Ok(rows.len())
    }
}
