//! The reply subject of a delivered message, which says where the message stands.
//!
//! `$JS.ACK.<stream>.<consumer>.<deliveries>.<stream sequence>.<consumer sequence>.<stored, ns>.<pending>`, or with
//! `<domain>.<account hash>` after `$JS.ACK` and a random token at the end.

use crate::event::time::Timestamp;

const PREFIX: &str = "$JS.ACK.";
const SHORT: usize = 7;
const LONG: usize = 10;
const NANOS_PER_MILLI: u64 = 1_000_000;

/// Where a delivered message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Delivery {
    pub(super) stream_sequence: u64,
    pub(super) consumer_sequence: u64,
    pub(super) stored_at: Timestamp,
    pub(super) pending: u64,
}

impl Delivery {
    /// Reads a reply subject; `None` if it is not one of JetStream's. Allocates nothing.
    pub(super) fn parse(reply: &str) -> Option<Self> {
        let rest = reply.strip_prefix(PREFIX)?;
        let mut tokens = rest.split('.');
        match rest.bytes().filter(|byte| *byte == b'.').count() + 1 {
            SHORT => Self::read(tokens.nth(1).map(|_| tokens)?),
            count if count >= LONG - 1 => Self::read(tokens.nth(3).map(|_| tokens)?),
            _ => None,
        }
    }

    /// Reads the numbers from the count of deliveries on.
    fn read<'a>(mut tokens: impl Iterator<Item = &'a str>) -> Option<Self> {
        let _deliveries = number(tokens.next()?)?;
        let stream_sequence = number(tokens.next()?)?;
        let consumer_sequence = number(tokens.next()?)?;
        let stored = i64::try_from(number(tokens.next()?)? / NANOS_PER_MILLI).ok()?;
        let pending = number(tokens.next()?)?;
        Some(Self { stream_sequence, consumer_sequence, stored_at: Timestamp::from_millis(stored), pending })
    }
}

fn number(token: &str) -> Option<u64> {
    if token.is_empty() || token.len() > 19 {
        return token.parse().ok();
    }
    let mut value = 0_u64;
    for byte in token.bytes() {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + u64::from(digit);
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected() -> Delivery {
        Delivery {
            stream_sequence: 45,
            consumer_sequence: 7,
            stored_at: Timestamp::from_millis(1_784_000_000_123),
            pending: 99,
        }
    }

    #[test]
    fn both_forms_are_read() {
        let short = "$JS.ACK.CHURN_EVENTS.churnd-p007-e42-r1.1.45.7.1784000000123456789.99";
        let long = "$JS.ACK.hub.AbCdEf12.CHURN_EVENTS.churnd-p007-e42-r1.1.45.7.1784000000123456789.99.x7Yz";
        let long_without_token = "$JS.ACK._.AbCdEf12.CHURN_EVENTS.c.1.45.7.1784000000123456789.99";
        assert_eq!(Delivery::parse(short), Some(expected()));
        assert_eq!(Delivery::parse(long), Some(expected()));
        assert_eq!(Delivery::parse(long_without_token), Some(expected()));
    }

    #[test]
    fn anything_else_is_not_a_delivery() {
        for reply in
            ["", "_INBOX.a.b", "$JS.ACK.", "$JS.ACK.s.c.1.2.3.4", "$JS.ACK.s.c.1.2.x.4.5", "$JS.ACK.s.c.1.2.3.4.5.6"]
        {
            assert_eq!(Delivery::parse(reply), None, "{reply}");
        }
        assert_eq!(number("18446744073709551615"), Some(u64::MAX));
        assert_eq!(number("18446744073709551616"), None);
    }
}
