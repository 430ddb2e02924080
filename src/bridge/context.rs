//! What is known of a request besides what it asks: its id, and the trace it belongs to.
//!
//! The id is made here, answered as `x-request-id` and carried into the message's headers, as is the W3C trace context. A
//! `traceparent` is continued only for secret keys: a browser must not decide what is sampled.

use async_nats::HeaderMap as MessageHeaders;
use axum::http::{HeaderMap, HeaderName};
use uuid::Uuid;

/// The header that a request's id is answered in and carried on in.
pub static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The header of the W3C trace context.
pub const TRACEPARENT: &str = "traceparent";

/// A request's id and trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestContext {
    /// The request's id.
    pub id: Uuid,
    claimed: Option<TraceParent>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TraceParent {
    trace: u128,
    sampled: bool,
}

impl RequestContext {
    /// The context of a request that came just now.
    pub fn of(headers: &HeaderMap) -> Self {
        let claimed = headers.get(TRACEPARENT).and_then(|value| parse(value.to_str().ok()?));
        Self { id: Uuid::now_v7(), claimed }
    }

    /// What a message that follows from this request carries. The trace that the request claims is continued if it is
    /// trusted; else the request begins one that is not sampled.
    pub fn message_headers(&self, trusted: bool) -> MessageHeaders {
        let mut headers = MessageHeaders::new();
        headers.insert(TRACEPARENT, self.traceparent(trusted).as_str());
        headers.insert(REQUEST_ID.as_str(), self.id.simple().to_string().as_str());
        headers
    }

    fn traceparent(&self, trusted: bool) -> String {
        let own = TraceParent { trace: self.id.as_u128(), sampled: false };
        let TraceParent { trace, sampled } = self.claimed.filter(|_| trusted).unwrap_or(own);
        // The span is this request: the random half of its id, which is never 0.
        let span = self.id.as_u64_pair().1;
        format!("00-{trace:032x}-{span:016x}-{:02x}", u8::from(sampled))
    }
}

/// `00-<32 hex>-<16 hex>-<2 hex>`, lower case, neither id zero; later versions may go on after a hyphen.
fn parse(text: &str) -> Option<TraceParent> {
    let mut parts = text.split('-');
    let mut hex = |digits: usize| {
        let part = parts.next().filter(|part| part.len() == digits)?;
        let lower = part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        u128::from_str_radix(part, 16).ok().filter(|_| lower)
    };
    let (version, trace, span, flags) = (hex(2)?, hex(32)?, hex(16)?, hex(2)?);
    let ended = parts.next().is_none();
    (version != 0xff && (version > 0 || ended) && trace != 0 && span != 0)
        .then_some(TraceParent { trace, sampled: flags & 1 == 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(traceparent: &str) -> RequestContext {
        RequestContext::of(&HeaderMap::from_iter([(TRACEPARENT.parse().unwrap(), traceparent.parse().unwrap())]))
    }

    #[test]
    fn only_a_trusted_trace_is_continued() {
        let context = context("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        let continued = context.traceparent(true);
        assert!(continued.starts_with("00-0af7651916cd43dd8448eb211c80319c-") && continued.ends_with("-01"));
        assert!(!continued.contains("b7ad6b7169203331"), "the span is a new one");
        let own = context.traceparent(false);
        assert_eq!(own, format!("00-{}-{:016x}-00", context.id.simple(), context.id.as_u64_pair().1));
    }

    #[test]
    fn malformed_traces_are_no_traces() {
        for text in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert!(parse("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00-more").is_some());
    }
}
