//! The Stripe normalizer: webhooks become events of the customer they concern.
//!
//! A webhook is done with once its event stands in the event stream; until then it comes again. Doing it twice is
//! harmless: the event carries Stripe's id as its own, and Stripe's facts are idempotent. A Stripe customer that is not
//! linked gets events under its own id; a dispute whose charge is not known waits in Postgres until it is.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::accounts::Accounts;
use crate::{
    event::{
        decode::Reject,
        ids::{AccountId, CustomerId},
        stripe::{CustomerRef, StripeEvent, event_body_for, read_webhook},
        subject::{dead_subject, encode, event_subject},
        time::Timestamp,
    },
    store::{Store, StoreError, stripe::PendingDispute},
    stream::{
        StreamError, WEBHOOKS,
        dead::DeadLetter,
        durable::{self, Delivery, Verdict},
        erase,
        publisher::{Outgoing, PublishError, Publisher},
    },
    telemetry::metrics::{Metrics, ResultLabel},
};

/// The durable consumer that all instances share.
pub(super) const CONSUMER: &str = "churnd-stripe";
/// Webhooks that are worked on at the same time.
const AT_ONCE: usize = 64;
const AGAIN_AFTER: Duration = Duration::from_secs(2);

/// Turns webhooks into events.
#[derive(Clone)]
pub struct Normalizer {
    /// Postgres: links and charges.
    pub store: Store,
    /// JetStream.
    pub publisher: Publisher,
    /// Which accounts exist.
    pub accounts: Accounts,
    /// What is counted.
    pub metrics: Metrics,
}

/// Why a webhook is not done with.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{}", .0.reason())]
    Publish(#[from] PublishError),
    #[error(transparent)]
    Erase(#[from] StreamError),
    /// It never will be: it goes to the dead letters.
    #[error(transparent)]
    Rejected(#[from] Reject),
}

impl Normalizer {
    /// Works until `stop`.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let context = self.publisher.context().clone();
        durable::consume(&context, WEBHOOKS, CONSUMER, AT_ONCE, stop, |delivery| self.handle(delivery)).await;
        Ok(())
    }

    async fn handle(&self, delivery: Delivery) -> Verdict {
        let account = delivery.subject.rsplit_once('.').map(|(_, account)| account.to_owned()).unwrap_or_default();
        let outcome = match self.normalize(&account, &delivery).await {
            Err(Failure::Rejected(reject)) => self.bury(&account, &delivery, &reject).await.map(|()| "dead"),
            other => other,
        };
        match outcome {
            Ok(result) => {
                self.count(result);
                Verdict::Done
            }
            Err(error) => {
                warn!(sequence = %delivery.sequence, "cannot handle webhook {}, trying again: {error}", delivery.sequence);
                self.metrics.count_error("stripe", "unavailable");
                Verdict::Again(AGAIN_AFTER)
            }
        }
    }

    fn count(&self, result: &'static str) {
        self.metrics.webhooks.get_or_create(&ResultLabel { result }).inc();
    }

    async fn normalize(&self, account: &str, delivery: &Delivery) -> Result<&'static str, Failure> {
        let body = &delivery.payload;
        let account = AccountId::parse(account).map_err(|_| Reject::UnknownAccount)?;
        if !self.accounts.contains(account.as_str()) {
            self.accounts.look_for_those_before(delivery.stored_at).await?;
            if !self.accounts.contains(account.as_str()) {
                return Err(Reject::UnknownAccount.into());
            }
        }
        let Some(event) = read_webhook(body)? else { return Ok("ignored") };
        if self.is_of_erased_charge(&account, &event).await? {
            return self.erase(&account, &event, delivery).await;
        }
        let Some(stripe_customer) = self.stripe_customer(&account, &event, body).await? else { return Ok("parked") };
        if self.is_of_erased_customer(&account, &stripe_customer, &event).await? {
            return self.erase(&account, &event, delivery).await;
        }
        self.publish(&account, &stripe_customer, &event).await?;
        self.link_reference(&account, &stripe_customer, &event).await?;
        self.remember_charges(&account, &stripe_customer, &event).await?;
        Ok("published")
    }

    /// Whether a webhook names nobody but by a charge of a customer that was erased.
    async fn is_of_erased_charge(&self, account: &AccountId, event: &StripeEvent) -> Result<bool, Failure> {
        let CustomerRef::Charge(charges) = &event.customer else { return Ok(false) };
        let charges: Vec<&str> = charges.iter().map(String::as_str).collect();
        Ok(self.store.is_suppressed(account, &[], &charges).await?)
    }

    /// Whether a webhook concerns an erased customer, or would link to one.
    async fn is_of_erased_customer(
        &self,
        account: &AccountId,
        stripe_customer: &str,
        event: &StripeEvent,
    ) -> Result<bool, Failure> {
        let links = self.store.resolve_links(account, &[stripe_customer]).await?;
        let linked = links.get(stripe_customer).map(CustomerId::as_str);
        let ids = [Some(stripe_customer), linked, event.reference.as_deref()];
        let tokens: Vec<_> =
            ids.into_iter().flatten().filter_map(|id| CustomerId::parse(id).ok()).map(|id| encode(&id)).collect();
        let tokens: Vec<&str> = tokens.iter().map(AsRef::as_ref).collect();
        Ok(self.store.is_suppressed(account, &tokens, &[]).await?)
    }

    /// Overwrites a webhook of an erased customer, and remembers the charges that it shows.
    async fn erase(
        &self,
        account: &AccountId,
        event: &StripeEvent,
        delivery: &Delivery,
    ) -> Result<&'static str, Failure> {
        // A dispute about one of these would name nobody.
        let charges: Vec<&str> = event.charges.iter().map(String::as_str).collect();
        self.store.suppress_charges(account, &charges).await?;
        erase::erase(self.publisher.context(), WEBHOOKS, delivery.sequence).await?;
        Ok("suppressed")
    }

    /// The Stripe customer that a webhook concerns; `None` if that is not known yet and the webhook was put aside.
    async fn stripe_customer(
        &self,
        account: &AccountId,
        event: &StripeEvent,
        body: &[u8],
    ) -> Result<Option<String>, Failure> {
        let charges = match &event.customer {
            CustomerRef::Customer(customer) => return Ok(Some(customer.clone())),
            CustomerRef::Charge(charges) => charges.iter().map(String::as_str).collect::<Vec<_>>(),
        };
        if let Some(owner) = self.store.charge_owner(account, &charges).await? {
            return Ok(Some(owner));
        }
        let dispute = PendingDispute { event_id: event.id.clone(), body: body.to_vec(), at: event.created };
        self.store.park_pending(account, &charges, &dispute).await?;
        debug!(event.id = %event.id, "the charge of {} is not known yet, keeping it aside", event.id);
        // The charge may have become known between the look and the keeping.
        let owner = self.store.charge_owner(account, &charges).await?;
        if owner.is_some() {
            self.store.forget_pending(account, &[&event.id]).await?;
        }
        Ok(owner)
    }

    async fn publish(&self, account: &AccountId, stripe_customer: &str, event: &StripeEvent) -> Result<(), Failure> {
        let links = self.store.resolve_links(account, &[stripe_customer]).await?;
        let customer = match links.get(stripe_customer) {
            Some(customer) => customer.clone(),
            None => CustomerId::parse(stripe_customer).map_err(|_| Reject::InvalidCustomerId)?,
        };
        let body = event_body_for(event, &customer);
        self.send(account, &customer, &event.id, body).await
    }

    /// A checkout that was started with our own customer's id links it to the Stripe customer it made.
    async fn link_reference(
        &self,
        account: &AccountId,
        stripe_customer: &str,
        event: &StripeEvent,
    ) -> Result<(), Failure> {
        let Some(customer) = event.reference.as_deref().and_then(|reference| CustomerId::parse(reference).ok()) else {
            return Ok(());
        };
        let id = format!("checkout-{}", event.id);
        let body = serde_json::json!({
            "event": "identify",
            "id": id,
            "customerId": customer,
            "timestamp": event.created,
            "properties": { "stripeCustomerId": stripe_customer },
        });
        self.send(account, &customer, &id, body.to_string().into_bytes()).await
    }

    /// Remembers whose charges these are, and publishes the disputes that waited for them.
    async fn remember_charges(
        &self,
        account: &AccountId,
        stripe_customer: &str,
        event: &StripeEvent,
    ) -> Result<(), Failure> {
        if event.charges.is_empty() || !matches!(event.customer, CustomerRef::Customer(_)) {
            return Ok(());
        }
        let known: Vec<(&str, &str, Timestamp)> =
            event.charges.iter().map(|charge| (charge.as_str(), stripe_customer, event.created)).collect();
        self.store.remember_charges(account, &known).await?;
        let charges: Vec<&str> = event.charges.iter().map(String::as_str).collect();
        for pending in self.store.pending_of(account, &charges).await? {
            if let Some(dispute) = read_webhook(&pending.body)? {
                self.publish(account, stripe_customer, &dispute).await?;
                self.count("released");
            }
            self.store.forget_pending(account, &[&pending.event_id]).await?;
        }
        Ok(())
    }

    async fn send(&self, account: &AccountId, customer: &CustomerId, id: &str, body: Vec<u8>) -> Result<(), Failure> {
        let subject = event_subject(account, encode(customer).as_str());
        self.publisher.publish(Outgoing::new(subject, body).with_id(format!("{account}:{id}"))).await?;
        Ok(())
    }

    async fn bury(&self, account: &str, delivery: &Delivery, reject: &Reject) -> Result<(), Failure> {
        self.metrics.count_dead("stripe", reject.code());
        let letter = DeadLetter {
            dead_subject: dead_subject(account, "_"),
            reason: reject.code().to_owned(),
            detail: reject.to_string(),
            stage: "stripe".to_owned(),
            subject: delivery.subject.clone(),
            stream: WEBHOOKS.to_owned(),
            sequence: delivery.sequence,
            payload: delivery.payload.clone(),
            headers: delivery.headers.clone(),
        };
        crate::stream::dead::publish(&self.publisher, &letter).await?;
        Ok(())
    }
}
