//! Free loopback ports for servers.

use std::net::{Ipv4Addr, TcpListener};

/// Where ports are looked for: below the range from which the kernel gives source ports to outgoing connections. A port
/// out of that range could be taken by any client while its server is down, even by one that tries to reach it.
const RANGE: std::ops::Range<u16> = 10_000..32_000;

/// A port that nobody listens on at this moment.
pub(super) fn free() -> u16 {
    let candidates = std::iter::repeat_with(random).take(200);
    candidates.into_iter().find(|port| is_free(*port)).unwrap_or_else(any_of_the_kernel)
}

fn random() -> u16 {
    let bytes = *uuid::Uuid::new_v4().as_bytes();
    RANGE.start + u16::from_be_bytes([bytes[0], bytes[1]]) % (RANGE.end - RANGE.start)
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

fn any_of_the_kernel() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
    listener.local_addr().expect("a bound socket has an address").port()
}
