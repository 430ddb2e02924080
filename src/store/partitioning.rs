//! The number of partitions in force, and its doubling.
//!
//! A customer belongs to partition hash mod number. Messages and rows from before a doubling carry the half of the number,
//! and partition p of the half is p and p + half of the whole, so both can be told from the customer alone. Doubling is one
//! transaction: it makes the new partitions' rows, gives each the watermark of the one it comes from, and takes all leases
//! away under new epochs. Whoever worked by the old number is refused from then on, as if it had slept past its lease;
//! whoever takes a partition after it knows the new number, because taking asks for the generation it was read in.
//!
//! Everything after that transaction may take as long as it likes: until the stream is known to number by the new number
//! (`filters_from`), owners read unfiltered; until the rows are labelled anew, they look under the old labels too.

use super::{
    Store,
    error::StoreError,
    leases::Role,
    tx::{Connection, Tx},
    values::{PgTime, RowReader, bigint, row_limit, smallint},
};
use crate::event::{
    ids::{PartitionId, StreamSequence},
    subject::partition_of,
    time::Timestamp,
};

/// More partitions than this are not made.
pub const PARTITIONS_AT_MOST: u16 = 1_024;

/// How customers, messages and rows belong to partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// How many partitions there are.
    pub number: u16,
    /// What the installation began with.
    pub first: u16,
    /// The least number that rows of customers carry.
    pub labelled: u16,
    /// Messages behind this one carry the number in force; unknown while the stream may still number by another.
    pub filters_from: Option<StreamSequence>,
    /// Grows with each change that owners must know before they read on.
    pub generation: u64,
}

impl Default for Layout {
    fn default() -> Self {
        Self::new(1)
    }
}

impl Layout {
    /// That of a new installation.
    pub fn new(number: u16) -> Self {
        Self { number, first: number, labelled: number, filters_from: Some(StreamSequence(0)), generation: 0 }
    }

    /// The partition of a customer.
    pub fn of(&self, account: &str, token: &str) -> PartitionId {
        partition_of(account, token, self.number)
    }

    /// The partition of a message that the server numbered when it stored it.
    pub fn of_message(
        &self,
        numbered: PartitionId,
        sequence: StreamSequence,
        account: &str,
        token: &str,
    ) -> PartitionId {
        if self.is_trusted(sequence) { numbered } else { self.of(account, token) }
    }

    /// The number that this message carries is that in force.
    pub fn is_trusted(&self, sequence: StreamSequence) -> bool {
        self.filters_from.is_some_and(|from| sequence > from)
    }

    /// All messages behind this position carry the number in force.
    pub fn may_filter_after(&self, position: StreamSequence) -> bool {
        self.filters_from.is_some_and(|from| position >= from)
    }

    /// Under which numbers rows of the partition's customers may stand; they are others' rows too, unless it is one.
    pub fn labels(&self, partition: PartitionId) -> Vec<PartitionId> {
        self.labels_since(self.labelled, partition)
    }

    /// The same for rows that are never labelled anew.
    pub fn labels_ever(&self, partition: PartitionId) -> Vec<PartitionId> {
        self.labels_since(self.first, partition)
    }

    fn labels_since(&self, least: u16, partition: PartitionId) -> Vec<PartitionId> {
        let mut number = self.number;
        let mut labels = vec![partition];
        while number > least.max(1) {
            number /= 2;
            let label = PartitionId(partition.0 % number);
            if labels.last() != Some(&label) {
                labels.push(label);
            }
        }
        labels
    }

    /// A doubling has begun and is not over.
    pub fn is_changing(&self) -> bool {
        self.filters_from.is_none() || self.labelled < self.number
    }
}

/// Where a labelling goes on: after this customer of an old label.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelPlace {
    label: u16,
    account: String,
    token: String,
}

/// What one step of a labelling did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labelled {
    /// Where to go on; nothing when all rows were looked at.
    pub next: Option<LabelPlace>,
    /// Rows that were looked at.
    pub seen: u64,
    /// Rows that got another label.
    pub moved: u64,
}

/// All partitions of a stream that was rolled back are to be put back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rewind {
    /// Those that count in the stream of this creation.
    pub stream_created: Option<Timestamp>,
    /// The creation they count in from then on.
    pub created_anew: Option<Timestamp>,
    /// No watermark stays behind it.
    pub to: StreamSequence,
    /// The sum of all partitions' epochs when this was decided.
    pub epochs: u64,
}

const COLUMNS: &str = "number, first_number, labelled, filters_from, generation";
const ENSURE_LAYOUT: &str =
    "INSERT INTO partitioning (number, first_number, labelled, filters_from) VALUES ($1, $1, $1, 0)
    ON CONFLICT (single) DO NOTHING";
const ENSURE: &str = "
    INSERT INTO partitions (role, id, generation)
    SELECT $1, n::smallint, $3 FROM generate_series(0, $2::integer - 1) AS n ON CONFLICT (role, id) DO NOTHING";
const HIGHEST: &str = "SELECT coalesce(max(id), -1)::integer + 1 FROM partitions WHERE role = $1";
/// Waits for checkpoints under way, in the order in which they take the rows.
const LOCK: &str = "SELECT id FROM partitions WHERE role = 'engine' ORDER BY id FOR UPDATE";
const DISOWN: &str = "
    UPDATE partitions SET owner = NULL, session = NULL, lease_until = NULL, taken_at = NULL, epoch = epoch + 1,
        generation = generation + 1
    WHERE role = 'engine'";
const EPOCHS: &str = "SELECT coalesce(sum(epoch), 0)::bigint FROM partitions WHERE role = 'engine'";
const REWIND: &str = "
    UPDATE partitions SET watermark = least(watermark, $2), watermark_time = NULL, stream_created = $3
    WHERE role = 'engine' AND stream_created IS NOT DISTINCT FROM $1";
/// Owners start all of their partitions over, also those that count in another stream.
const TAKE_AWAY: &str = "
    UPDATE partitions SET owner = NULL, session = NULL, lease_until = NULL, taken_at = NULL, epoch = epoch + 1
    WHERE role = 'engine'";
const SPLIT: &str = "
    INSERT INTO partitions (role, id, epoch, watermark, watermark_time, stream_created, rules_hash, generation)
    SELECT role, (id + $1::integer)::smallint, epoch, watermark, watermark_time, stream_created, rules_hash, generation
    FROM partitions WHERE role = 'engine'";
const UNPUBLISHED: &str = "
    SELECT id, account, token FROM outbox
    WHERE published_at IS NULL AND kind <> 'held_alert' AND partition < $1 AND id > $2 ORDER BY id LIMIT $3";
const LABEL_OUTBOX: &str = "UPDATE outbox o SET partition = u.partition
    FROM unnest($1::bigint[], $2::smallint[]) AS u (id, partition) WHERE o.id = u.id";
const DOUBLED: &str =
    "UPDATE partitioning SET number = number * 2, filters_from = NULL, generation = generation + 1, changed_at = now()";
const UNSETTLE: &str = "UPDATE partitioning SET filters_from = NULL, generation = generation + 1, changed_at = now()";
const SETTLE: &str = "UPDATE partitioning SET filters_from = $2, changed_at = now()
    WHERE generation = $1 AND filters_from IS NULL RETURNING number";
const LABELLED: &str =
    "UPDATE partitioning SET labelled = number, changed_at = now() WHERE generation = $1 RETURNING number";
const TO_LABEL: &str = "SELECT account, token FROM customer_states
    WHERE partition = $1 AND (account, token) > ($2, $3) ORDER BY account, token LIMIT $4";
/// Locks in the order of the keys, as checkpoints do.
const LABEL: &str = "
    WITH wanted AS (
        SELECT s.account, s.token, u.partition FROM unnest($2::text[], $3::text[], $4::smallint[]) AS u (account, token, partition)
        JOIN customer_states s ON s.account = u.account AND s.token = u.token
        WHERE s.partition = $1 ORDER BY s.account, s.token FOR NO KEY UPDATE OF s
    )
    UPDATE customer_states s SET partition = wanted.partition FROM wanted
    WHERE s.account = wanted.account AND s.token = wanted.token";
/// Rows of the outbox that get their label in one statement.
const OUTBOX_AT_ONCE: usize = 10_000;

impl Store {
    /// Makes sure that the partitions' rows are there; a new installation gets `count`. Gives the layout in force: a number
    /// that was doubled since counts, not the one asked for.
    pub async fn ensure_partitions(&self, role: Role, count: u16) -> Result<Layout, StoreError> {
        let (layout, found) = self
            .transaction("create the partitions", move |tx| async move {
                let layout = if role == Role::Engine {
                    tx.execute(ENSURE_LAYOUT, &[&i32::from(count)]).await?;
                    read(&tx, "").await?.unwrap_or_else(|| Layout::new(count))
                } else {
                    Layout::new(count)
                };
                let generation = bigint(layout.generation);
                tx.execute(ENSURE, &[&role.as_str(), &i32::from(layout.number), &generation]).await?;
                let rows = tx.query(HIGHEST, &[&role.as_str()]).await?;
                Ok((layout, rows.first().map_or(0, |row| row.get::<_, i32>(0))))
            })
            .await?;
        if found > i32::from(layout.number) {
            return Err(StoreError::Config(format!(
                "the database has {found} partitions for the {}, {} are asked for: they can only be doubled",
                role.as_str(),
                layout.number
            )));
        }
        Ok(layout)
    }

    /// The layout in force; nothing where no engine has run yet.
    pub async fn layout(&self) -> Result<Option<Layout>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM partitioning");
        let rows = self.statement("look up the number of partitions", &sql, &[]).await?;
        rows.first().map(|row| read_layout(&RowReader { table: "partitioning", row })).transpose()
    }

    /// Doubles the number that was `from`; all owners are refused from now on, and start anew by the new number. Doing it
    /// again does nothing, nor does it where the number is another or a doubling is not over.
    pub async fn double_partitions(&self, from: u16) -> Result<Layout, StoreError> {
        self.transaction("double the partitions", move |tx| async move {
            let Some(layout) = read(&tx, "FOR UPDATE").await? else {
                return Err(StoreError::Config("no churnd has scored anything with this database yet".to_owned()));
            };
            if layout.number != from || layout.is_changing() || from > PARTITIONS_AT_MOST / 2 {
                return Ok(layout);
            }
            tx.query(LOCK, &[]).await?;
            tx.execute(DISOWN, &[]).await?;
            tx.execute(SPLIT, &[&i32::from(from)]).await?;
            tx.execute(DOUBLED, &[]).await?;
            let layout = read(&tx, "").await?.unwrap_or(layout);
            label_outbox(&tx, &layout).await?;
            Ok(layout)
        })
        .await
    }

    /// Puts partitions back, and takes all there are away from their owners, unless one changed hands since this was decided.
    pub async fn rewind(&self, rewind: &Rewind) -> Result<bool, StoreError> {
        let Rewind { stream_created, created_anew, to, epochs } = *rewind;
        self.transaction("put the partitions back", move |tx| async move {
            tx.query(LOCK, &[]).await?;
            let rows = tx.query(EPOCHS, &[]).await?;
            if rows.first().map(|row| row.get::<_, i64>(0)) != Some(bigint(epochs)) {
                return Ok(false);
            }
            let (from, anew) = (stream_created.map(PgTime), created_anew.map(PgTime));
            tx.execute(REWIND, &[&from, &bigint(to.0), &anew]).await?;
            tx.execute(TAKE_AWAY, &[]).await?;
            Ok(true)
        })
        .await
    }

    /// The stream does not number as the layout says: owners stop trusting its numbers, until they are
    /// [settled](Self::settle_partitions) again.
    pub async fn unsettle_partitions(&self, layout: &Layout) -> Result<(), StoreError> {
        let generation = layout.generation;
        self.transaction("distrust the stream's numbers", move |tx| async move {
            let found = read(&tx, "FOR UPDATE").await?;
            if found.is_some_and(|found| found.generation == generation && found.filters_from.is_some()) {
                tx.query(LOCK, &[]).await?;
                tx.execute(DISOWN, &[]).await?;
                tx.execute(UNSETTLE, &[]).await?;
            }
            Ok(())
        })
        .await
    }

    /// Messages behind `from` carry the layout's number; `false` if the layout is not in force any more, or settled.
    pub async fn settle_partitions(&self, layout: &Layout, from: StreamSequence) -> Result<bool, StoreError> {
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&bigint(layout.generation), &bigint(from.0)];
        Ok(!self.statement("trust the stream's numbers", SETTLE, &parameters).await?.is_empty())
    }

    /// Gives up to `limit` stored customers the label of their partition, from `place` on.
    pub async fn label_customers(
        &self,
        layout: &Layout,
        place: &LabelPlace,
        limit: usize,
    ) -> Result<Labelled, StoreError> {
        let old = PartitionId(place.label);
        let rows = self
            .statement(
                "look for customers to label",
                TO_LABEL,
                &[&smallint(old), &place.account, &place.token, &row_limit(limit)],
            )
            .await?;
        let keys: Vec<(String, String)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        let moving = keys.iter().map(|(account, token)| (account, token, layout.of(account, token)));
        let moving: Vec<_> = moving.filter(|(_, _, partition)| *partition != old).collect();
        let accounts: Vec<&str> = moving.iter().map(|(account, _, _)| account.as_str()).collect();
        let tokens: Vec<&str> = moving.iter().map(|(_, token, _)| token.as_str()).collect();
        let partitions: Vec<i16> = moving.iter().map(|(_, _, partition)| smallint(*partition)).collect();
        let mut moved = 0;
        if !moving.is_empty() {
            let (accounts, tokens, partitions) = (&accounts, &tokens, &partitions);
            moved = self
                .transaction("label customers", move |tx| async move {
                    tx.execute(LABEL, &[&smallint(old), accounts, tokens, partitions]).await
                })
                .await?;
        }
        let next = match keys.last() {
            Some((account, token)) if keys.len() >= limit => {
                Some(LabelPlace { label: place.label, account: account.clone(), token: token.clone() })
            }
            _ if place.label + 1 < layout.labelled => {
                Some(LabelPlace { label: place.label + 1, ..LabelPlace::default() })
            }
            _ => None,
        };
        Ok(Labelled { next, seen: keys.len() as u64, moved })
    }

    /// All customers' rows carry the layout's number; `false` if it is not in force any more.
    pub async fn customers_labelled(&self, layout: &Layout) -> Result<bool, StoreError> {
        let rows = self.statement("note that customers are labelled", LABELLED, &[&bigint(layout.generation)]).await?;
        Ok(!rows.is_empty())
    }
}

/// Messages that wait go to their partitions' owners: a customer's later ones must not overtake them.
async fn label_outbox(tx: &Tx, layout: &Layout) -> Result<(), StoreError> {
    let mut after = 0_i64;
    loop {
        let old = smallint(PartitionId(layout.number / 2));
        let rows = tx.query(UNPUBLISHED, &[&old, &after, &row_limit(OUTBOX_AT_ONCE)]).await?;
        let Some(last) = rows.last() else { return Ok(()) };
        after = last.get(0);
        let ids: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
        let partitions: Vec<i16> = rows.iter().map(|row| smallint(layout.of(row.get(1), row.get(2)))).collect();
        tx.execute(LABEL_OUTBOX, &[&ids, &partitions]).await?;
    }
}

/// The layout as a transaction sees it.
pub(super) async fn read<C: Connection>(tx: &Tx<C>, lock: &str) -> Result<Option<Layout>, StoreError> {
    let rows = tx.query(&format!("SELECT {COLUMNS} FROM partitioning {lock}"), &[]).await?;
    rows.first().map(|row| read_layout(&RowReader { table: "partitioning", row })).transpose()
}

fn read_layout(row: &RowReader<'_>) -> Result<Layout, StoreError> {
    let number = |column: &str| u16::try_from(row.get::<i32>(column)?).map_err(|_| row.broken(column));
    let from: Option<i64> = row.get("filters_from")?;
    Ok(Layout {
        number: number("number")?,
        first: number("first_number")?,
        labelled: number("labelled")?,
        filters_from: from.map(|from| StreamSequence(u64::try_from(from).unwrap_or_default())),
        generation: row.number("generation")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(layout: &Layout, partition: u16) -> Vec<u16> {
        layout.labels(PartitionId(partition)).into_iter().map(|label| label.0).collect()
    }

    #[test]
    fn a_partitions_customers_stand_under_its_own_label_and_its_forebears() {
        let layout = Layout { number: 64, first: 16, labelled: 16, ..Layout::new(64) };
        assert_eq!(labels(&layout, 53), [53, 21, 5]);
        assert_eq!(labels(&layout, 37), [37, 5]);
        assert_eq!(labels(&layout, 5), [5]);
        assert_eq!(labels(&Layout { labelled: 64, ..layout }, 53), [53]);
        assert_eq!(layout.labels_ever(PartitionId(20)).len(), 2);
        assert_eq!(labels(&Layout::new(1), 0), [0]);
    }

    #[test]
    fn numbers_of_messages_count_only_where_the_stream_is_known_to_give_the_right_ones() {
        let token =
            (0..).map(|number| format!("c{number}")).find(|token| partition_of("acme", token, 32).0 == 21).unwrap();
        let settled = Layout { filters_from: Some(StreamSequence(10)), ..Layout::new(32) };
        let of =
            |layout: &Layout, sequence| layout.of_message(PartitionId(5), StreamSequence(sequence), "acme", &token).0;
        assert_eq!((of(&settled, 10), of(&settled, 11)), (21, 5));
        assert_eq!(of(&Layout { filters_from: None, ..settled }, 99), 21);
    }

    proptest::proptest! {
        #[test]
        fn every_customer_stands_under_a_label_of_its_partition(token in "[a-z0-9]{1,12}", doublings in 0_u32..5, behind in 0_u32..5) {
            let (number, least) = (16 << doublings, 16 << doublings.min(behind));
            let layout = Layout { first: 16, labelled: least, ..Layout::new(number) };
            let partition = layout.of("acme", &token);
            for step in doublings.min(behind)..=doublings {
                proptest::prop_assert!(layout.labels(partition).contains(&partition_of("acme", &token, 16 << step)));
            }
        }
    }
}
