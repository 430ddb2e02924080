//! Subjects: how accounts and customers stand in NATS subjects and keys, and which partition they belong to.
//!
//! A customer's token is its id with every byte but `[A-Za-z0-9_-]` written as `=XX`. Each id has exactly one token and
//! each token at most one id: a token that could have been written otherwise is refused, so no customer has two states.
//! Ids whose token would be longer than 128 bytes stand as `=h` and a hash; their full id travels in the event's body.
//!
//! Invariant: every subject made here is valid in NATS, and a token is valid as a part of a KV key.

use std::{
    fmt::{self, Write as _},
    str,
};

use data_encoding::BASE32_NOPAD;
use sha2::{Digest, Sha256};

use super::ids::{AccountId, CustomerId, PartitionId};

/// The longest token that spells the id out; longer ones are hashed.
pub const MAX_TOKEN_BYTES: usize = 128;

const HASHED_PREFIX: &str = "=h";
/// 160 bits, five a character.
const HASH_CHARACTERS: usize = 32;
/// What stands for a token that cannot be part of a subject.
const UNREADABLE: &str = "_";

/// A customer as a subject token: canonical, 1 to 128 characters of `[A-Za-z0-9_=-]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(Box<str>);

impl Token {
    /// Checks that `text` is canonical and takes it over.
    pub fn parse(text: &str) -> Result<Self, InvalidToken> {
        decode(text).map(|_| Self(text.into()))
    }

    /// The token as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Token {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// What a token says of the customer's id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecodedToken {
    /// The token spells the id out.
    Plain(CustomerId),
    /// The token is a hash: the id must stand in the body.
    Hashed,
}

/// Why a text is not a customer's token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidToken {
    /// Nothing at all.
    #[error("it is empty")]
    Empty,
    /// Longer than a token may be: such an id is hashed.
    #[error("it has more than {MAX_TOKEN_BYTES} bytes: write `=h` and the id's hash instead")]
    TooLong,
    /// A byte that must be escaped.
    #[error("byte {position} is not of A-Z, a-z, 0-9, `_` and `-`: write it as `=XX`")]
    Unescaped {
        /// Where, counted from 0.
        position: usize,
    },
    /// `=` without two upper-case hexadecimal digits.
    #[error("the `=` at byte {position} is not followed by two digits of 0-9 and A-F")]
    BadEscape {
        /// Where, counted from 0.
        position: usize,
    },
    /// An escape of a byte that stands for itself.
    #[error("the escape at byte {position} is needless: that character stands for itself")]
    NeedlessEscape {
        /// Where, counted from 0.
        position: usize,
    },
    /// The escapes do not spell UTF-8.
    #[error("it does not spell UTF-8")]
    NotUtf8,
    /// NUL, which Postgres cannot store in a text.
    #[error("it spells a NUL character, which no customer id may contain")]
    Nul,
    /// `=h` without 32 characters of base 32.
    #[error("`=h` is not followed by 32 characters of A-Z and 2-7")]
    BadHash,
}

/// The one token of a customer.
pub fn encode(customer: &CustomerId) -> Token {
    let id = customer.as_str();
    let escapes = id.bytes().filter(|&byte| !stands_for_itself(byte)).count();
    if escapes == 0 && id.len() <= MAX_TOKEN_BYTES {
        return Token(id.into());
    }
    if id.len() + 2 * escapes > MAX_TOKEN_BYTES {
        return hash(id);
    }
    let mut token = String::with_capacity(id.len() + 2 * escapes);
    for byte in id.bytes() {
        if stands_for_itself(byte) {
            token.push(char::from(byte));
        } else {
            token.push('=');
            token.push(hex_digit(byte >> 4));
            token.push(hex_digit(byte & 0x0f));
        }
    }
    Token(token.into())
}

/// Reads a token back; refuses what [`encode`] would not have written.
pub fn decode(token: &str) -> Result<DecodedToken, InvalidToken> {
    let bytes = token.as_bytes();
    match bytes.len() {
        0 => return Err(InvalidToken::Empty),
        1..=MAX_TOKEN_BYTES => {}
        _ => return Err(InvalidToken::TooLong),
    }
    if let Some(hash) = token.strip_prefix(HASHED_PREFIX) {
        let valid = hash.len() == HASH_CHARACTERS && hash.bytes().all(|byte| matches!(byte, b'A'..=b'Z' | b'2'..=b'7'));
        return if valid { Ok(DecodedToken::Hashed) } else { Err(InvalidToken::BadHash) };
    }
    if bytes.iter().all(|&byte| stands_for_itself(byte)) {
        return Ok(DecodedToken::Plain(customer(token)));
    }
    let id = unescape(bytes)?;
    let id = str::from_utf8(&id).map_err(|_| InvalidToken::NotUtf8)?;
    if id.contains('\0') {
        return Err(InvalidToken::Nul);
    }
    Ok(DecodedToken::Plain(customer(id)))
}

fn unescape(bytes: &[u8]) -> Result<Vec<u8>, InvalidToken> {
    let mut id = Vec::with_capacity(bytes.len());
    let mut position = 0;
    while let Some(&byte) = bytes.get(position) {
        if byte == b'=' {
            let byte = escaped(bytes, position).ok_or(InvalidToken::BadEscape { position })?;
            if stands_for_itself(byte) {
                return Err(InvalidToken::NeedlessEscape { position });
            }
            id.push(byte);
            position += 3;
        } else if stands_for_itself(byte) {
            id.push(byte);
            position += 1;
        } else {
            return Err(InvalidToken::Unescaped { position });
        }
    }
    Ok(id)
}

fn escaped(bytes: &[u8], position: usize) -> Option<u8> {
    let high = hex_value(*bytes.get(position + 1)?)?;
    let low = hex_value(*bytes.get(position + 2)?)?;
    Some(high << 4 | low)
}

fn customer(id: &str) -> CustomerId {
    CustomerId::parse(id).expect("a token of 1 to 128 bytes spells an id of 1 to 128 bytes")
}

fn hash(id: &str) -> Token {
    let digest = Sha256::digest(id.as_bytes());
    Token(format!("{HASHED_PREFIX}{}", BASE32_NOPAD.encode(&digest[..20])).into())
}

fn stands_for_itself(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

fn hex_digit(value: u8) -> char {
    char::from(b"0123456789ABCDEF"[usize::from(value)])
}

fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// Where a customer's events are published.
pub fn event_subject(account: &AccountId, token: &(impl AsRef<str> + ?Sized)) -> String {
    format!("churn.events.{account}.{}", token.as_ref())
}

/// Where an account's Stripe webhooks are published.
pub fn webhook_subject(account: &AccountId) -> String {
    format!("churn.webhooks.stripe.{account}")
}

/// Where one alert is published: a subject of its own, for ever.
pub fn alert_subject(account: &AccountId, level: &str, token: &(impl AsRef<str> + ?Sized), alert_id: &str) -> String {
    format!("churn.alerts.{account}.{level}.{}.{alert_id}", token.as_ref())
}

/// Where a message that could not be used is kept; parts that fit no subject stand as `_`.
pub fn dead_subject(account: &str, token: &str) -> String {
    format!("churn.dead.{}.{}", readable(account), readable(token))
}

fn readable(token: &str) -> &str {
    let fits = (1..=MAX_TOKEN_BYTES).contains(&token.len())
        && token.bytes().all(|byte| stands_for_itself(byte) || byte == b'=');
    if fits { token } else { UNREADABLE }
}

/// Where a customer's risk is asked for.
pub fn risk_subject(account: &AccountId, token: &(impl AsRef<str> + ?Sized)) -> String {
    format!("churn.risk.{account}.{}", token.as_ref())
}

/// A customer's key in the KV bucket of current scores.
pub fn kv_key(account: &AccountId, token: &(impl AsRef<str> + ?Sized)) -> String {
    let mut key = String::with_capacity(account.as_str().len() + 1 + token.as_ref().len());
    write!(key, "{account}.{}", token.as_ref()).expect("writing to a String never fails");
    key
}

/// An event's subject as the stream stores it, `churn.p.<n>.<account>.<token>`, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionedSubject<'a> {
    /// The partition.
    pub partition: PartitionId,
    /// The account, not checked.
    pub account: &'a str,
    /// The customer's token, not checked.
    pub token: &'a str,
    /// `<account>.<token>`.
    pub key: &'a str,
}

/// Takes a stored subject apart; `None` for any other form.
pub fn parse_partitioned(subject: &str) -> Option<PartitionedSubject<'_>> {
    let (partition, key) = split_at_dot(subject.strip_prefix("churn.p.")?)?;
    let (account, token) = split_at_dot(key)?;
    if account.is_empty() || token.is_empty() || token.bytes().any(|byte| byte == b'.') {
        return None;
    }
    Some(PartitionedSubject { partition: PartitionId(decimal(partition)?), account, token, key })
}

/// What stands before and after the first dot. Subjects are short: a plain loop is done before a search has begun.
fn split_at_dot(text: &str) -> Option<(&str, &str)> {
    let dot = text.bytes().position(|byte| byte == b'.')?;
    Some((&text[..dot], &text[dot + 1..]))
}

/// A decimal number as the server writes it: digits only, no leading zero.
fn decimal(text: &str) -> Option<u16> {
    let canonical = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if canonical { text.parse().ok() } else { None }
}

/// The partition that the server's `partition(N, 1, 2)` gives a customer: FNV-1a over account and token, modulo N.
pub fn partition_of(account: &str, token: &str, partitions: u16) -> PartitionId {
    let hash = account
        .bytes()
        .chain(token.bytes())
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let partition = hash % u32::from(partitions.max(1));
    PartitionId(u16::try_from(partition).expect("a remainder is less than its 16-bit divisor"))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn id(text: &str) -> CustomerId {
        CustomerId::parse(text).unwrap()
    }

    fn account(text: &str) -> AccountId {
        AccountId::parse(text).unwrap()
    }

    #[test]
    fn tokens_spell_ids() {
        for (text, token) in [
            ("customer-42", "customer-42"),
            ("A_b-9", "A_b-9"),
            ("jane@example.com", "jane=40example=2Ecom"),
            ("a b", "a=20b"),
            ("a=b", "a=3Db"),
            ("=h", "=3Dh"),
            ("café", "caf=C3=A9"),
            ("😀", "=F0=9F=98=80"),
            ("\n", "=0A"),
            (">", "=3E"),
            ("*", "=2A"),
        ] {
            assert_eq!(encode(&id(text)).as_str(), token);
            assert_eq!(decode(token), Ok(DecodedToken::Plain(id(text))));
        }
    }

    #[test]
    fn long_ids_are_hashed() {
        let longest = "x".repeat(128);
        assert_eq!(encode(&id(&longest)).as_str(), longest);
        let hashed = encode(&id(&"x".repeat(129)));
        assert_eq!(hashed.as_str().len(), 34);
        assert!(hashed.as_str().starts_with("=h"));
        assert_eq!(decode(hashed.as_str()), Ok(DecodedToken::Hashed));
        assert_eq!(encode(&id(&"é".repeat(21))).as_str().len(), 126);
        assert_eq!(encode(&id(&"é".repeat(22))).as_str().len(), 34);
        // Worked out apart: base32 of the first 20 bytes of the SHA-256 of 255 times `a`.
        assert_eq!(encode(&id(&"a".repeat(255))).as_str(), HASH_OF_255_A);
    }

    const HASH_OF_255_A: &str = "=hWDZTEPT2HSWYVZTXQNAMYKQXVYGLGHEB";

    #[test]
    fn tokens_that_could_be_written_otherwise_are_refused() {
        for (token, error) in [
            ("", InvalidToken::Empty),
            ("a b", InvalidToken::Unescaped { position: 1 }),
            ("a.b", InvalidToken::Unescaped { position: 1 }),
            ("é", InvalidToken::Unescaped { position: 0 }),
            ("=2e", InvalidToken::BadEscape { position: 0 }),
            ("ab=", InvalidToken::BadEscape { position: 2 }),
            ("ab=4", InvalidToken::BadEscape { position: 2 }),
            ("=41", InvalidToken::NeedlessEscape { position: 0 }),
            ("x=5F", InvalidToken::NeedlessEscape { position: 1 }),
            ("=C3", InvalidToken::NotUtf8),
            ("a=00", InvalidToken::Nul),
            ("=C0=80", InvalidToken::NotUtf8),
            ("=h", InvalidToken::BadHash),
            ("=hello", InvalidToken::BadHash),
            ("=haaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", InvalidToken::BadHash),
            ("=h11111111111111111111111111111111", InvalidToken::BadHash),
        ] {
            assert_eq!(decode(token), Err(error), "{token}");
            assert_eq!(Token::parse(token), Err(error), "{token}");
        }
        assert_eq!(decode(&"x".repeat(129)), Err(InvalidToken::TooLong));
    }

    #[test]
    fn subjects_are_the_contract() {
        let (acme, token) = (account("acme"), encode(&id("a@b")));
        assert_eq!(event_subject(&acme, &token), "churn.events.acme.a=40b");
        assert_eq!(event_subject(&acme, "a"), "churn.events.acme.a");
        assert_eq!(webhook_subject(&acme), "churn.webhooks.stripe.acme");
        assert_eq!(alert_subject(&acme, "high", &token, "01"), "churn.alerts.acme.high.a=40b.01");
        assert_eq!(dead_subject("acme", "a=40b"), "churn.dead.acme.a=40b");
        assert_eq!(dead_subject("", "a b"), "churn.dead._._");
        assert_eq!(dead_subject("*", &"x".repeat(500)), "churn.dead._._");
        assert_eq!(risk_subject(&acme, &token), "churn.risk.acme.a=40b");
        assert_eq!(kv_key(&acme, &token), "acme.a=40b");
    }

    #[test]
    fn stored_subjects_are_taken_apart() {
        assert_eq!(
            parse_partitioned("churn.p.13.acme.a=40b"),
            Some(PartitionedSubject { partition: PartitionId(13), account: "acme", token: "a=40b", key: "acme.a=40b" })
        );
        assert_eq!(parse_partitioned("churn.p.0.a.b").map(|parts| parts.partition), Some(PartitionId(0)));
        for other in [
            "",
            "churn.p",
            "churn.p.",
            "churn.p.1",
            "churn.p.1.a",
            "churn.p.1.a.",
            "churn.p.1..b",
            "churn.p..a.b",
            "churn.p.1.a.b.c",
            "churn.p.01.a.b",
            "churn.p.+1.a.b",
            "churn.p.-1.a.b",
            "churn.p.65536.a.b",
            "churn.p.x.a.b",
            "churn.events.a.b",
            "xchurn.p.1.a.b",
        ] {
            assert_eq!(parse_partitioned(other), None, "{other}");
        }
    }

    /// Stored by nats-server 2.15.1 in a stream that transforms `churn.events.*.*` by `partition(16,1,2)`.
    #[test]
    fn partitions_are_those_of_the_server() {
        let z = "Z".repeat(128);
        for (account, token, partition) in [
            ("a", "b", 10),
            ("acme", "c1", 15),
            ("acme", "c2", 2),
            ("acme", "customer-42", 0),
            ("acme", "0", 13),
            ("acme", "1", 10),
            ("acme", "2", 7),
            ("acme", "3", 4),
            ("demo", "user_1", 9),
            ("demo", "user_2", 0),
            ("demo", "=40", 13),
            ("demo", "jane=40example=2Ecom", 2),
            ("demo", "caf=C3=A9", 2),
            ("demo", "a=20b", 8),
            ("x", "y", 10),
            ("xy", "z", 0),
            ("x", "yz", 0),
            ("globex", "00000000-0000-0000-0000-000000000000", 10),
            ("globex", "7f9c24e8-3b12-4fef-91e0-56a2d5a1c7b3", 14),
            ("a-b_c", "D-E_F", 0),
            ("0", "0", 13),
            ("tenant-with-a-name-of-32-charac_", &z, 10),
            ("initech", "=hAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", 4),
            ("initech", "=F0=9F=98=80", 15),
        ] {
            assert_eq!(partition_of(account, token, 16), PartitionId(partition), "{account} {token}");
        }
    }

    #[test]
    fn doubling_the_partitions_splits_each_in_two() {
        for number in 0..1_000 {
            let token = format!("c{number}");
            let (of_16, of_32) = (partition_of("acme", &token, 16).0, partition_of("acme", &token, 32).0);
            assert!(of_32 == of_16 || of_32 == of_16 + 16);
        }
    }

    proptest! {
        #[test]
        fn tokens_round_trip(text in "\\PC{1,60}|[\\x01-\\x7f]{1,255}|[a-z.@=]{1,140}") {
            prop_assume!((1..=255).contains(&text.len()));
            let token = encode(&id(&text));
            prop_assert!((1..=MAX_TOKEN_BYTES).contains(&token.as_str().len()));
            prop_assert!(token.as_str().bytes().all(|byte| stands_for_itself(byte) || byte == b'='));
            prop_assert_eq!(&Token::parse(token.as_str()).unwrap(), &token);
            match decode(token.as_str()).unwrap() {
                DecodedToken::Plain(back) => prop_assert_eq!(back.as_str(), text),
                DecodedToken::Hashed => prop_assert_eq!(&hash(&text), &token),
            }
        }

        #[test]
        fn accepted_tokens_are_canonical(token in "[A-F0-9a-h=_.-]{0,40}|(=[0-9A-F]{2}|[a-z]){1,20}") {
            if let Ok(DecodedToken::Plain(id)) = decode(&token) {
                prop_assert_eq!(encode(&id).as_str().to_owned(), token);
            }
        }

        #[test]
        fn different_ids_have_different_tokens(ids in proptest::collection::vec("[aA=@ 4\u{e9}]{1,3}", 2..60)) {
            let mut seen = HashMap::new();
            for text in ids {
                let before = seen.insert(encode(&id(&text)), text.clone());
                prop_assert!(before.is_none_or(|other| other == text));
            }
        }

        #[test]
        fn any_text_is_parsed_or_refused(text in ".{0,60}|churn\\.p\\.[0-9]{0,6}\\..{0,20}") {
            if let Some(parts) = parse_partitioned(&text) {
                prop_assert_eq!(format!("churn.p.{}.{}.{}", parts.partition.0, parts.account, parts.token), text);
            }
        }
    }
}
