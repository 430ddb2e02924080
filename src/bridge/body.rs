//! Reading request bodies: within sizes, encoded and decoded, and within a time.
//!
//! A body is refused as soon as it is known to be too large: by its Content-Length before anything is read, else at the byte
//! that goes over. What is compressed is bounded twice, as it comes and as it unfolds, so a bomb costs one limit at most.

use std::{io::Read as _, time::Duration};

use axum::{
    body::Body,
    http::{HeaderMap, StatusCode, header},
};
use bytes::{Bytes, BytesMut};
use flate2::read::GzDecoder;
use http_body_util::BodyExt as _;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::error::ApiError;

/// Bodies up to this size are held for nothing: as many as there may be connections.
const FREE_BYTES: usize = 64 * 1024;
/// What all larger bodies of the process may take together, as sent and unpacked.
const BUDGET_BYTES: usize = 256 * 1024 * 1024;
static BUDGET_KIB: Semaphore = Semaphore::const_new(BUDGET_BYTES / 1024);

/// How large a body may be, as sent and unpacked alike, and how long it may take to come.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimits {
    /// In bytes.
    pub bytes: usize,
    /// From the head's end to the body's.
    pub time: Duration,
    /// Whether it may be compressed.
    pub compressed: bool,
}

/// Reads a whole body and unpacks it.
pub async fn read(headers: &HeaderMap, body: Body, limits: BodyLimits) -> Result<Bytes, ApiError> {
    let packed = is_packed(headers, limits)?;
    let declared = declared_length(headers).unwrap_or_default();
    if declared > limits.bytes as u64 {
        return Err(too_large(limits.bytes));
    }
    let late = |_| ApiError::new(StatusCode::REQUEST_TIMEOUT, "body_too_slow", "the body did not come in time");
    let bytes = tokio::time::timeout(limits.time, collect(body, declared, limits.bytes)).await.map_err(late)??;
    if packed { unpack(&bytes, limits.bytes) } else { Ok(bytes) }
}

fn is_packed(headers: &HeaderMap, limits: BodyLimits) -> Result<bool, ApiError> {
    let mut encodings = headers.get_all(header::CONTENT_ENCODING).iter();
    let packed = match (encodings.next(), encodings.next()) {
        (None, _) => false,
        (Some(only), None) if only.as_bytes().eq_ignore_ascii_case(b"identity") => false,
        (Some(only), None)
            if [&b"gzip"[..], b"x-gzip"].iter().any(|known| only.as_bytes().eq_ignore_ascii_case(known)) =>
        {
            true
        }
        _ => return Err(unsupported("the body may be compressed once, with gzip, or not at all")),
    };
    if packed && !limits.compressed {
        return Err(unsupported("the body must not be compressed here"));
    }
    Ok(packed)
}

fn unsupported(detail: &str) -> ApiError {
    ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_encoding", detail)
}

fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

async fn collect(mut body: Body, declared: u64, limit: usize) -> Result<Bytes, ApiError> {
    let mut first = Bytes::new();
    let mut whole = BytesMut::new();
    let mut held = Held::default();
    while let Some(frame) = body.frame().await {
        let torn = |error| {
            ApiError::new(StatusCode::BAD_REQUEST, "body_torn", "the body ended early")
                .because(anyhow::Error::new(error))
        };
        let Ok(data) = frame.map_err(torn)?.into_data() else { continue };
        let length = first.len() + whole.len() + data.len();
        if length > limit {
            return Err(too_large(limit));
        }
        held.grow(length)?;
        // Most bodies come in one piece, which is handed on as it is.
        match (first.is_empty(), whole.is_empty()) {
            (true, true) => first = data,
            (_, empty) => {
                if empty {
                    whole.reserve(usize::try_from(declared).unwrap_or(limit));
                    whole.extend_from_slice(&std::mem::take(&mut first));
                }
                whole.extend_from_slice(&data);
            }
        }
    }
    Ok(held.over(if whole.is_empty() { first } else { whole.freeze() }))
}

/// Unpacks what is whole. Its last four bytes tell the size: a bomb is refused unopened, and one that lies is opened no further
/// than it says.
fn unpack(packed: &[u8], limit: usize) -> Result<Bytes, ApiError> {
    /// Nothing can be packed tighter.
    const TIGHTEST: usize = 1_032;
    let broken = || ApiError::new(StatusCode::BAD_REQUEST, "not_gzip", "the body is not whole gzip, or more than one");
    let told = packed.last_chunk::<4>().map_or(0, |size| u32::from_le_bytes(*size) as usize);
    if told > packed.len() * TIGHTEST {
        return Err(broken());
    }
    if told > limit {
        return Err(too_large(limit));
    }
    let mut held = Held::default();
    held.grow(told)?;
    let mut unpacked = Vec::with_capacity(told);
    let read = GzDecoder::new(packed).take(told as u64 + 1).read_to_end(&mut unpacked);
    read.map_err(|error| broken().because(error))?;
    if unpacked.len() == told { Ok(held.over(unpacked.into())) } else { Err(broken()) }
}

/// A body's part of the budget, given back when the last slice of the body is dropped.
#[derive(Default)]
struct Held(Option<SemaphorePermit<'static>>);

impl Held {
    /// Takes what a body of this length needs, if it is there: waiting would let those who dawdle block everybody.
    fn grow(&mut self, length: usize) -> Result<(), ApiError> {
        let taken = self.0.as_ref().map_or(0, SemaphorePermit::num_permits);
        let more = length.saturating_sub(FREE_BYTES).div_ceil(1024).saturating_sub(taken);
        if more == 0 {
            return Ok(());
        }
        let more = BUDGET_KIB.try_acquire_many(u32::try_from(more).unwrap_or(u32::MAX));
        let more = more.map_err(|_| ApiError::unavailable("too many large bodies at once: try again", 1))?;
        match &mut self.0 {
            Some(permit) => permit.merge(more),
            None => self.0 = Some(more),
        }
        Ok(())
    }

    /// The body that holds its part.
    fn over(self, bytes: Bytes) -> Bytes {
        struct Owner(Bytes, #[expect(dead_code, reason = "held, not read")] SemaphorePermit<'static>);
        impl AsRef<[u8]> for Owner {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }
        match self.0 {
            Some(permit) => Bytes::from_owner(Owner(bytes, permit)),
            None => bytes,
        }
    }
}

fn too_large(limit: usize) -> ApiError {
    let detail = format!("the body has more than the {limit} bytes allowed here, as sent or unpacked");
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    async fn outcome(headers: &[(&'static str, &str)], body: Vec<u8>, bytes: usize) -> Result<usize, String> {
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        let limits = BodyLimits { bytes, time: Duration::from_secs(5), compressed: true };
        // In three pieces.
        let pieces: Vec<Result<Bytes, std::io::Error>> =
            body.chunks(body.len().div_ceil(3).max(1)).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        let body = Body::from_stream(futures_util::stream::iter(pieces));
        read(&headers, body, limits).await.map(|bytes| bytes.len()).map_err(|error| error.code().to_owned())
    }

    #[tokio::test]
    async fn sizes_hold_as_sent_and_as_unpacked() {
        let packed = [("content-encoding", "gzip")];
        assert_eq!(outcome(&[], vec![7; 1_000], 1_000).await, Ok(1_000));
        assert_eq!(outcome(&[], vec![7; 1_001], 1_000).await, Err("body_too_large".to_owned()));
        assert_eq!(outcome(&[("content-length", "1001")], vec![], 1_000).await, Err("body_too_large".to_owned()));
        assert_eq!(outcome(&packed, gzip(&[7; 1_000]), 1_000).await, Ok(1_000));
        assert_eq!(outcome(&packed, gzip(&[7; 1_001]), 1_000).await, Err("body_too_large".to_owned()));
        assert_eq!(outcome(&packed, gzip(&vec![0; 10_000_000]), 20_000).await, Err("body_too_large".to_owned()));
        assert_eq!(outcome(&[], Vec::new(), 10).await, Ok(0));
    }

    #[tokio::test]
    async fn only_whole_single_gzip_is_unpacked() {
        let cut = gzip(&[7; 1_000]);
        assert_eq!(
            outcome(&[("content-encoding", "gzip")], cut[..cut.len() - 3].to_vec(), 5_000).await,
            Err("not_gzip".to_owned())
        );
        assert_eq!(outcome(&[("content-encoding", "gzip")], b"{}".to_vec(), 5_000).await, Err("not_gzip".to_owned()));
        let two = [gzip(&[7; 1_000]), gzip(&[7; 500])].concat();
        let mut liar = gzip(&vec![0; 1_000_000]);
        let at = liar.len() - 4;
        liar[at..].copy_from_slice(&5_u32.to_le_bytes());
        for body in [two, liar, [gzip(b"{}"), vec![0; 4]].concat(), b"\x1f\x8b".to_vec(), Vec::new()] {
            let refused = outcome(&[("content-encoding", "gzip")], body, 5_000).await;
            assert_eq!(refused, Err("not_gzip".to_owned()));
        }
        for encoding in ["br", "gzip, gzip", "deflate", ""] {
            let refused = outcome(&[("content-encoding", encoding)], gzip(b"{}"), 5_000).await;
            assert_eq!(refused, Err("unsupported_encoding".to_owned()), "{encoding}");
        }
        assert_eq!(outcome(&[("content-encoding", "identity")], b"{}".to_vec(), 5_000).await, Ok(2));
    }

    #[test]
    fn large_bodies_share_a_budget_and_small_ones_do_not() {
        let whole = BUDGET_KIB.available_permits();
        let mut held = Held::default();
        held.grow(FREE_BYTES).unwrap();
        assert!(held.0.is_none());
        held.grow(FREE_BYTES + 1).unwrap();
        held.grow(FREE_BYTES + 10 * 1024).unwrap();
        held.grow(FREE_BYTES).unwrap();
        assert_eq!(BUDGET_KIB.available_permits(), whole - 10);
        let body = held.over(Bytes::from_static(b"0123456789"));
        let slice = body.slice(2..4);
        drop(body);
        assert_eq!((&slice[..], BUDGET_KIB.available_permits()), (&b"23"[..], whole - 10));
        drop(slice);
        assert_eq!(BUDGET_KIB.available_permits(), whole);
        let mut all = Held::default();
        all.grow(BUDGET_BYTES + FREE_BYTES).unwrap();
        assert_eq!(Held::default().grow(FREE_BYTES + 1).unwrap_err().code(), "unavailable");
        Held::default().grow(FREE_BYTES).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_end_is_given_up() {
        let limits = BodyLimits { bytes: 10, time: Duration::from_secs(15), compressed: false };
        let endless = Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>());
        let error = read(&HeaderMap::new(), endless, limits).await.unwrap_err();
        assert_eq!(error.code(), "body_too_slow");
    }
}
