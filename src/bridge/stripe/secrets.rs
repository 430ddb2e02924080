//! The secrets that Stripe signs webhooks with, held in memory: several an account, for rolls and for several endpoints.
//!
//! A signature that no known secret explains may be by one that was added a moment ago: see `bridge::cached`.

use std::{collections::HashMap, fmt, sync::Arc};

use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::super::cached::{Cached, REFRESH};
use crate::{
    event::{
        ids::AccountId,
        stripe::signature::{self, InvalidSignature},
        time::Timestamp,
    },
    store::{Store, StoreError},
};

/// Why a webhook is not proven.
#[derive(Debug)]
pub(super) enum Unproven {
    /// It is not Stripe's, or not for this account.
    Invalid(InvalidSignature),
    /// No known secret explains it, and Postgres cannot be asked now.
    Unknown(StoreError),
}

type Known = HashMap<AccountId, Vec<SecretString>>;

/// The signing secrets that count; clones share what they know.
#[derive(Clone)]
pub struct SigningSecrets(Arc<Inner>);

struct Inner {
    store: Store,
    /// For accounts that have none of their own.
    fallback: Option<SecretString>,
    known: Cached<Known>,
}

impl SigningSecrets {
    /// Nothing known yet but the one for accounts that have none.
    pub fn new(store: Store, fallback: Option<SecretString>) -> Self {
        Self(Arc::new(Inner { store, fallback, known: Cached::default() }))
    }

    /// Reads all secrets again.
    pub async fn refresh(&self) -> Result<(), StoreError> {
        self.0.known.refresh(self.look()).await
    }

    /// Keeps the secrets fresh until `stop`.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut refresh = tokio::time::interval(REFRESH);
        refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                _ = refresh.tick() => {}
            }
            if let Err(error) = self.refresh().await {
                warn!("cannot read the signing secrets, going on with those known: {error}");
            }
        }
    }

    /// Checks that an account's webhook was signed by Stripe.
    pub(super) async fn verify(
        &self,
        account: &AccountId,
        header: &str,
        body: &[u8],
        now: Timestamp,
    ) -> Result<(), Unproven> {
        let asked_at = Instant::now();
        let known = self.0.known.get();
        let outcome = self.check(&known, account, header, body, now);
        if !matches!(outcome, Err(InvalidSignature::Mismatch | InvalidSignature::NoSecret)) {
            return outcome.map_err(Unproven::Invalid);
        }
        self.0.known.look_again(asked_at, self.look()).await.map_err(Unproven::Unknown)?;
        self.check(&self.0.known.get(), account, header, body, now).map_err(Unproven::Invalid)
    }

    fn check(
        &self,
        known: &Known,
        account: &AccountId,
        header: &str,
        body: &[u8],
        now: Timestamp,
    ) -> Result<(), InvalidSignature> {
        let own = known.get(account).map(Vec::as_slice).unwrap_or_default();
        let secrets = own.iter().chain(self.0.fallback.as_ref().filter(|_| own.is_empty()));
        let secrets: Vec<&str> = secrets.map(|secret| secret.expose_secret()).collect();
        signature::verify(header, body, &secrets, now).map(|_| ())
    }

    async fn look(&self) -> Result<Known, StoreError> {
        let mut known = Known::new();
        for secret in self.0.store.list_stripe_secrets().await? {
            known.entry(secret.account).or_default().push(secret.secret);
        }
        Ok(known)
    }
}

impl fmt::Debug for SigningSecrets {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SigningSecrets")
    }
}
