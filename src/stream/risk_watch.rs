//! Watching the risk bucket: whose score changed just now.
//!
//! One consumer that nobody else knows of, without acknowledgement, from now on, without bodies. What changes while there is
//! none is not told: whoever watches is told to look at everything when watching begins anew.

use std::time::Duration;

use async_nats::jetstream::{
    Context,
    consumer::{AckPolicy, DeliverPolicy, PullConsumer, pull},
};
use futures_util::StreamExt as _;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use uuid::Uuid;

use super::{RISK_BUCKET, RISK_STREAM, StreamError, backoff::Backoff};

const HEARTBEAT: Duration = Duration::from_secs(5);
/// When the server deletes the consumer if nobody reads.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(30);

/// What a watch tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// Watching begins, or begins anew: anything may have changed.
    Anything,
    /// A customer's entry changed.
    Customer {
        /// The tenant.
        account: &'a str,
        /// The customer's subject token.
        token: &'a str,
    },
}

/// Tells of each change until `stop`. Never ends by itself.
pub async fn watch(context: &Context, stop: &CancellationToken, tell: impl Fn(Change<'_>)) {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
    while !stop.is_cancelled() {
        match open(context).await {
            Ok(mut messages) => {
                backoff.reset();
                tell(Change::Anything);
                follow(&mut messages, stop, &tell).await;
            }
            Err(error) => warn!("cannot watch the risk bucket, trying again: {error}"),
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(backoff.next_wait()) => {}
        }
    }
}

async fn open(context: &Context) -> Result<pull::Stream, StreamError> {
    // Named, because the permission to create consumers goes by their stream and name.
    let config = pull::Config {
        name: Some(format!("churnd-live-{}", Uuid::new_v4().simple())),
        ack_policy: AckPolicy::None,
        deliver_policy: DeliverPolicy::New,
        headers_only: true,
        memory_storage: true,
        num_replicas: 1,
        inactive_threshold: FORGOTTEN_AFTER,
        ..pull::Config::default()
    };
    let what = "watch the risk bucket";
    let consumer: PullConsumer = context
        .create_consumer_on_stream(config, RISK_STREAM)
        .await
        .map_err(|error| StreamError::unavailable(what, error))?;
    let messages = consumer.stream().max_messages_per_batch(500).heartbeat(HEARTBEAT).messages().await;
    messages.map_err(|error| StreamError::unavailable(what, error))
}

/// Tells until the consumer is lost or `stop`.
async fn follow(messages: &mut pull::Stream, stop: &CancellationToken, tell: &impl Fn(Change<'_>)) {
    loop {
        let message = tokio::select! {
            () = stop.cancelled() => return,
            message = messages.next() => message,
        };
        match message {
            Some(Ok(message)) => {
                if let Some((account, token)) = customer_of(&message.subject) {
                    tell(Change::Customer { account, token });
                }
            }
            Some(Err(error)) => {
                debug!("the risk bucket must be watched anew: {error}");
                return;
            }
            None => return,
        }
    }
}

/// Account and token of `$KV.churn_risk.<account>.<token>`.
fn customer_of(subject: &str) -> Option<(&str, &str)> {
    subject.strip_prefix("$KV.")?.strip_prefix(RISK_BUCKET)?.strip_prefix('.')?.split_once('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_names_account_and_customer() {
        assert_eq!(customer_of("$KV.churn_risk.acme.a=40b"), Some(("acme", "a=40b")));
        assert_eq!(customer_of("$KV.churn_riskier.acme.a"), None);
        assert_eq!(customer_of("$KV.churn_risk.acme"), None);
    }
}
