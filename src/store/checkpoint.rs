//! The one transaction: everything partitions changed since their last checkpoint, with the watermarks that account for
//! it, or nothing.
//!
//! First the partitions' rows are moved on, on condition of epoch and watermark; whoever is not the owner any more stops
//! there. Each write carries an id that the rows keep, so that the same write can be stored again, or looked up, when
//! the answer to COMMIT was lost: it is never applied twice.
//!
//! Rows are written in the order of their keys and tables always in the same order, so that instances do not deadlock.

use std::{collections::HashSet, sync::Arc};

use deadpool_postgres::tokio_postgres::types::{Json, ToSql};
use uuid::Uuid;

use super::{
    Store,
    erasure::Forgotten,
    error::StoreError,
    tx::Tx,
    values::{PgText, PgTime, RowReader, bigint, smallint},
};
use crate::{
    engine::checkpoint::{Checkpoint, Counters, Factor, LinkRow, OutboxRow, ScoreRow, StateRow, Status, VolumeRow},
    event::{
        ids::{Epoch, PartitionId, StreamSequence},
        time::Timestamp,
    },
};

/// Checkpoints of any number of partitions, to be stored together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointWrite {
    /// Names this write; the same when it is tried again.
    pub id: Uuid,
    /// One part per partition.
    pub parts: Vec<PartWrite>,
    /// Ids of messages that were published meanwhile.
    pub published: Vec<String>,
}

/// One partition's part of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartWrite {
    /// The lease's epoch.
    pub epoch: Epoch,
    /// The watermark the changes begin at.
    pub from: StreamSequence,
    /// The watermark they end at; the same where nothing was read.
    pub to: StreamSequence,
    /// When the message at `to` was stored; unknown when absent, unless the watermark stays where it is.
    pub to_time: Option<Timestamp>,
    /// When the stream was created; keeps what is known when absent.
    pub stream_created: Option<Timestamp>,
    /// The rules all scores of the partition are made with; keeps what is known when absent.
    pub rules_hash: Option<String>,
    /// What changed.
    pub checkpoint: Checkpoint,
    /// Customers to be forgotten: whatever is stored of them so far, and by this write.
    pub forgotten: Vec<Forgotten>,
    /// Messages of erased customers that were dropped, to be overwritten in the stream.
    pub unwanted: Vec<StreamSequence>,
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitState {
    /// It stands.
    Committed,
    /// Nothing of it was written, and it may be tried again.
    NotCommitted,
    /// Nothing of it was written, and it cannot be any more: this partition moved on without us.
    Fenced(PartitionId),
}

impl CheckpointWrite {
    /// A write under a new id.
    pub fn new(parts: Vec<PartWrite>, published: Vec<String>) -> Self {
        Self { id: Uuid::new_v4(), parts, published }
    }
}

impl PartWrite {
    fn partition(&self) -> PartitionId {
        self.checkpoint.partition
    }
}

const DOING: &str = "store a checkpoint";

/// How many rows go into one statement: bounds what is held encoded in memory, here and in the server.
const ROWS_AT_ONCE: usize = 10_000;

pub(super) const ADVANCE: &str = "
    UPDATE partitions p SET
        watermark = u.upto,
        watermark_time = coalesce(u.upto_time, CASE WHEN u.upto = u.since THEN p.watermark_time END),
        stream_created = coalesce(u.stream_created, p.stream_created),
        rules_hash = coalesce(u.rules_hash, p.rules_hash),
        last_checkpoint = $2,
        lease_until = CASE WHEN p.owner IS NOT NULL
            THEN greatest(p.lease_until, clock_timestamp() + make_interval(secs => $3)) END,
        received = p.received + u.received,
        applied = p.applied + u.applied,
        duplicate = p.duplicate + u.duplicate,
        late = p.late + u.late,
        dead = p.dead + u.dead,
        suppressed = p.suppressed + u.suppressed
    FROM unnest($4::smallint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::timestamptz[], $9::timestamptz[],
                $10::text[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[], $15::bigint[], $16::bigint[])
        AS u (id, epoch, since, upto, upto_time, stream_created, rules_hash, received, applied, duplicate, late, dead,
              suppressed)
    WHERE p.role = $1 AND p.id = u.id AND p.epoch = u.epoch AND p.watermark = u.since
      AND p.last_checkpoint IS DISTINCT FROM $2
    RETURNING p.id";

/// Waits for whoever writes the rows at this moment: what it reads is decided.
const STANDING: &str = "
    SELECT p.id, p.epoch, p.watermark, p.last_checkpoint FROM partitions p
    WHERE p.role = $1 AND p.id = ANY ($2::smallint[]) ORDER BY p.id FOR NO KEY UPDATE";

/// For customers that are stored already: a plain update takes a sixth less of the server than an insert that
/// meets a conflict (4.8 µs a row against 5.7).
const UPDATE_STATES: &str = "
    UPDATE customer_states s SET partition = u.partition, snapshot = u.snapshot, score = u.score, level = u.level,
        status = u.status, mrr_minor = u.mrr_minor, mrr_currency = u.mrr_currency, due_hour = u.due_hour,
        due_at = u.due_at, updated_at = now()
    FROM unnest($1::smallint[], $2::text[], $3::text[], $4::bytea[], $5::smallint[], $6::text[], $7::text[], $8::bigint[],
                $9::text[], $10::bigint[], $11::timestamptz[])
        AS u (partition, account, token, snapshot, score, level, status, mrr_minor, mrr_currency, due_hour, due_at)
    WHERE s.account = u.account AND s.token = u.token";

const UPSERT_STATES: &str = "
    INSERT INTO customer_states AS s (partition, account, token, customer, snapshot, score, level, status,
        mrr_minor, mrr_currency, due_hour, due_at, updated_at)
    SELECT u.partition, u.account, u.token, u.customer, u.snapshot, u.score, u.level, u.status,
        u.mrr_minor, u.mrr_currency, u.due_hour, u.due_at, now()
    FROM unnest($1::smallint[], $2::text[], $3::text[], $4::text[], $5::bytea[], $6::smallint[], $7::text[], $8::text[],
                $9::bigint[], $10::text[], $11::bigint[], $12::timestamptz[])
        AS u (partition, account, token, customer, snapshot, score, level, status, mrr_minor, mrr_currency, due_hour, due_at)
    ON CONFLICT (account, token) DO UPDATE SET
        partition = excluded.partition, customer = excluded.customer, snapshot = excluded.snapshot, score = excluded.score,
        level = excluded.level, status = excluded.status, mrr_minor = excluded.mrr_minor,
        mrr_currency = excluded.mrr_currency, due_hour = excluded.due_hour, due_at = excluded.due_at,
        updated_at = excluded.updated_at";

const INSERT_CUSTOMERS: &str = "
    INSERT INTO customers (account_id, external_id, mrr, currency)
    SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[])
    ON CONFLICT (account_id, external_id) DO NOTHING";

const UPDATE_MRR: &str = "
    UPDATE customers c SET mrr = u.mrr, currency = u.currency, updated_at = now()
    FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[]) AS u (account, customer, mrr, currency)
    WHERE c.account_id = u.account AND c.external_id = u.customer
      AND (c.mrr IS DISTINCT FROM u.mrr OR c.currency IS DISTINCT FROM u.currency)";

const INSERT_SCORES: &str = "
    INSERT INTO risk_scores (partition, account, token, customer, at, score, level, status, factors)
    SELECT * FROM unnest($1::smallint[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::smallint[], $7::text[],
                         $8::text[], $9::jsonb[])";

const INSERT_OUTBOX: &str = "
    INSERT INTO outbox (partition, kind, account, token, customer, message_id, subject, body, at)
    SELECT * FROM unnest($1::smallint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bytea[],
                         $9::timestamptz[])
    ON CONFLICT (message_id) DO NOTHING";

const UPSERT_LINKS: &str = "
    INSERT INTO stripe_links AS l (account, stripe_customer, customer, at)
    SELECT DISTINCT ON (u.account COLLATE \"C\", u.stripe_customer COLLATE \"C\") u.account, u.stripe_customer, u.customer, u.at
    FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[]) AS u (account, stripe_customer, customer, at)
    ORDER BY u.account COLLATE \"C\", u.stripe_customer COLLATE \"C\", u.at DESC, u.customer COLLATE \"C\" DESC
    ON CONFLICT (account, stripe_customer) DO UPDATE SET customer = excluded.customer, at = excluded.at
    WHERE (excluded.at, excluded.customer) > (l.at, l.customer)";

/// Shows a customer's newest link in its row.
const SHOW_LINKS: &str = "
    UPDATE customers c SET stripe_customer_id = l.stripe_customer, updated_at = now()
    FROM unnest($1::text[], $2::text[]) AS u (account, stripe_customer)
    JOIN stripe_links l ON l.account = u.account AND l.stripe_customer = u.stripe_customer
    WHERE c.account_id = l.account AND c.external_id = l.customer AND c.stripe_customer_id IS DISTINCT FROM l.stripe_customer";

pub(super) const MARK_PUBLISHED: &str =
    "UPDATE outbox SET published_at = now() WHERE message_id = ANY ($1::text[]) AND published_at IS NULL";

impl Store {
    /// Stores all parts in one transaction. [`StoreError::Fenced`] names a partition that is not ours in the given epoch
    /// and at the given watermark, and nothing was written. Storing the same write again is harmless.
    pub async fn store_checkpoint(&self, write: &CheckpointWrite) -> Result<(), StoreError> {
        let advances = advances(write);
        let rows = Rows::sorted(write);
        let (advances, rows) = (&advances, &rows);
        let lease = self.lease().as_secs_f64();
        self.transaction(DOING, move |tx| async move {
            match advance(&tx, "engine", write.id, lease, advances).await? {
                CommitState::NotCommitted => rows.insert(&tx, &write.published).await,
                CommitState::Committed => Ok(()),
                CommitState::Fenced(partition) => Err(fenced(advances, partition)),
            }
        })
        .await
    }

    /// Looks up what became of a write whose COMMIT was not answered; waits for it if it is still under way.
    pub async fn checkpoint_stood(&self, write: &CheckpointWrite) -> Result<CommitState, StoreError> {
        let advances = &advances(write);
        let look = move |tx: Arc<Tx>| async move { standing(&tx, "engine", write.id, advances).await };
        self.transaction("look up a checkpoint", look).await
    }
}

/// How a partition's row is to move.
pub(super) struct Advance<'a> {
    pub(super) partition: PartitionId,
    pub(super) epoch: Epoch,
    pub(super) from: StreamSequence,
    pub(super) to: StreamSequence,
    pub(super) to_time: Option<Timestamp>,
    pub(super) stream_created: Option<Timestamp>,
    pub(super) rules_hash: Option<&'a str>,
    pub(super) counters: Counters,
}

fn advances(write: &CheckpointWrite) -> Vec<Advance<'_>> {
    let mut advances: Vec<Advance<'_>> = write
        .parts
        .iter()
        .map(|part| Advance {
            partition: part.partition(),
            epoch: part.epoch,
            from: part.from,
            to: part.to,
            to_time: part.to_time,
            stream_created: part.stream_created,
            rules_hash: part.rules_hash.as_deref(),
            counters: part.checkpoint.counters,
        })
        .collect();
    advances.sort_unstable_by_key(|advance| advance.partition);
    advances
}

/// The refusal of a write that a partition's row does not fit.
pub(super) fn fenced(advances: &[Advance<'_>], partition: PartitionId) -> StoreError {
    let epoch = advances.iter().find(|advance| advance.partition == partition).map(|advance| advance.epoch);
    StoreError::Fenced { partition, epoch: epoch.unwrap_or_default() }
}

/// Moves the rows on: `NotCommitted` when all moved (and what belongs to them is to be written), else how they stand.
pub(super) async fn advance(
    tx: &Tx,
    role: &str,
    write: Uuid,
    lease: f64,
    advances: &[Advance<'_>],
) -> Result<CommitState, StoreError> {
    let column = |of: fn(&Advance<'_>) -> u64| advances.iter().map(|advance| bigint(of(advance))).collect::<Vec<i64>>();
    let ids: Vec<i16> = advances.iter().map(|advance| smallint(advance.partition)).collect();
    let to_times: Vec<Option<PgTime>> = advances.iter().map(|advance| advance.to_time.map(PgTime)).collect();
    let created: Vec<Option<PgTime>> = advances.iter().map(|advance| advance.stream_created.map(PgTime)).collect();
    let rules: Vec<Option<&str>> = advances.iter().map(|advance| advance.rules_hash).collect();
    let moved = tx
        .query(
            ADVANCE,
            &[
                &role,
                &write,
                &lease,
                &ids,
                &column(|advance| advance.epoch.0),
                &column(|advance| advance.from.0),
                &column(|advance| advance.to.0),
                &to_times,
                &created,
                &rules,
                &column(|advance| advance.counters.received),
                &column(|advance| advance.counters.applied),
                &column(|advance| advance.counters.duplicate),
                &column(|advance| advance.counters.late),
                &column(|advance| advance.counters.dead),
                &column(|advance| advance.counters.suppressed),
            ],
        )
        .await?;
    if moved.len() == advances.len() {
        return Ok(CommitState::NotCommitted);
    }
    match standing_except(tx, role, write, advances, &moved.iter().map(|row| row.get(0)).collect()).await? {
        // The rows fitted between the two looks only: somebody moves them at this moment.
        CommitState::NotCommitted => Err(StoreError::unavailable(DOING, "a partition moved while it was looked at")),
        // All parts of a write stand or none: some rows that moved beside one that has it already are another write.
        CommitState::Committed if !moved.is_empty() => {
            Err(StoreError::unavailable(DOING, "the write's id was used for other partitions before"))
        }
        decided => Ok(decided),
    }
}

/// How a write stands: one transaction wrote all of it, so any row that names it tells.
pub(super) async fn standing(
    tx: &Tx,
    role: &str,
    write: Uuid,
    advances: &[Advance<'_>],
) -> Result<CommitState, StoreError> {
    standing_except(tx, role, write, advances, &HashSet::new()).await
}

async fn standing_except(
    tx: &Tx,
    role: &str,
    write: Uuid,
    advances: &[Advance<'_>],
    moved: &HashSet<i16>,
) -> Result<CommitState, StoreError> {
    let ids: Vec<i16> =
        advances.iter().map(|advance| smallint(advance.partition)).filter(|id| !moved.contains(id)).collect();
    let rows = tx.query(STANDING, &[&role, &ids]).await?;
    let rows: Vec<RowReader<'_>> = rows.iter().map(|row| RowReader { table: "partitions", row }).collect();
    for row in &rows {
        if row.get::<Option<Uuid>>("last_checkpoint")? == Some(write) {
            return Ok(CommitState::Committed);
        }
    }
    for advance in advances.iter().filter(|advance| ids.contains(&smallint(advance.partition))) {
        let mut fits = false;
        for row in &rows {
            fits |= row.partition("id")? == advance.partition
                && row.number("epoch")? == advance.epoch.0
                && row.number("watermark")? == advance.from.0;
        }
        if !fits {
            return Ok(CommitState::Fenced(advance.partition));
        }
    }
    Ok(CommitState::NotCommitted)
}

/// All rows of a write in the order they are written in.
struct Rows<'a> {
    states: Vec<(i16, &'a StateRow)>,
    scores: Vec<(i16, &'a ScoreRow)>,
    outbox: Vec<(i16, &'a OutboxRow)>,
    links: Vec<&'a LinkRow>,
    forgotten: Vec<&'a Forgotten>,
    unwanted: Vec<i64>,
    volume: Vec<&'a VolumeRow>,
    /// The lowest partition of the write.
    shard: PartitionId,
}

impl<'a> Rows<'a> {
    fn sorted(write: &'a CheckpointWrite) -> Self {
        let parts = || write.parts.iter().map(|part| (smallint(part.partition()), &part.checkpoint));
        let mut states: Vec<_> = parts().flat_map(|(id, part)| part.states.iter().map(move |row| (id, row))).collect();
        states.sort_unstable_by(|(_, left), (_, right)| {
            (left.account.as_str(), &left.token).cmp(&(right.account.as_str(), &right.token))
        });
        // Within a partition the order is the engine's: ids grow with it, and messages are published by id.
        let scores = parts().flat_map(|(id, part)| part.scores.iter().map(move |row| (id, row))).collect();
        let mut outbox: Vec<_> = parts().flat_map(|(id, part)| part.outbox.iter().map(move |row| (id, row))).collect();
        outbox.sort_by_key(|(id, _)| *id);
        let links = parts().flat_map(|(_, part)| &part.links).collect();
        let forgotten = write.parts.iter().flat_map(|part| &part.forgotten).collect();
        let unwanted = write.parts.iter().flat_map(|part| &part.unwanted).map(|sequence| bigint(sequence.0)).collect();
        let volume = parts().flat_map(|(_, part)| &part.volume).collect();
        let shard = write.parts.iter().map(PartWrite::partition).min().unwrap_or(PartitionId(0));
        Self { states, scores, outbox, links, forgotten, unwanted, volume, shard }
    }

    async fn insert(&self, tx: &Tx, published: &[String]) -> Result<(), StoreError> {
        for chunk in self.states.chunks(ROWS_AT_ONCE) {
            store_states(tx, chunk).await?;
            keep_customers(tx, chunk).await?;
        }
        for chunk in self.scores.chunks(ROWS_AT_ONCE) {
            insert_scores(tx, chunk).await?;
        }
        for chunk in self.outbox.chunks(ROWS_AT_ONCE) {
            insert_outbox(tx, chunk).await?;
        }
        if !self.links.is_empty() {
            upsert_links(tx, &self.links).await?;
        }
        if !self.forgotten.is_empty() {
            super::erasure::forget(tx, &self.forgotten).await?;
        }
        if !self.unwanted.is_empty() {
            super::unwanted::insert(tx, &self.unwanted).await?;
        }
        super::fleet::add_volume(tx, self.shard, self.volume.iter().copied()).await?;
        if !published.is_empty() {
            let ids: Vec<PgText<'_>> = published.iter().map(|id| PgText(id)).collect();
            tx.execute(MARK_PUBLISHED, &[&ids]).await?;
        }
        Ok(())
    }
}

/// Updates what was stored before and inserts the rest; what turns out not to be there after all is inserted too.
async fn store_states(tx: &Tx, rows: &[(i16, &StateRow)]) -> Result<(), StoreError> {
    let (new, known): (Vec<_>, Vec<_>) = rows.iter().partition(|(_, row)| row.is_new);
    if !new.is_empty() {
        write_states(tx, UPSERT_STATES, &new).await?;
    }
    if !known.is_empty() && write_states(tx, UPDATE_STATES, &known).await? < known.len() as u64 {
        write_states(tx, UPSERT_STATES, &known).await?;
    }
    Ok(())
}

async fn write_states(tx: &Tx, sql: &'static str, rows: &[(i16, &StateRow)]) -> Result<u64, StoreError> {
    let states = || rows.iter().map(|(_, row)| row);
    let partitions: Vec<i16> = rows.iter().map(|(partition, _)| *partition).collect();
    let accounts: Vec<&str> = states().map(|row| row.account.as_str()).collect();
    let tokens: Vec<&str> = states().map(|row| &*row.token).collect();
    let customers: Vec<PgText<'_>> = states().map(|row| PgText(row.customer.as_str())).collect();
    let snapshots: Vec<&[u8]> = states().map(|row| row.snapshot.as_slice()).collect();
    let scores: Vec<i16> = states().map(|row| i16::from(row.score)).collect();
    let levels: Vec<&str> = states().map(|row| row.level.as_str()).collect();
    let statuses: Vec<&str> = states().map(|row| row.status.as_str()).collect();
    let minors: Vec<Option<i64>> = states().map(|row| row.mrr.map(|mrr| mrr.minor)).collect();
    let currencies: Vec<Option<&str>> = states().map(|row| row.mrr.as_ref().map(|mrr| mrr.currency.as_str())).collect();
    let due_hours: Vec<Option<i64>> = states().map(|row| row.due_at.map(Timestamp::hour)).collect();
    let due: Vec<Option<PgTime>> = states().map(|row| row.due_at.map(PgTime)).collect();
    if sql == UPDATE_STATES {
        let columns: [&(dyn ToSql + Sync); 11] = [
            &partitions,
            &accounts,
            &tokens,
            &snapshots,
            &scores,
            &levels,
            &statuses,
            &minors,
            &currencies,
            &due_hours,
            &due,
        ];
        return tx.execute(sql, &columns).await;
    }
    tx.execute(
        sql,
        &[
            &partitions,
            &accounts,
            &tokens,
            &customers,
            &snapshots,
            &scores,
            &levels,
            &statuses,
            &minors,
            &currencies,
            &due_hours,
            &due,
        ],
    )
    .await
}

/// Adds the customers that are new, and keeps what they bring where it changed. A signpost is no customer.
async fn keep_customers(tx: &Tx, rows: &[(i16, &StateRow)]) -> Result<(), StoreError> {
    let states = || rows.iter().map(|(_, row)| *row).filter(|row| row.status != Status::Moved);
    let new: Vec<&StateRow> = states().filter(|row| row.is_new).collect();
    let paying: Vec<&StateRow> = states().filter(|row| row.mrr.is_some()).collect();
    for (sql, rows) in [(INSERT_CUSTOMERS, new), (UPDATE_MRR, paying)] {
        if rows.is_empty() {
            continue;
        }
        let accounts: Vec<&str> = rows.iter().map(|row| row.account.as_str()).collect();
        let customers: Vec<PgText<'_>> = rows.iter().map(|row| PgText(row.customer.as_str())).collect();
        let minors: Vec<Option<i64>> = rows.iter().map(|row| row.mrr.map(|mrr| mrr.minor)).collect();
        let currencies: Vec<Option<&str>> =
            rows.iter().map(|row| row.mrr.as_ref().map(|mrr| mrr.currency.as_str())).collect();
        tx.execute(sql, &[&accounts, &customers, &minors, &currencies]).await?;
    }
    Ok(())
}

async fn insert_scores(tx: &Tx, rows: &[(i16, &ScoreRow)]) -> Result<(), StoreError> {
    let scores = || rows.iter().map(|(_, row)| row);
    let partitions: Vec<i16> = rows.iter().map(|(partition, _)| *partition).collect();
    let accounts: Vec<&str> = scores().map(|row| row.account.as_str()).collect();
    let tokens: Vec<&str> = scores().map(|row| &*row.token).collect();
    let customers: Vec<PgText<'_>> = scores().map(|row| PgText(row.customer.as_str())).collect();
    let times: Vec<PgTime> = scores().map(|row| PgTime(row.at)).collect();
    let points: Vec<i16> = scores().map(|row| i16::from(row.score)).collect();
    let levels: Vec<&str> = scores().map(|row| row.level.as_str()).collect();
    let statuses: Vec<&str> = scores().map(|row| row.status.as_str()).collect();
    let factors: Vec<Json<&Vec<Factor>>> = scores().map(|row| Json(&row.factors)).collect();
    tx.execute(
        INSERT_SCORES,
        &[&partitions, &accounts, &tokens, &customers, &times, &points, &levels, &statuses, &factors],
    )
    .await?;
    Ok(())
}

pub(super) async fn insert_outbox(tx: &Tx, rows: &[(i16, &OutboxRow)]) -> Result<(), StoreError> {
    let messages = || rows.iter().map(|(_, row)| row);
    let partitions: Vec<i16> = rows.iter().map(|(partition, _)| *partition).collect();
    let kinds: Vec<&str> = messages().map(|row| row.kind.as_str()).collect();
    let accounts: Vec<&str> = messages().map(|row| row.account.as_str()).collect();
    let tokens: Vec<&str> = messages().map(|row| &*row.token).collect();
    let customers: Vec<PgText<'_>> = messages().map(|row| PgText(row.customer.as_str())).collect();
    let ids: Vec<PgText<'_>> = messages().map(|row| PgText(&row.message_id)).collect();
    let subjects: Vec<PgText<'_>> = messages().map(|row| PgText(&row.subject)).collect();
    let bodies: Vec<&[u8]> = messages().map(|row| row.body.as_slice()).collect();
    let times: Vec<PgTime> = messages().map(|row| PgTime(row.at)).collect();
    tx.execute(INSERT_OUTBOX, &[&partitions, &kinds, &accounts, &tokens, &customers, &ids, &subjects, &bodies, &times])
        .await?;
    Ok(())
}

async fn upsert_links(tx: &Tx, links: &[&LinkRow]) -> Result<(), StoreError> {
    let accounts: Vec<&str> = links.iter().map(|link| link.account.as_str()).collect();
    let stripe: Vec<PgText<'_>> = links.iter().map(|link| PgText(&link.stripe_customer)).collect();
    let customers: Vec<PgText<'_>> = links.iter().map(|link| PgText(link.customer.as_str())).collect();
    let times: Vec<PgTime> = links.iter().map(|link| PgTime(link.at)).collect();
    tx.execute(UPSERT_LINKS, &[&accounts, &stripe, &customers, &times]).await?;
    tx.execute(SHOW_LINKS, &[&accounts, &stripe]).await?;
    Ok(())
}
