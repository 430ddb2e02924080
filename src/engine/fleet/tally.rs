//! Counting an account's events, cheaply: neighbors in the stream are mostly of one account and one quarter of an hour.

use std::collections::BTreeMap;

use hashbrown::HashMap;

use crate::{
    engine::{checkpoint::VolumeRow, resident::account_of},
    event::ids::AccountId,
};

/// What a partition counted since its last checkpoint.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// A row each time an account's slot changes.
    rows: Vec<(Box<str>, i64, u64)>,
    /// An account's newest row.
    newest: HashMap<String, usize>,
    /// The row that was counted in last: mostly it is the next one's too.
    last: usize,
}

impl Tally {
    /// Counts an event of the customer `key`, which is `<account>.<token>`.
    pub(crate) fn count(&mut self, key: &str, slot: i64) {
        let account = account_of(key);
        if self.rows.get(self.last).is_none_or(|row| row.1 != slot || *row.0 != *account) {
            self.turn_to(account, slot);
        }
        self.rows[self.last].2 += 1;
    }

    fn turn_to(&mut self, account: &str, slot: i64) {
        let place = self.newest.entry_ref(account).or_insert(usize::MAX);
        if self.rows.get(*place).is_none_or(|row| row.1 != slot) {
            *place = self.rows.len();
            self.rows.push((account.into(), slot, 0));
        }
        self.last = *place;
    }

    /// What was counted, each account's slot once.
    pub(crate) fn take(&mut self) -> Vec<VolumeRow> {
        self.newest.clear();
        self.last = 0;
        let mut sums: BTreeMap<(Box<str>, i64), u64> = BTreeMap::new();
        for (account, slot, events) in self.rows.drain(..) {
            *sums.entry((account, slot)).or_default() += events;
        }
        let row = |((account, slot), events): ((Box<str>, i64), u64)| VolumeRow {
            account: AccountId::parse(&account).expect("a key begins with an account"),
            slot,
            events,
        };
        sums.into_iter().map(row).collect()
    }
}
