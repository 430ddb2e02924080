//! The secrets that Stripe signs webhooks with, held in memory: several an account, for rolls and for several endpoints.
//!
//! All are read again every [`REFRESH`], so that a revocation is seen by every instance within 5 seconds. A signature that
//! none explains may be by one that was added a moment ago: they are looked at again at once, all such questions sharing one
//! look and never more than four a second. When Postgres is away the known ones go on counting.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    event::{
        ids::AccountId,
        stripe::signature::{self, InvalidSignature},
        time::Timestamp,
    },
    store::{Store, StoreError},
};

/// How often all secrets are read again.
const REFRESH: Duration = Duration::from_secs(2);
/// At the least between two looks for an unknown one.
const BETWEEN_LOOKS: Duration = Duration::from_millis(250);

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
    known: RwLock<Arc<Known>>,
    /// When the last look began. Held while looking.
    looked_at: tokio::sync::Mutex<Option<Instant>>,
}

impl SigningSecrets {
    /// Nothing known yet but the one for accounts that have none.
    pub fn new(store: Store, fallback: Option<SecretString>) -> Self {
        let looked_at = tokio::sync::Mutex::default();
        Self(Arc::new(Inner { store, fallback, known: RwLock::default(), looked_at }))
    }

    /// Reads all secrets again.
    pub async fn refresh(&self) -> Result<(), StoreError> {
        let mut looked_at = self.0.looked_at.lock().await;
        *looked_at = Some(Instant::now());
        self.look().await
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
        let known = self.known();
        let outcome = self.check(&known, account, header, body, now);
        if !matches!(outcome, Err(InvalidSignature::Mismatch | InvalidSignature::NoSecret)) {
            return outcome.map_err(Unproven::Invalid);
        }
        self.look_again(asked_at).await.map_err(Unproven::Unknown)?;
        self.check(&self.known(), account, header, body, now).map_err(Unproven::Invalid)
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

    fn known(&self) -> Arc<Known> {
        Arc::clone(&self.0.known.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes sure that a look began after `asked_at`.
    async fn look_again(&self, asked_at: Instant) -> Result<(), StoreError> {
        let mut looked_at = self.0.looked_at.lock().await;
        if let Some(last) = *looked_at {
            if last >= asked_at {
                return Ok(());
            }
            tokio::time::sleep_until(last + BETWEEN_LOOKS).await;
        }
        *looked_at = Some(Instant::now());
        self.look().await
    }

    async fn look(&self) -> Result<(), StoreError> {
        let mut known = Known::new();
        for secret in self.0.store.list_stripe_secrets().await? {
            known.entry(secret.account).or_default().push(secret.secret);
        }
        *self.0.known.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(known);
        Ok(())
    }
}

impl fmt::Debug for SigningSecrets {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SigningSecrets")
    }
}
