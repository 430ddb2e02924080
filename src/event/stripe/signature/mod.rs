//! Who sent a webhook: Stripe's signature over the time and the raw body (`Stripe-Signature: t=…,v1=…`).
//!
//! Every `v1` is compared with the signature by every secret, in constant time: during a roll Stripe signs with the old and
//! the new one, and an account may have several endpoints. Knows no account and no clock.
//!
//! Decisions, where Stripe's own libraries differ:
//! - A time in the future is refused like one in the past: a stolen signature must not be kept for later.
//! - The time is digits, once. Two of them could be read in two ways.
//! - Hexadecimal digits may be upper case, and spaces may stand around the parts: neither changes what was signed.
//! - What cannot be decoded next to a good signature is passed over, as other schemes (`v0`) are.
//! - The whole text of a secret is the key, `whsec_` too; an empty one signs nothing.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::{Choice, ConstantTimeEq};

use crate::event::time::Timestamp;

/// How far the time of a signature may lie from ours, to both sides.
const TOLERANCE_MILLIS: i64 = 300_000;
/// A header longer than this is none of Stripe's.
const MAX_HEADER_BYTES: usize = 4_096;
/// The digits of the largest time that is looked at: it lies 300 centuries ahead.
const MAX_TIME_DIGITS: usize = 12;
const SIGNATURE_BYTES: usize = 32;

/// Why a webhook is not proven to come from Stripe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSignature {
    /// The header has no time.
    #[error("the header Stripe-Signature has no time `t`")]
    NoTime,
    /// The header has several.
    #[error("the header Stripe-Signature has more than one time `t`")]
    RepeatedTime,
    /// The time is not one.
    #[error("the time `t` of the header Stripe-Signature is not in whole seconds")]
    InvalidTime,
    /// The header is longer than any of Stripe's.
    #[error("the header Stripe-Signature is too long")]
    TooLong,
    /// There is no signature of the scheme that is checked.
    #[error("the header Stripe-Signature has no signature of the scheme `v1`")]
    NoSignature,
    /// There is no secret to check with.
    #[error("the account has no signing secret")]
    NoSecret,
    /// None of the signatures was made with one of the secrets over this body.
    #[error("no signature matches: another endpoint's secret, or the body was changed on its way")]
    Mismatch,
    /// Signed too long ago.
    #[error("the signature is {seconds} s old, which is more than 300: is it a replay, or a clock wrong?")]
    TooOld {
        /// How long ago.
        seconds: i64,
    },
    /// Signed in the future.
    #[error("the signature lies {seconds} s in the future, which is more than 300: is a clock wrong?")]
    TooNew {
        /// How far ahead.
        seconds: i64,
    },
}

impl InvalidSignature {
    /// Names it in answers and metrics.
    pub fn code(self) -> &'static str {
        match self {
            Self::NoTime => "no_time",
            Self::RepeatedTime => "repeated_time",
            Self::InvalidTime => "invalid_time",
            Self::TooLong => "header_too_long",
            Self::NoSignature => "no_signature",
            Self::NoSecret => "no_secret",
            Self::Mismatch => "signature_mismatch",
            Self::TooOld { .. } => "too_old",
            Self::TooNew { .. } => "too_new",
        }
    }
}

/// What the header says.
struct Header<'a> {
    /// As it was signed.
    time: &'a str,
    at: Timestamp,
    signatures: Vec<[u8; SIGNATURE_BYTES]>,
}

/// Which of the secrets the webhook was signed with.
pub fn verify<S: AsRef<str>>(
    header: &str,
    body: &[u8],
    secrets: &[S],
    now: Timestamp,
) -> Result<usize, InvalidSignature> {
    let header = Header::read(header)?;
    let mut matched = None;
    let mut tried = false;
    for (index, secret) in secrets.iter().enumerate().filter(|(_, secret)| !secret.as_ref().is_empty()) {
        tried = true;
        let expected = signature(secret.as_ref(), header.time, body);
        // All are compared, whichever matched: how long it takes tells nothing of the secrets.
        let any = header.signatures.iter().fold(Choice::from(0), |any, given| any | given.ct_eq(&expected));
        matched = matched.or(bool::from(any).then_some(index));
    }
    let matched = matched.ok_or(if tried { InvalidSignature::Mismatch } else { InvalidSignature::NoSecret })?;
    let age = now.millis_since(header.at);
    if age > TOLERANCE_MILLIS {
        Err(InvalidSignature::TooOld { seconds: age / 1_000 })
    } else if age < -TOLERANCE_MILLIS {
        Err(InvalidSignature::TooNew { seconds: -age / 1_000 })
    } else {
        Ok(matched)
    }
}

/// The header that Stripe would send with a body: for trying things out.
pub fn header_for(secret: &str, body: &[u8], at: Timestamp) -> String {
    let time = at.millis().div_euclid(1_000).to_string();
    format!("t={time},v1={}", hex::encode(signature(secret, &time, body)))
}

fn signature(secret: &str, time: &str, body: &[u8]) -> [u8; SIGNATURE_BYTES] {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("a key may have any length");
    mac.update(time.as_bytes());
    mac.update(b".");
    mac.update(body);
    mac.finalize().into_bytes().into()
}

impl<'a> Header<'a> {
    fn read(text: &'a str) -> Result<Self, InvalidSignature> {
        if text.len() > MAX_HEADER_BYTES {
            return Err(InvalidSignature::TooLong);
        }
        let mut time = None;
        let mut signatures = Vec::new();
        let mut is_signed = false;
        for (scheme, value) in text.split(',').filter_map(|part| part.trim_matches([' ', '\t']).split_once('=')) {
            match scheme {
                "t" if time.replace(value).is_some() => return Err(InvalidSignature::RepeatedTime),
                "v1" => {
                    is_signed = true;
                    let mut bytes = [0; SIGNATURE_BYTES];
                    if hex::decode_to_slice(value, &mut bytes).is_ok() {
                        signatures.push(bytes);
                    }
                }
                _ => {}
            }
        }
        let time = time.ok_or(InvalidSignature::NoTime)?;
        let digits = (1..=MAX_TIME_DIGITS).contains(&time.len()) && time.bytes().all(|byte| byte.is_ascii_digit());
        let seconds = digits.then(|| time.parse().ok()).flatten().ok_or(InvalidSignature::InvalidTime)?;
        if !is_signed {
            return Err(InvalidSignature::NoSignature);
        }
        Ok(Self { time, at: Timestamp::from_seconds(seconds), signatures })
    }
}

#[cfg(test)]
mod tests;
