//! How often a key may be used: a bucket per key and client, by the generic cell rate algorithm.
//!
//! A client is an IPv4 address or an IPv6 network of 64 bits, so that nobody gets more by changing the address within its
//! network. Buckets that are full again are forgotten, so memory is bounded by what came in the last minute.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    num::NonZeroU32,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    state::keyed::DashMapStateStore,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How often full buckets are forgotten.
const SWEEP: Duration = Duration::from_secs(15);

type Limiter = RateLimiter<(Uuid, IpAddr), DashMapStateStore<(Uuid, IpAddr)>, DefaultClock>;

/// The buckets of all keys; clones share them.
#[derive(Clone, Debug, Default)]
pub struct RateLimits {
    /// By requests a minute: keys of the same rate share a limiter, not a bucket.
    limiters: Arc<RwLock<HashMap<NonZeroU32, Arc<Limiter>>>>,
}

impl RateLimits {
    /// Takes one request out of the bucket of a key and client, or says how long to wait.
    pub fn take(&self, key: Uuid, client: Option<IpAddr>, per_minute: NonZeroU32) -> Result<(), Duration> {
        let client = client.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), network_of);
        let limiter = self.limiter(per_minute);
        limiter.check_key(&(key, client)).map_err(|early| early.wait_time_from(limiter.clock().now()))
    }

    /// Forgets full buckets now and then, until `stop`.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        while stop.run_until_cancelled(tokio::time::sleep(SWEEP)).await.is_some() {
            let limiters: Vec<Arc<Limiter>> = self.read().values().cloned().collect();
            for limiter in limiters {
                limiter.retain_recent();
                limiter.shrink_to_fit();
            }
        }
        Ok(())
    }

    fn limiter(&self, per_minute: NonZeroU32) -> Arc<Limiter> {
        if let Some(limiter) = self.read().get(&per_minute) {
            return Arc::clone(limiter);
        }
        let mut limiters = self.limiters.write().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(RateLimiter::dashmap(Quota::per_minute(per_minute)));
        Arc::clone(limiters.entry(per_minute).or_insert_with(new))
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, HashMap<NonZeroU32, Arc<Limiter>>> {
        self.limiters.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn a_bucket_holds_a_minute_and_belongs_to_one_key_and_client() {
        let limits = RateLimits::default();
        let (key, other, three) = (Uuid::from_u128(1), Uuid::from_u128(2), NonZeroU32::new(3).unwrap());
        for _ in 0..3 {
            limits.take(key, ip("192.0.2.1"), three).unwrap();
        }
        let wait = limits.take(key, ip("192.0.2.1"), three).unwrap_err();
        assert!(wait > Duration::from_secs(15) && wait <= Duration::from_secs(20), "{wait:?}");
        limits.take(key, ip("192.0.2.2"), three).unwrap();
        limits.take(other, ip("192.0.2.1"), three).unwrap();
        limits.take(key, None, three).unwrap();
    }

    #[test]
    fn addresses_of_one_ipv6_network_share_a_bucket_and_mapped_ones_are_ipv4() {
        let limits = RateLimits::default();
        let (key, one) = (Uuid::from_u128(1), NonZeroU32::new(1).unwrap());
        limits.take(key, ip("2001:db8:1:2::1"), one).unwrap();
        limits.take(key, ip("2001:db8:1:2:ffff::9"), one).unwrap_err();
        limits.take(key, ip("2001:db8:1:3::1"), one).unwrap();
        limits.take(key, ip("192.0.2.1"), one).unwrap();
        limits.take(key, ip("::ffff:192.0.2.1"), one).unwrap_err();
    }
}
