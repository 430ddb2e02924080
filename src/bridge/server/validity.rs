//! When a certificate ends: the one thing that operators must know of it, read from its DER (X.509, RFC 5280).
//!
//! Walks to `tbsCertificate.validity.notAfter` and nowhere else; certificates that are no such thing have no end.

use crate::event::time::Timestamp;

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The last instant at which a certificate is valid.
pub(super) fn not_after(certificate: &[u8]) -> Option<Timestamp> {
    let (tbs, _) = expect(SEQUENCE, expect(SEQUENCE, certificate)?.0)?;
    let after_version = match element(tbs)? {
        (VERSION, _, rest) => rest,
        _ => tbs,
    };
    let (_serial, _, rest) = element(after_version)?;
    let (_algorithm, rest) = expect(SEQUENCE, rest)?;
    let (_issuer, rest) = expect(SEQUENCE, rest)?;
    let (validity, _) = expect(SEQUENCE, rest)?;
    let (_, _, rest) = element(validity)?;
    let (tag, time, _) = element(rest)?;
    instant(tag, std::str::from_utf8(time).ok()?)
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ`.
fn instant(tag: u8, text: &str) -> Option<Timestamp> {
    let digits = text.strip_suffix('Z').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    let (century, digits) = match (tag, digits.len()) {
        (UTC_TIME, 12) if digits < "50" => ("20", digits),
        (UTC_TIME, 12) => ("19", digits),
        (GENERALIZED_TIME, 14) => digits.split_at(2),
        _ => return None,
    };
    let part = |at: usize| &digits[at..at + 2];
    let written = format!("{century}{}-{}-{}T{}:{}:{}Z", part(0), part(2), part(4), part(6), part(8), part(10));
    written.parse().ok()
}

/// The content of the first element, which must have this tag, and what follows it.
fn expect(tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = element(bytes)?;
    (found == tag).then_some((content, rest))
}

/// The first element: its tag, its content, what follows it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (size, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
        let fits = (1..=4).contains(&size.len());
        (fits.then(|| size.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)))?, rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(year: i32) -> Vec<u8> {
        let mut parameters = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        parameters.not_after = rcgen::date_time_ymd(year, 3, 4);
        let key = rcgen::KeyPair::generate().unwrap();
        parameters.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn the_end_is_found_in_both_notations() {
        for year in [2031, 2049, 2050, 2100] {
            let expected = format!("{year}-03-04T00:00:00Z").parse().unwrap();
            assert_eq!(not_after(&made(year)), Some(expected));
        }
    }

    #[test]
    fn what_is_no_certificate_has_no_end() {
        let whole = made(2031);
        for length in 0..whole.len() {
            // Cut anywhere; and each byte changed: whatever comes out, it must not panic.
            assert_eq!(not_after(&whole[..length]), None);
            let mut changed = whole.clone();
            changed[length] ^= 0xff;
            std::hint::black_box(not_after(&changed));
        }
        assert_eq!(instant(UTC_TIME, "311399000000Z"), None);
        assert_eq!(instant(GENERALIZED_TIME, "20310304000000"), None);
    }
}
