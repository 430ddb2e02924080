//! Passes: signed texts that stand for an account, for ten minutes, for one use.
//!
//! They are signed with a key that comes from the app's secret, so every instance can read them. What was used up is known to the
//! instance that it was used at; Slack takes each of its codes but once wherever it comes back.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use data_encoding::BASE64URL_NOPAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::Sha256;
use uuid::Uuid;

use crate::event::{ids::AccountId, time::Timestamp};

/// How many used-up passes are remembered; they expire soon.
const MOST_SPENT: usize = 10_000;

/// What a pass is for: one cannot be used in place of the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To begin.
    Link,
    /// To come back from Slack.
    State,
}

impl Purpose {
    fn as_str(self) -> &'static str {
        match self {
            Self::Link => "link",
            Self::State => "state",
        }
    }
}

/// A pass that was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pass {
    pub(super) account: AccountId,
    /// What it is bound to.
    pub(super) bound: String,
    id: String,
    expires_at: Timestamp,
}

/// Issues and reads passes.
pub(super) struct Passes {
    key: Hmac<Sha256>,
    spent: Mutex<HashMap<String, Timestamp>>,
}

impl Passes {
    pub(super) fn new(secret: &SecretString) -> Self {
        let mac = |key: &[u8]| Hmac::<Sha256>::new_from_slice(key).expect("a key of any length will do");
        let mut derived = mac(secret.expose_secret().as_bytes());
        derived.update(b"churnd: installing the Slack app");
        Self { key: mac(&derived.finalize().into_bytes()), spent: Mutex::default() }
    }

    pub(super) fn issue(&self, purpose: Purpose, account: &AccountId, expires_at: Timestamp, bound: &str) -> String {
        let id = Uuid::new_v4().simple();
        let told = format!("{}.{account}.{}.{id}.{bound}", purpose.as_str(), expires_at.millis());
        let mac = self.key.clone().chain_update(told.as_bytes()).finalize().into_bytes();
        format!("{told}.{}", BASE64URL_NOPAD.encode(&mac))
    }

    /// Reads a pass that is ours, for this purpose, and has not expired; it may be used up.
    pub(super) fn read(&self, purpose: Purpose, text: &str, now: Timestamp) -> Option<Pass> {
        let (told, mac) = text.rsplit_once('.')?;
        let mac = BASE64URL_NOPAD.decode(mac.as_bytes()).ok()?;
        self.key.clone().chain_update(told.as_bytes()).verify_slice(&mac).ok()?;
        let parts: Vec<&str> = told.split('.').collect();
        let [kind, account, expires, id, bound] = parts.as_slice() else { return None };
        let expires_at = Timestamp::from_millis(expires.parse().ok()?);
        let pass = Pass {
            account: AccountId::parse(account).ok()?,
            bound: (*bound).to_owned(),
            id: (*id).to_owned(),
            expires_at,
        };
        (*kind == purpose.as_str() && now < expires_at).then_some(pass)
    }

    /// Reads a pass and uses it up.
    pub(super) fn redeem(&self, purpose: Purpose, text: &str, now: Timestamp) -> Option<Pass> {
        let pass = self.read(purpose, text, now)?;
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        spent.retain(|_, expires_at| now < *expires_at);
        let fresh = spent.len() < MOST_SPENT && spent.insert(pass.id.clone(), pass.expires_at).is_none();
        fresh.then_some(pass)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_holds_for_one_purpose_one_time_and_a_while() {
        let passes = Passes::new(&SecretString::from("secret"));
        let (account, at) = (AccountId::parse("acme").unwrap(), Timestamp::from_seconds(1_000));
        let later = at.plus_millis(600_000);
        let text = passes.issue(Purpose::State, &account, later, "bound");
        let pass = passes.read(Purpose::State, &text, at).unwrap();
        assert_eq!((&pass.account, pass.bound.as_str()), (&account, "bound"));
        assert_eq!(passes.read(Purpose::Link, &text, at), None);
        assert_eq!(passes.read(Purpose::State, &text, later), None);
        for forged in [
            text.replace("acme", "acma"),
            text.replace(".bound.", ".other."),
            format!("{text}A"),
            String::new(),
            "....".to_owned(),
        ] {
            assert_eq!(passes.read(Purpose::State, &forged, at), None, "{forged}");
        }
        assert_eq!(Passes::new(&SecretString::from("other")).read(Purpose::State, &text, at), None);
        assert!(passes.redeem(Purpose::State, &text, at).is_some());
        assert_eq!(passes.redeem(Purpose::State, &text, at), None);
    }
}
