//! Clean customers that are not ready for scoring: their snapshots, bounded by weight, so that Postgres need not be asked.
//!
//! Only copies of what is stored stand here. An entry is put in once when its customer leaves the partition's memory and
//! taken out when it comes back; entries of an earlier lease are worth nothing.

use moka::{policy::EvictionPolicy, sync::Cache};

use crate::{
    engine::partition::Evicted,
    event::{
        ids::{CustomerId, Epoch},
        time::Timestamp,
    },
};

/// What an entry weighs beside its snapshot and key.
const ENTRY_OVERHEAD: usize = 200;

/// A clean customer.
#[derive(Clone, Debug)]
pub(crate) struct WarmCustomer {
    pub(crate) customer: CustomerId,
    pub(crate) snapshot: std::sync::Arc<[u8]>,
    pub(crate) due_at: Option<Timestamp>,
    epoch: Epoch,
}

impl WarmCustomer {
    #[expect(clippy::borrowed_box, reason = "this is how the cache shows its keys")]
    fn weight(key: &Box<str>, customer: &Self) -> u32 {
        let weight = key.len() + customer.customer.as_str().len() + customer.snapshot.len() + ENTRY_OVERHEAD;
        u32::try_from(weight).unwrap_or(u32::MAX)
    }
}

/// The cache of clean customers.
#[derive(Debug)]
pub(crate) struct Warm {
    cache: Cache<Box<str>, WarmCustomer>,
}

impl Warm {
    pub(crate) fn new(bytes: u64) -> Self {
        let cache = Cache::builder()
            .max_capacity(bytes)
            .weigher(WarmCustomer::weight)
            .eviction_policy(EvictionPolicy::lru())
            .build();
        Self { cache }
    }

    pub(crate) fn put(&self, evicted: Evicted, epoch: Epoch) {
        let customer = WarmCustomer {
            customer: evicted.customer,
            snapshot: evicted.snapshot.into(),
            due_at: evicted.due_at,
            epoch,
        };
        self.cache.insert(evicted.key, customer);
    }

    /// Takes a customer out that was put in under this lease.
    pub(crate) fn take(&self, key: &str, epoch: Epoch) -> Option<WarmCustomer> {
        self.cache.remove(key).filter(|customer| customer.epoch == epoch)
    }

    /// Looks at a customer and leaves it where it is.
    pub(crate) fn peek(&self, key: &str, epoch: Epoch) -> Option<WarmCustomer> {
        self.cache.get(key).filter(|customer| customer.epoch == epoch)
    }

    /// Drops a customer that was erased.
    pub(crate) fn forget(&self, key: &str) {
        self.cache.invalidate(key);
    }

    /// How many customers stand here, roughly.
    pub(crate) fn len(&self) -> u64 {
        self.cache.entry_count()
    }
}
