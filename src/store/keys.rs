//! API keys: how they are made and checked without a database, and how they are stored.
//!
//! A key is `pk_` or `sk_`, 32 random characters of `[0-9A-Za-z]` (190 bits from the operating system) and 6 characters
//! of a checksum, so that a mistyped or cut key is told from a revoked one without asking Postgres. Stored are its
//! SHA-256 (the key is random: nothing slower is needed) and its first 11 characters, which are shown in lists.
//!
//! Invariant: the key itself leaves this module once, in [`NewKey`].

use std::fmt;

use deadpool_postgres::tokio_postgres::Row;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{
    Store,
    error::StoreError,
    tx::Tx,
    values::{PgTime, RowReader},
};
use crate::event::{ids::AccountId, time::Timestamp};

/// What a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// May only track and identify; stands in web pages.
    Publishable,
    /// May do everything its account may.
    Secret,
}

impl KeyKind {
    /// The kind as it stands in tables and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Publishable => "publishable",
            Self::Secret => "secret",
        }
    }

    fn start(self) -> &'static str {
        match self {
            Self::Publishable => "pk_",
            Self::Secret => "sk_",
        }
    }
}

/// A key that was just made: the only time its text is known.
pub struct NewKey {
    /// Names it when it is to be revoked.
    pub id: Uuid,
    /// The whole key, to be shown once.
    pub key: SecretString,
    /// Its visible beginning.
    pub prefix: String,
}

impl fmt::Debug for NewKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("NewKey").field("id", &self.id).field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// The SHA-256 of a key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyHash(pub [u8; 32]);

impl fmt::Debug for KeyHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "KeyHash({}…)", hex::encode(&self.0[..4]))
    }
}

/// A key as the database knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredKey {
    /// Its id.
    pub id: Uuid,
    /// The account it opens.
    pub account: AccountId,
    /// What it may do.
    pub kind: KeyKind,
    /// Its visible beginning.
    pub prefix: String,
    /// What it is recognized by.
    pub hash: KeyHash,
    /// Web origins it may be used from; all when empty.
    pub allowed_origins: Vec<String>,
    /// Tracking requests a minute and client address; the bridge's default when absent.
    pub rate_per_minute: Option<u32>,
    /// Since when it counts.
    pub created_at: Timestamp,
    /// When it was last seen, to about a minute.
    pub last_used_at: Option<Timestamp>,
    /// Since when it counts no longer.
    pub revoked_at: Option<Timestamp>,
}

/// Why a text is not a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key is pk_ or sk_ and 38 letters and digits, the last six of them a checksum")]
pub struct InvalidKey;

const RANDOM_CHARACTERS: usize = 32;
const CHECKSUM_CHARACTERS: usize = 6;
const PREFIX_CHARACTERS: usize = 11;
const ACTIVE_KEYS: usize = 2;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Checks a key's form and checksum and gives what it is recognized by; asks no database.
pub fn read_key(text: &str) -> Result<(KeyKind, KeyHash), InvalidKey> {
    let kind = [KeyKind::Publishable, KeyKind::Secret].into_iter().find(|kind| text.starts_with(kind.start()));
    let kind = kind.ok_or(InvalidKey)?;
    if text.len() != kind.start().len() + RANDOM_CHARACTERS + CHECKSUM_CHARACTERS || !text.is_ascii() {
        return Err(InvalidKey);
    }
    let (signed, sum) = text.split_at(text.len() - CHECKSUM_CHARACTERS);
    if checksum(signed) == sum { Ok((kind, hash(text))) } else { Err(InvalidKey) }
}

fn make_key(kind: KeyKind) -> String {
    let signed = format!("{}{}", kind.start(), random_text());
    let sum = checksum(&signed);
    signed + &sum
}

fn hash(key: &str) -> KeyHash {
    KeyHash(Sha256::digest(key.as_bytes()).into())
}

fn checksum(signed: &str) -> String {
    base62(&Sha256::digest(signed.as_bytes()), CHECKSUM_CHARACTERS)
}

/// 32 random characters of `[0-9A-Za-z]`, from the operating system's generator.
pub(super) fn random_text() -> String {
    let mut bytes = [0; 32];
    rustls::crypto::ring::default_provider()
        .secure_random
        .fill(&mut bytes)
        .expect("the operating system gives random bytes");
    base62(&bytes, RANDOM_CHARACTERS)
}

/// The lowest `length` digits to the base of 62 of a large number; no digit is noticeably likelier than another.
fn base62(number: &[u8], length: usize) -> String {
    let mut number = number.to_vec();
    let mut text = String::with_capacity(length);
    for _ in 0..length {
        let mut rest = 0_u16;
        for byte in &mut number {
            let dividend = rest * 256 + u16::from(*byte);
            *byte = u8::try_from(dividend / 62).expect("the rest is below 62, so the quotient is below 256");
            rest = dividend % 62;
        }
        text.push(char::from(ALPHABET[usize::from(rest)]));
    }
    text
}

const KEY_COLUMNS: &str =
    "id, account_id, kind, prefix, hash, allowed_origins, rate_per_minute, created_at, last_used_at, revoked_at";
const LOCK_ACCOUNT: &str = "SELECT id FROM accounts WHERE id = $1 FOR NO KEY UPDATE";
const ACTIVE_PREFIXES: &str = "SELECT prefix FROM api_keys
    WHERE account_id = $1 AND kind = $2 AND revoked_at IS NULL ORDER BY created_at, id";
const ADD_KEY: &str = "INSERT INTO api_keys (id, account_id, kind, prefix, hash) VALUES ($1, $2, $3, $4, $5)";
const FIND_TO_REVOKE: &str = "SELECT id FROM api_keys
    WHERE revoked_at IS NULL AND (id::text = $1 OR (length($1) >= 5 AND starts_with(prefix, left($1, 11)))) FOR UPDATE";
const TOUCH: &str = "UPDATE api_keys k SET last_used_at = u.at FROM unnest($1::uuid[], $2::timestamptz[]) AS u (id, at)
    WHERE k.id = u.id AND (k.last_used_at IS NULL OR k.last_used_at < u.at)";

impl Store {
    /// Makes a key of an account. At most two of a kind count at a time: the old one and its successor.
    pub async fn add_key(&self, account: &AccountId, kind: KeyKind) -> Result<NewKey, StoreError> {
        let key = make_key(kind);
        let new =
            NewKey { id: Uuid::new_v4(), prefix: key[..PREFIX_CHARACTERS].to_owned(), key: SecretString::from(key) };
        let (id, prefix, hash) = (new.id, new.prefix.as_str(), hash(new.key.expose_secret()));
        self.transaction_of(account, "add a key", move |tx| async move {
            lock_account(&tx, account).await?;
            let rows = tx.query(ACTIVE_PREFIXES, &[&account.as_str(), &kind.as_str()]).await?;
            if rows.len() >= ACTIVE_KEYS {
                let active = rows.iter().map(|row| row.get("prefix")).collect();
                return Err(StoreError::TooManyKeys { account: account.clone(), kind: kind.as_str(), active });
            }
            let hash: &[u8] = &hash.0;
            tx.execute(ADD_KEY, &[&id, &account.as_str(), &kind.as_str(), &prefix, &hash]).await
        })
        .await?;
        Ok(new)
    }

    /// An account's keys, revoked ones too, the oldest first.
    pub async fn list_keys(&self, account: &AccountId) -> Result<Vec<StoredKey>, StoreError> {
        let sql = format!("SELECT {KEY_COLUMNS} FROM api_keys WHERE account_id = $1 ORDER BY kind, created_at, id");
        read_keys(&self.statement_of(account, "list the keys", &sql, &[&account.as_str()]).await?)
    }

    /// All keys that count: what the bridge keeps in memory and refreshes, so that a revocation takes effect.
    pub async fn active_keys(&self) -> Result<Vec<StoredKey>, StoreError> {
        let sql =
            format!("SELECT {KEY_COLUMNS} FROM api_keys WHERE revoked_at IS NULL ORDER BY account_id, created_at, id");
        read_keys(&self.statement("load the active keys", &sql, &[]).await?)
    }

    /// The key with this hash if it counts.
    pub async fn find_key(&self, hash: &KeyHash) -> Result<Option<StoredKey>, StoreError> {
        let sql = format!("SELECT {KEY_COLUMNS} FROM api_keys WHERE hash = $1 AND revoked_at IS NULL");
        let hash: &[u8] = &hash.0;
        Ok(read_keys(&self.statement("look up a key", &sql, &[&hash]).await?)?.pop())
    }

    /// Makes a key count no longer, by its id, its visible beginning, or the key itself.
    pub async fn revoke_key(&self, id_or_prefix: &str) -> Result<StoredKey, StoreError> {
        // Whoever pastes a whole key must not find it in an error.
        let shown =
            || id_or_prefix.chars().take(if id_or_prefix.contains('-') { 36 } else { PREFIX_CHARACTERS }).collect();
        let sql = format!("UPDATE api_keys SET revoked_at = now() WHERE id = $1 RETURNING {KEY_COLUMNS}");
        let (sql, shown) = (&sql, &shown);
        let rows = self
            .transaction("revoke a key", move |tx| async move {
                let found = tx.query(FIND_TO_REVOKE, &[&id_or_prefix]).await?;
                match found.as_slice() {
                    [] => Err(StoreError::UnknownKey(shown())),
                    [only] => tx.query(sql, &[&only.get::<_, Uuid>("id")]).await,
                    _ => Err(StoreError::AmbiguousKey(shown())),
                }
            })
            .await?;
        read_keys(&rows)?.pop().ok_or_else(|| StoreError::UnknownKey(shown()))
    }

    /// Limits a key: the web origins it may be used from, and its rate.
    pub async fn limit_key(
        &self,
        id: Uuid,
        allowed_origins: &[String],
        rate_per_minute: Option<u32>,
    ) -> Result<StoredKey, StoreError> {
        let sql = format!(
            "UPDATE api_keys SET allowed_origins = $2, rate_per_minute = $3 WHERE id = $1 AND revoked_at IS NULL
             RETURNING {KEY_COLUMNS}"
        );
        let rate = rate_per_minute.map(|rate| i32::try_from(rate).unwrap_or(i32::MAX));
        let rows = self.statement("limit a key", &sql, &[&id, &allowed_origins, &rate]).await?;
        read_keys(&rows)?.pop().ok_or_else(|| StoreError::UnknownKey(id.to_string()))
    }

    /// Remembers when keys were last seen; meant to be called now and then, not with each request.
    pub async fn touch_keys(&self, seen: &[(Uuid, Timestamp)]) -> Result<(), StoreError> {
        let (ids, times): (Vec<Uuid>, Vec<PgTime>) = seen.iter().map(|(id, at)| (*id, PgTime(*at))).unzip();
        self.statement("remember when keys were used", TOUCH, &[&ids, &times]).await?;
        Ok(())
    }
}

/// Makes whoever changes an account's keys or secrets at the same time wait; an error when there is no such account.
pub(super) async fn lock_account(tx: &Tx, account: &AccountId) -> Result<(), StoreError> {
    let rows = tx.query(LOCK_ACCOUNT, &[&account.as_str()]).await?;
    if rows.is_empty() { Err(StoreError::UnknownAccount(account.clone())) } else { Ok(()) }
}

fn read_keys(rows: &[Row]) -> Result<Vec<StoredKey>, StoreError> {
    rows.iter().map(|row| read_stored_key(&RowReader { table: "api_keys", row })).collect()
}

fn read_stored_key(row: &RowReader<'_>) -> Result<StoredKey, StoreError> {
    let hash: &[u8] = row.get("hash")?;
    Ok(StoredKey {
        id: row.get("id")?,
        account: row.account("account_id")?,
        kind: match row.get("kind")? {
            "publishable" => KeyKind::Publishable,
            "secret" => KeyKind::Secret,
            _ => return Err(row.broken("kind")),
        },
        prefix: row.get("prefix")?,
        hash: KeyHash(hash.try_into().map_err(|_| row.broken("hash"))?),
        allowed_origins: row.get("allowed_origins")?,
        rate_per_minute: row.get::<Option<i32>>("rate_per_minute")?.map(i32::unsigned_abs),
        created_at: row.time("created_at")?,
        last_used_at: row.optional_time("last_used_at")?,
        revoked_at: row.optional_time("revoked_at")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_key_reads_as_its_kind() {
        for kind in [KeyKind::Publishable, KeyKind::Secret] {
            let key = make_key(kind);
            assert_eq!(key.len(), 41);
            assert_eq!(read_key(&key), Ok((kind, hash(&key))));
        }
    }

    #[test]
    fn a_key_with_any_one_character_changed_cut_or_added_does_not_read() {
        let key = make_key(KeyKind::Secret);
        for index in 3..key.len() {
            let mut changed = key.clone().into_bytes();
            changed[index] = if changed[index] == b'a' { b'b' } else { b'a' };
            assert_eq!(read_key(std::str::from_utf8(&changed).unwrap()), Err(InvalidKey), "character {index}");
        }
        for wrong in ["", "sk_", &key[..40], &format!("{key}a"), &key.replace("sk_", "pk_"), "sk_ü", "ü"] {
            assert_eq!(read_key(wrong), Err(InvalidKey), "{wrong}");
        }
    }

    #[test]
    fn keys_differ_and_use_the_whole_alphabet() {
        let texts: Vec<String> = (0..200).map(|_| random_text()).collect();
        let distinct: std::collections::HashSet<&String> = texts.iter().collect();
        assert_eq!(distinct.len(), texts.len());
        let used: std::collections::HashSet<char> = texts.iter().flat_map(|text| text.chars()).collect();
        assert_eq!(used.len(), 62);
    }

    #[test]
    fn neither_new_keys_nor_hashes_show_themselves() {
        let key = make_key(KeyKind::Secret);
        let new = NewKey { id: Uuid::nil(), prefix: key[..11].to_owned(), key: SecretString::from(key.clone()) };
        assert!(!format!("{new:?}").contains(&key[11..]));
        assert!(format!("{:?}", hash(&key)).len() < 24);
    }
}
