//! Events into the stream, each confirmed, however often the server goes away meanwhile.

use std::time::Duration;

use async_nats::HeaderMap;
use churnd::{
    event::{
        ids::{AccountId, CustomerId},
        subject::{encode, event_subject},
    },
    stream::publisher::{Outgoing, PubAck, Publisher},
};
use serde_json::Value;

use super::{Cluster, cluster::ACCOUNT, nodes::addresses};

/// How long a message is tried: servers are killed for seconds.
const PATIENCE: Duration = Duration::from_secs(90);
/// Messages under way at once.
const WINDOW: usize = 512;

/// Publishes as somebody else's service would.
#[derive(Clone)]
pub(crate) struct Feed {
    client: async_nats::Client,
    publisher: Publisher,
}

impl Feed {
    /// A connection of its own to the cluster's NATS, which must run.
    pub(crate) async fn open(cluster: &Cluster) -> Self {
        Self::over(&cluster.nats_url(), PATIENCE).await
    }

    /// A connection of its own to NATS under these addresses.
    pub(crate) async fn over(url: &str, patience: Duration) -> Self {
        let client = connect_to(url).await;
        let publisher = Publisher::new(client.clone(), WINDOW).with_patience(patience);
        Self { client, publisher }
    }

    /// Its connection.
    pub(crate) fn client(&self) -> &async_nats::Client {
        &self.client
    }

    /// Publishes one message and waits until it is stored.
    pub(crate) async fn send(&self, message: Outgoing) -> PubAck {
        self.publisher.publish(message).await.unwrap_or_else(|error| panic!("not published: {error:?}"))
    }

    /// Publishes all messages, a window of them under way at once, and waits until all are stored.
    pub(crate) async fn send_all(&self, messages: Vec<Outgoing>) -> Vec<PubAck> {
        let results = self.publisher.publish_all(messages).await;
        results.into_iter().map(|result| result.unwrap_or_else(|error| panic!("not published: {error:?}"))).collect()
    }

    /// Publishes an event of the account `acme`.
    pub(crate) async fn event(&self, customer: &str, body: &Value) -> PubAck {
        self.send(event(customer, body)).await
    }

    /// Publishes a raw webhook of the account `acme`.
    pub(crate) async fn webhook(&self, body: &Value) -> PubAck {
        let id = body["id"].as_str().map(|id| format!("{ACCOUNT}:{id}"));
        let message = Outgoing::new(format!("churn.webhooks.stripe.{ACCOUNT}"), body.to_string());
        self.send(id.into_iter().fold(message, Outgoing::with_id)).await
    }
}

/// A connection that comes back soon after the server does.
pub(crate) async fn connect(cluster: &Cluster) -> async_nats::Client {
    connect_to(&cluster.nats_url()).await
}

async fn connect_to(url: &str) -> async_nats::Client {
    let options = async_nats::ConnectOptions::new()
        .reconnect_delay_callback(|_| Duration::from_millis(50))
        .request_timeout(Some(Duration::from_secs(5)));
    options.connect(addresses(url)).await.unwrap()
}

/// An event of the account `acme` on its way, with the message id that publishers give it if it has an id.
pub(crate) fn event(customer: &str, body: &Value) -> Outgoing {
    let message = Outgoing::new(subject_of(customer), body.to_string());
    match body["id"].as_str() {
        Some(id) => message.with_id(format!("{ACCOUNT}:{id}")),
        None => message,
    }
}

/// The subject that events of a customer of `acme` are published to.
pub(crate) fn subject_of(customer: &str) -> String {
    event_subject(&account(), &encode(&CustomerId::parse(customer).unwrap()))
}

/// A customer's token.
pub(crate) fn token_of(customer: &str) -> String {
    encode(&CustomerId::parse(customer).unwrap()).as_str().to_owned()
}

/// The account `acme`.
pub(crate) fn account() -> AccountId {
    AccountId::parse(ACCOUNT).unwrap()
}

/// One header.
pub(crate) fn header(name: &str, value: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(name, value);
    headers
}
