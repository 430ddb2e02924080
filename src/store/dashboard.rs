//! The dashboard's own tables: sessions by the SHA-256 of their cookies, and which alerts somebody has seen.
//!
//! A session counts while its key does: whoever revokes a key ends its sessions with the same statement. Times are the
//! database's, so all instances agree on when a session ends.
//!
//! Invariant: a cookie's text leaves this module once, in [`NewSession`].

use std::fmt;

use deadpool_postgres::tokio_postgres::types::ToSql;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{
    Store,
    error::StoreError,
    keys::random_text,
    values::{PgText, PgTime, RowReader, row_limit},
};
use crate::event::{ids::AccountId, time::Timestamp};

/// How long a session lasts after it was last used.
const SESSION_SECONDS: u32 = 12 * 3_600;
/// How long it lasts at the most.
pub const LONGEST_SECONDS: u32 = 7 * 24 * 3_600;
/// Uses within this time of the last one are not written down.
const NOTED_EVERY_SECONDS: u32 = 60;
/// Longer texts are no cookies of ours.
const MAX_COOKIE_BYTES: usize = 128;

/// What a session is recognized by.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SessionHash([u8; 32]);

impl SessionHash {
    /// Of a cookie's text.
    pub fn of(cookie: &str) -> Option<Self> {
        let possible = !cookie.is_empty() && cookie.len() <= MAX_COOKIE_BYTES;
        possible.then(|| Self(Sha256::digest(cookie.as_bytes()).into()))
    }
}

impl fmt::Debug for SessionHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SessionHash({}…)", hex::encode(&self.0[..4]))
    }
}

/// A session that was just begun: the only time its cookie is known.
#[derive(Debug)]
pub struct NewSession {
    /// What the browser shows from now on.
    pub cookie: SecretString,
}

/// A session that counts.
#[derive(Clone)]
pub struct StoredSession {
    /// What it is recognized by.
    pub hash: SessionHash,
    /// The account that it opens.
    pub account: AccountId,
    /// The key that it was begun with.
    pub key_id: Uuid,
    /// The key's visible beginning.
    pub key_prefix: String,
    /// What the visitor wants to be called.
    pub name: Option<String>,
    /// What every form of the session must hold.
    pub csrf: String,
    /// It is time to note that it was used.
    stale: bool,
}

impl fmt::Debug for StoredSession {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("StoredSession")
            .field("hash", &self.hash)
            .field("account", &self.account)
            .field("key_prefix", &self.key_prefix)
            .finish_non_exhaustive()
    }
}

const BEGIN: &str = "INSERT INTO dashboard_sessions (hash, account, key_id, name, csrf, expires_at)
    SELECT $1::bytea, k.account_id, k.id, $4::text, $5::text, now() + make_interval(secs => $6)
    FROM api_keys k WHERE k.id = $3 AND k.account_id = $2 AND k.kind = 'secret' AND k.revoked_at IS NULL
    RETURNING key_id";
const FORGET_EXPIRED: &str = "DELETE FROM dashboard_sessions WHERE expires_at < now()";
const FIND: &str = "
    SELECT s.account, s.key_id, s.name, s.csrf, k.prefix,
        s.last_seen_at < now() - make_interval(secs => $2) AS stale
    FROM dashboard_sessions s JOIN api_keys k ON k.id = s.key_id
    WHERE s.hash = $1 AND s.expires_at > now() AND k.revoked_at IS NULL";
const NOTE_USE: &str = "UPDATE dashboard_sessions SET last_seen_at = now(),
        expires_at = least(now() + make_interval(secs => $2), created_at + make_interval(secs => $3))
    WHERE hash = $1";
const END: &str = "DELETE FROM dashboard_sessions WHERE hash = $1";

impl Store {
    /// Begins a session with a key; `None` if the key counts no longer. Sessions that are over are forgotten by the way.
    pub async fn begin_session(
        &self,
        account: &AccountId,
        key: Uuid,
        name: Option<&str>,
    ) -> Result<Option<NewSession>, StoreError> {
        self.statement_of(account, "forget sessions that are over", FORGET_EXPIRED, &[]).await?;
        let (cookie, csrf) = (SecretString::from(random_text()), random_text());
        let hash: [u8; 32] = Sha256::digest(cookie.expose_secret().as_bytes()).into();
        let parameters: [&(dyn ToSql + Sync); 6] =
            [&&hash[..], &account.as_str(), &key, &name.map(PgText), &csrf, &f64::from(SESSION_SECONDS)];
        let begun = self.statement_of(account, "begin a session", BEGIN, &parameters).await?;
        Ok(begun.first().map(|_| NewSession { cookie }))
    }

    /// The session with this hash, if it counts.
    pub async fn session(&self, hash: SessionHash) -> Result<Option<StoredSession>, StoreError> {
        let parameters: [&(dyn ToSql + Sync); 2] = [&&hash.0[..], &f64::from(NOTED_EVERY_SECONDS)];
        let rows = self.statement("look up a session", FIND, &parameters).await?;
        let read = |row| {
            let row = RowReader { table: "dashboard_sessions", row };
            Ok(StoredSession {
                hash,
                account: row.account("account")?,
                key_id: row.get("key_id")?,
                key_prefix: row.text("prefix")?,
                name: row.optional_text("name")?,
                csrf: row.text("csrf")?,
                stale: row.get("stale")?,
            })
        };
        rows.first().map(read).transpose()
    }

    /// Lets a session last longer, now that it was used.
    pub async fn note_session(&self, session: &StoredSession) -> Result<(), StoreError> {
        if !session.stale {
            return Ok(());
        }
        let parameters: [&(dyn ToSql + Sync); 3] =
            [&&session.hash.0[..], &f64::from(SESSION_SECONDS), &f64::from(LONGEST_SECONDS)];
        self.statement("note a session's use", NOTE_USE, &parameters).await?;
        Ok(())
    }

    /// Ends a session.
    pub async fn end_session(&self, hash: SessionHash) -> Result<(), StoreError> {
        self.statement("end a session", END, &[&&hash.0[..]]).await?;
        Ok(())
    }
}

/// An alert that somebody took note of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledgement {
    /// The alert.
    pub alert_id: String,
    /// Who.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

/// An alert's message is known as `<account>:alert:<id>`.
const ACKNOWLEDGE: &str = "INSERT INTO acknowledgements (account, alert_id, token, acknowledged_by, at)
    SELECT o.account, $3::text, o.token, $4::text, $5::timestamptz FROM outbox o
    WHERE o.message_id = $1 || ':alert:' || $3 AND o.account = $1 AND o.token = $2 AND o.kind <> 'event'
      AND NOT EXISTS (SELECT FROM suppressions x WHERE x.account = $1 AND x.hash = $6::bytea)
    ON CONFLICT (account, alert_id) DO NOTHING";
const ACKNOWLEDGEMENTS: &str = "SELECT account, alert_id, acknowledged_by, at FROM acknowledgements
    WHERE account = $1 AND token = $2 ORDER BY at DESC, alert_id LIMIT $3";

impl Store {
    /// Notes that somebody saw a customer's alert; who was first stays. Nothing happens if there is no such alert.
    pub async fn acknowledge(
        &self,
        account: &AccountId,
        token: &str,
        alert_id: &str,
        by: &str,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let key = self.suppression_key().await?;
        let parameters: [&(dyn ToSql + Sync); 6] = [
            &account.as_str(),
            &token,
            &PgText(alert_id),
            &PgText(by),
            &PgTime(at),
            &key.customer(account.as_str(), token),
        ];
        self.statement_of(account, "acknowledge an alert", ACKNOWLEDGE, &parameters).await?;
        Ok(())
    }

    /// Which of a customer's alerts somebody saw.
    pub async fn acknowledgements_of(
        &self,
        account: &AccountId,
        token: &str,
        limit: usize,
    ) -> Result<Vec<Acknowledgement>, StoreError> {
        let parameters: [&(dyn ToSql + Sync); 3] = [&account.as_str(), &token, &row_limit(limit)];
        let rows = self.statement_of(account, "load acknowledgements", ACKNOWLEDGEMENTS, &parameters).await?;
        rows.iter()
            .map(|row| {
                let row = RowReader { table: "acknowledgements", row };
                Ok(Acknowledgement {
                    alert_id: row.text("alert_id")?,
                    by: row.text("acknowledged_by")?,
                    at: row.time("at")?,
                })
            })
            .collect()
    }
}
