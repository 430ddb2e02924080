//! Identifiers: accounts, customers, partitions, sequences. Each is a type of its own, so none can stand for another.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A tenant's short name: 1 to 32 characters of `[a-z0-9_-]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct AccountId(Box<str>);

/// Why a text is not an account's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an account is 1 to 32 characters of a-z, 0-9, `_` and `-`")]
pub struct InvalidAccount;

impl AccountId {
    /// Checks `text` and takes it over.
    pub fn parse(text: &str) -> Result<Self, InvalidAccount> {
        let valid = (1..=32).contains(&text.len())
            && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'));
        if valid { Ok(Self(text.into())) } else { Err(InvalidAccount) }
    }

    /// The name as text, valid as one subject token.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for AccountId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// A customer as its account names it: any UTF-8 text of 1 to 255 bytes without NUL, which no body and no token can spell.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, utoipa::ToSchema)]
#[serde(transparent)]
#[schema(value_type = String, min_length = 1, max_length = 255)]
pub struct CustomerId(Box<str>);

/// Why a text is not a customer's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a customer id is 1 to 255 bytes of UTF-8, and none of them NUL")]
pub struct InvalidCustomer;

impl CustomerId {
    /// Checks `text` and takes it over.
    pub fn parse(text: &str) -> Result<Self, InvalidCustomer> {
        if (1..=255).contains(&text.len()) && !text.contains('\0') {
            Ok(Self(text.into()))
        } else {
            Err(InvalidCustomer)
        }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CustomerId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// One of the partitions that the event stream is split into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PartitionId(pub u16);

impl fmt::Display for PartitionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "p{:03}", self.0)
    }
}

/// A message's position in its stream, counted by the server from 1; 0 stands before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StreamSequence(pub u64);

impl fmt::Display for StreamSequence {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0)
    }
}

/// The generation of a lease: it grows with each change of owner, and writes of older ones are refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0)
    }
}

/// 48 bits of an id's XXH3 hash: what a customer's state keeps to recognize a repeat.
///
/// Not cryptographic: whoever can publish for a customer can only make its own events look like repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdHash(u64);

impl IdHash {
    /// How many bytes of the hash are kept.
    pub const BYTES: usize = 6;

    /// Hashes an id's text.
    pub fn of(id: &str) -> Self {
        Self::from_bits(xxhash_rust::xxh3::xxh3_64(id.as_bytes()))
    }

    /// The bits, in the lower 48.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// Takes a hash back from its bits; higher bits are cut off.
    pub fn from_bits(bits: u64) -> Self {
        Self(bits & ((1 << (8 * Self::BYTES)) - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_customer_is_named_as_bodies_and_tokens_can_spell_it() {
        for id in ["a", "Zoë & Söhne", " ", "a\u{1}b", &"x".repeat(255)] {
            assert_eq!(CustomerId::parse(id).unwrap().as_str(), id);
        }
        for id in ["", "a\0b", "\0", &"x".repeat(256)] {
            assert!(CustomerId::parse(id).is_err(), "{id:?}");
        }
    }
}
