//! Silence: customers that are due although nothing happened, imports that are over, and stored customers that must be
//! scored by other rules.

use std::{future::Future, pin::Pin};

use tracing::{debug, info};

use super::{
    Worker,
    intake::{Work, retry},
    owned::Owned,
};
use crate::{
    event::{ids::PartitionId, time::Timestamp},
    pipeline::mutant::Mutant,
    store::{
        states::{DueRow, LoadedState},
        suppression::Known,
    },
};

/// Due customers that are loaded at a time.
const DUE_AT_ONCE: usize = 1_000;
/// Stored customers that are scored anew at a time.
const SWEEP_AT_ONCE: usize = 500;
/// Rows that one look for due customers brings.
const DUE_PAGE: usize = 10_000;
const HOUR_MILLIS: i64 = 3_600_000;

pub(super) type DueLoading = Pin<Box<dyn Future<Output = anyhow::Result<(PartitionId, Vec<DueRow>)>> + Send>>;

impl Worker {
    /// Begins at most one piece of work that silence asks for. Partitions whose events may still be to come, or that are
    /// being handed over, wait; so do all while messages do.
    pub(super) fn notice_silence(&mut self, now: Timestamp) -> anyhow::Result<()> {
        if self.work.is_some() {
            return Ok(());
        }
        self.settle(now);
        let due = self.complete(now).find_map(|owned| take_due(owned, now));
        if let Some((partition, keys)) = due {
            return self.begin(Work::Due { partition, keys });
        }
        let wanting = self.complete(now).find_map(|owned| wants_due(owned, now));
        if let Some(partition) = wanting {
            self.look_for_due(partition, now);
            return Ok(());
        }
        let sweeping = self.complete(now).find(|owned| owned.sweep.is_some()).map(|owned| owned.engine.id());
        if let Some(partition) = sweeping.filter(|_| self.dirty() * 2 < self.config.dirty_customers_max) {
            self.load_sweep_page(partition);
        }
        Ok(())
    }

    /// The partitions whose customers' events are all applied, as far as silence is concerned.
    fn complete(&mut self, now: Timestamp) -> impl Iterator<Item = &mut Owned> {
        let readers = &self.readers;
        let all = self.owned.iter_mut().filter(move |(id, owned)| !owned.releasing && !readers.lags(**id, now));
        all.map(|(_, owned)| owned)
    }

    fn settle(&mut self, now: Timestamp) {
        let most = self.config.hot_customers.max(1);
        let waiting: usize = self.owned.values().map(|owned| owned.engine.unsettled()).sum();
        let mut some_settled = false;
        for owned in self.complete(now) {
            if owned.engine.settles_at().is_some() {
                let settled = owned.engine.settle(now, waiting > most);
                if settled > 0 {
                    debug!(
                        customers = settled,
                        "an import into {} is over: scored {settled} customers",
                        owned.engine.id()
                    );
                    some_settled = true;
                }
            }
        }
        if some_settled {
            self.checkpointing.note_change();
        }
    }

    pub(super) fn evaluate_due(&mut self, partition: PartitionId, keys: &[Box<str>], now: Timestamp) {
        let Some(owned) = self.owned.get_mut(&partition) else { return };
        for key in keys {
            if let Some(slot) = owned.engine.find(key) {
                owned.engine.evaluate_due(slot, now);
            }
        }
        self.checkpointing.note_change();
    }

    /// Looks the next hours' due customers up in the store; they come back as work.
    fn look_for_due(&mut self, partition: PartitionId, now: Timestamp) {
        let horizon = Timestamp::start_of_hour(now.hour() + 2);
        let Some(owned) = self.owned.get_mut(&partition) else { return };
        owned.engine.extend_due_horizon(horizon);
        owned.due_wanted = None;
        let (store, layout) = (self.tools.store.clone(), self.layout);
        let loading: DueLoading = Box::pin(async move {
            let mut rows: Vec<DueRow> = Vec::new();
            let of = layout.labels(partition);
            loop {
                let page =
                    retry("look for due customers", || store.load_due(&of, horizon.hour() - 1, rows.last(), DUE_PAGE))
                        .await?;
                let full = page.len() >= DUE_PAGE;
                rows.extend(page);
                if !full {
                    rows.retain(|row| layout.of(row.account.as_str(), &row.token) == partition);
                    return Ok((partition, rows));
                }
            }
        });
        self.due_loading.push(loading);
    }

    /// Takes what a look for due customers brought.
    pub(super) fn schedule(&mut self, partition: PartitionId, rows: Vec<DueRow>) {
        if let Some(owned) = self.owned.get_mut(&partition)
            && !self.tools.mutants.has(Mutant::LoseSilence)
        {
            owned.schedule(rows);
        }
    }

    fn load_sweep_page(&mut self, partition: PartitionId) {
        let Some(owned) = self.owned.get(&partition) else { return };
        let after = owned.sweep.clone().flatten();
        let from = after.clone();
        let store = self.tools.store.clone();
        let labels = self.layout.labels(partition);
        let loading = Box::pin(async move {
            retry("load customers to score anew", || {
                let after = after.as_ref().map(|(account, token)| (account.as_str(), token.as_str()));
                store.load_page(&labels, after, SWEEP_AT_ONCE)
            })
            .await
            .map(|states| Known { states, ..Known::default() })
        });
        self.wait_for(Work::Sweep { partition, after: from }, loading);
    }

    /// Scores a page of stored customers by the rules in force.
    pub(super) fn sweep_page(
        &mut self,
        partition: PartitionId,
        after: Option<(String, String)>,
        rows: Vec<LoadedState>,
        now: Timestamp,
    ) -> anyhow::Result<()> {
        let last = rows.last().map(|row| (row.account.to_string(), row.token.to_string()));
        let full = rows.len() >= SWEEP_AT_ONCE;
        let layout = self.layout;
        let ours = |row: &LoadedState| layout.of(row.account.as_str(), &row.token) == partition;
        let rows: Vec<LoadedState> = rows.into_iter().filter(ours).collect();
        self.tools.metrics.rescored_customers.inc_by(rows.len() as u64);
        for row in rows {
            let Some((partition, slot)) = self.admit_row(row, now)? else { continue };
            if let Some(owned) = self.owned.get_mut(&partition) {
                owned.engine.evaluate_due(slot, now);
            }
        }
        self.checkpointing.note_change();
        // Rules that were put in place and not taken up yet have scored nobody.
        let hash = self.rules.hash();
        let Some(owned) = self.owned.get_mut(&partition) else { return Ok(()) };
        if owned.sweep != Some(after) {
            // The rules changed again meanwhile: another sweep has begun, from the beginning.
            return Ok(());
        }
        if full {
            owned.sweep = Some(last);
        } else {
            info!(partition = %partition, "all customers of {partition} are scored by the rules in force");
            owned.sweep = None;
            owned.rules_hash = Some(hash);
        }
        Ok(())
    }
}

fn take_due(owned: &mut Owned, now: Timestamp) -> Option<(PartitionId, Vec<Box<str>>)> {
    let keys = owned.engine.take_due(now, DUE_AT_ONCE);
    (!keys.is_empty()).then(|| (owned.engine.id(), keys))
}

/// The due customers of the next minutes are not all known yet.
fn wants_due(owned: &mut Owned, now: Timestamp) -> Option<PartitionId> {
    (owned.engine.due_horizon() < now.plus_millis(HOUR_MILLIS / 6)).then(|| owned.engine.id())
}
