//! Events of erased customers that came later: dropped by the checkpoint that passes them, overwritten in the stream after it.
//!
//! Only their places stand here. Overwriting takes the server milliseconds each, so no watermark waits for it.

use std::time::Duration;

use super::{
    Store,
    error::StoreError,
    tx::Tx,
    values::{RowReader, bigint, row_limit},
};
use crate::event::ids::StreamSequence;

const INSERT: &str = "INSERT INTO unwanted_events (sequence) SELECT sequence FROM unnest($1::bigint[]) AS sequence
    ORDER BY sequence ON CONFLICT (sequence) DO NOTHING";
const CLAIM: &str = "
    UPDATE unwanted_events SET claimed_until = clock_timestamp() + make_interval(secs => $1)
    WHERE sequence IN (
        SELECT sequence FROM unwanted_events WHERE claimed_until IS NULL OR claimed_until <= clock_timestamp()
        ORDER BY sequence LIMIT $2 FOR UPDATE SKIP LOCKED
    )
    RETURNING sequence";
const FORGET: &str = "DELETE FROM unwanted_events WHERE sequence = ANY ($1::bigint[])";

impl Store {
    /// Claims events to be overwritten, for as long as `span`.
    pub async fn claim_unwanted(&self, span: Duration, limit: usize) -> Result<Vec<StreamSequence>, StoreError> {
        let rows = self.statement("claim events", CLAIM, &[&span.as_secs_f64(), &row_limit(limit)]).await?;
        rows.iter()
            .map(|row| RowReader { table: "unwanted_events", row }.number("sequence").map(StreamSequence))
            .collect()
    }

    /// Forgets events that are overwritten.
    pub async fn forget_unwanted(&self, sequences: &[StreamSequence]) -> Result<(), StoreError> {
        let sequences: Vec<i64> = sequences.iter().map(|sequence| bigint(sequence.0)).collect();
        self.statement("forget events", FORGET, &[&sequences]).await?;
        Ok(())
    }
}

pub(super) async fn insert(tx: &Tx, sequences: &[i64]) -> Result<(), StoreError> {
    tx.execute(INSERT, &[&sequences]).await?;
    Ok(())
}
