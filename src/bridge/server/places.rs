//! How many connections one client may hold, so that none locks out the others.
//!
//! An IPv6 client counts as its /64, of which it has every address. Trusted proxies ask for many and are not counted.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
};

use super::super::client_address::TrustedProxies;

/// The connections in use, by client; clones share them.
#[derive(Clone, Debug)]
pub(super) struct Places {
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
    most: usize,
    trusted: Arc<TrustedProxies>,
}

/// One connection's place, free again when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    client: Option<IpAddr>,
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Places {
    pub(super) fn new(most: usize, trusted: Arc<TrustedProxies>) -> Self {
        Self { taken: Arc::default(), most, trusted }
    }

    /// A place for one more connection of a client; none when it has all it may have.
    pub(super) fn take(&self, client: IpAddr) -> Option<Place> {
        let taken = Arc::clone(&self.taken);
        if self.trusted.contains(client) {
            return Some(Place { client: None, taken });
        }
        let client = network_of(client);
        let mut counts = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(client).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        drop(counts);
        Some(Place { client: Some(client), taken })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(client) = self.client else { return };
        let mut counts = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&client) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&client);
            }
        }
    }
}

/// What stands for a client: its IPv4 address or its /64.
fn network_of(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_client_has_so_many_places_and_gets_them_back() {
        let places = Places::new(2, Arc::default());
        let first = places.take(address("203.0.113.1")).unwrap();
        let _second = places.take(address("::ffff:203.0.113.1")).unwrap();
        assert!(places.take(address("203.0.113.1")).is_none());
        let _other = places.take(address("203.0.113.2")).unwrap();
        drop(first);
        let third = places.take(address("203.0.113.1")).unwrap();
        drop((third, _second, _other));
        assert!(places.taken.lock().unwrap().is_empty());
    }

    #[test]
    fn an_ipv6_network_is_one_client() {
        let places = Places::new(1, Arc::default());
        let _one = places.take(address("2001:db8:0:1::1")).unwrap();
        assert!(places.take(address("2001:db8:0:1:ffff::2")).is_none());
        assert!(places.take(address("2001:db8:0:2::1")).is_some());
    }

    #[test]
    fn trusted_proxies_are_not_counted() {
        let trusted: TrustedProxies = serde_json::from_str(r#"["10.0.0.0/8"]"#).unwrap();
        let places = Places::new(1, Arc::new(trusted));
        let taken: Vec<_> = (0..100).map(|_| places.take(address("10.1.2.3")).unwrap()).collect();
        assert!(places.taken.lock().unwrap().is_empty());
        drop(taken);
    }
}
