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

use super::error::ApiError;

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
    if declared_length(headers).is_some_and(|length| length > limits.bytes as u64) {
        return Err(too_large(limits.bytes));
    }
    let late = |_| ApiError::new(StatusCode::REQUEST_TIMEOUT, "body_too_slow", "the body did not come in time");
    let bytes = tokio::time::timeout(limits.time, collect(body, limits.bytes)).await.map_err(late)??;
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

async fn collect(mut body: Body, limit: usize) -> Result<Bytes, ApiError> {
    let mut first = Bytes::new();
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let torn = |error| {
            ApiError::new(StatusCode::BAD_REQUEST, "body_torn", "the body ended early")
                .because(anyhow::Error::new(error))
        };
        let Ok(data) = frame.map_err(torn)?.into_data() else { continue };
        if first.len() + whole.len() + data.len() > limit {
            return Err(too_large(limit));
        }
        // Most bodies come in one piece, which is handed on as it is.
        match (first.is_empty(), whole.is_empty()) {
            (true, true) => first = data,
            (_, empty) => {
                if empty {
                    whole.extend_from_slice(&std::mem::take(&mut first));
                }
                whole.extend_from_slice(&data);
            }
        }
    }
    Ok(if whole.is_empty() { first } else { whole.freeze() })
}

fn unpack(packed: &[u8], limit: usize) -> Result<Bytes, ApiError> {
    let mut unpacked = Vec::with_capacity(packed.len().saturating_mul(4).min(limit + 1));
    let broken = |error: std::io::Error| {
        ApiError::new(StatusCode::BAD_REQUEST, "not_gzip", "the body is not whole gzip").because(error)
    };
    GzDecoder::new(packed).take(limit as u64 + 1).read_to_end(&mut unpacked).map_err(broken)?;
    if unpacked.len() > limit { Err(too_large(limit)) } else { Ok(unpacked.into()) }
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
        for encoding in ["br", "gzip, gzip", "deflate", ""] {
            let refused = outcome(&[("content-encoding", encoding)], gzip(b"{}"), 5_000).await;
            assert_eq!(refused, Err("unsupported_encoding".to_owned()), "{encoding}");
        }
        assert_eq!(outcome(&[("content-encoding", "identity")], b"{}".to_vec(), 5_000).await, Ok(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_end_is_given_up() {
        let limits = BodyLimits { bytes: 10, time: Duration::from_secs(15), compressed: false };
        let endless = Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>());
        let error = read(&HeaderMap::new(), endless, limits).await.unwrap_err();
        assert_eq!(error.code(), "body_too_slow");
    }
}
