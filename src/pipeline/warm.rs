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

#[cfg(test)]
mod tests {
    use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

    use super::*;

    const CAPACITY: u64 = 256 * 1024;

    fn evicted(number: usize, bytes: usize) -> Evicted {
        Evicted {
            key: format!("acme.customer-{number}").into(),
            customer: CustomerId::parse(&format!("customer-{number}")).unwrap(),
            snapshot: vec![0; bytes],
            due_at: None,
        }
    }

    fn held(warm: &Warm) -> u64 {
        warm.cache.iter().map(|(key, customer)| u64::from(WarmCustomer::weight(&Box::from(&**key), &customer))).sum()
    }

    /// The same keys put in and taken out all the time, by several threads and faster than the cache tidies up: caches of
    /// this kind have been seen to stop evicting then.
    #[test]
    fn cache_stays_within_its_bytes_when_the_same_customers_come_and_go() {
        let warm = Warm::new(CAPACITY);
        std::thread::scope(|scope| {
            for seed in 0..4 {
                let warm = &warm;
                scope.spawn(move || {
                    let mut random = StdRng::seed_from_u64(seed);
                    for turn in 0..40_000 {
                        let number = random.random_range(0..3_000);
                        if turn % 3 == 0 {
                            warm.take(&format!("acme.customer-{number}"), Epoch(1));
                        } else {
                            warm.put(evicted(number, random.random_range(100..400)), Epoch(1));
                        }
                    }
                });
            }
        });
        // What the last turns put in may not have been tidied up yet.
        warm.cache.run_pending_tasks();
        let most = CAPACITY + CAPACITY / 20;
        assert!(held(&warm) <= most, "{} bytes are held, {most} may be", held(&warm));
        assert!(held(&warm) > CAPACITY / 2, "the cache holds next to nothing: {}", held(&warm));
    }

    #[test]
    fn customer_of_an_earlier_lease_is_not_given_out() {
        let warm = Warm::new(CAPACITY);
        warm.put(evicted(1, 100), Epoch(1));
        assert!(warm.peek("acme.customer-1", Epoch(2)).is_none());
        assert!(warm.peek("acme.customer-1", Epoch(1)).is_some());
        assert!(warm.take("acme.customer-1", Epoch(2)).is_none());
        assert!(warm.take("acme.customer-1", Epoch(1)).is_none(), "what was taken out is gone");
    }
}
