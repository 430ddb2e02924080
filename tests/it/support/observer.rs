//! What the system shows to those outside: streams, bucket, tables, answers. Asking while servers are away is an error,
//! not a panic.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use async_nats::{HeaderMap, jetstream};
use churnd::event::time::Timestamp;
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio_postgres::types::ToSql;

use super::{
    Cluster,
    cluster::ACCOUNT,
    daemon::in_background,
    eventually,
    feed::{self, token_of},
};

/// Why something cannot be told now.
pub(crate) type Trouble = String;

/// A message of a stream.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) subject: String,
    pub(crate) body: Vec<u8>,
    pub(crate) headers: HeaderMap,
}

impl Stored {
    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| json!(String::from_utf8_lossy(&self.body)))
    }

    /// A header's value; empty if there is none.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.as_str()).unwrap_or_default()
    }
}

/// Looks at a cluster from outside.
pub(crate) struct Observer<'a> {
    cluster: &'a Cluster,
    nats: async_nats::Client,
}

impl<'a> Observer<'a> {
    /// Needs a NATS that runs, for the moment.
    pub(crate) async fn of(cluster: &'a Cluster) -> Self {
        Self { cluster, nats: feed::connect(cluster).await }
    }

    pub(crate) fn jetstream(&self) -> jetstream::Context {
        let mut context = jetstream::new(self.nats.clone());
        context.set_timeout(Duration::from_secs(5));
        context
    }

    /// The last sequence of a stream.
    pub(crate) async fn last_sequence(&self, stream: &str) -> Result<u64, Trouble> {
        Ok(self.state_of(stream).await?.last_sequence)
    }

    /// Has the leader of a stream's group give its place to another node.
    pub(crate) async fn step_down(&self, stream: &str) -> Result<(), Trouble> {
        let subject = format!("$JS.API.STREAM.LEADER.STEPDOWN.{stream}");
        let answer = self.nats.request(subject, "".into()).await.map_err(|error| error.to_string())?;
        let answer: Value = serde_json::from_slice(&answer.payload).map_err(|error| error.to_string())?;
        if answer["success"] == true { Ok(()) } else { Err(answer.to_string()) }
    }

    /// How many messages a stream holds.
    pub(crate) async fn count(&self, stream: &str) -> Result<u64, Trouble> {
        Ok(self.state_of(stream).await?.messages)
    }

    async fn state_of(&self, stream: &str) -> Result<jetstream::stream::State, Trouble> {
        let stream = self.jetstream().get_stream(stream).await.map_err(|error| error.to_string())?;
        Ok(stream.cached_info().state.clone())
    }

    /// All messages of a stream, in order.
    pub(crate) async fn messages(&self, stream: &str) -> Result<Vec<Stored>, Trouble> {
        let stream = self.jetstream().get_stream(stream).await.map_err(|error| error.to_string())?;
        let expected = usize::try_from(stream.cached_info().state.messages).unwrap();
        let config = jetstream::consumer::pull::Config {
            ack_policy: jetstream::consumer::AckPolicy::None,
            memory_storage: true,
            inactive_threshold: Duration::from_secs(60),
            ..Default::default()
        };
        let consumer = stream.create_consumer(config).await.map_err(|error| error.to_string())?;
        let mut all = Vec::with_capacity(expected);
        while all.len() < expected {
            let before = all.len();
            let mut batch = consumer.fetch().max_messages(1_000).messages().await.map_err(|error| error.to_string())?;
            while let Some(message) = batch.next().await {
                let message = message.map_err(|error| error.to_string())?;
                all.push(Stored {
                    subject: message.subject.to_string(),
                    body: message.payload.to_vec(),
                    headers: message.headers.clone().unwrap_or_default(),
                });
            }
            if all.len() == before {
                return Err(format!("the stream gave {before} of {expected} messages"));
            }
        }
        Ok(all)
    }

    /// Webhooks that the normalizer has not done with.
    pub(crate) async fn webhooks_waiting(&self) -> Result<u64, Trouble> {
        let stream = self.jetstream().get_stream("CHURN_WEBHOOKS").await.map_err(|error| error.to_string())?;
        let info = stream.consumer_info("churnd-stripe").await.map_err(|error| error.to_string())?;
        Ok(info.num_pending + info.num_ack_pending as u64)
    }

    /// The bucket's entries by `<account>.<token>`.
    pub(crate) async fn bucket(&self) -> Result<BTreeMap<String, Value>, Trouble> {
        let messages = self.messages("KV_churn_risk").await?;
        let entry = |stored: &Stored| Some((stored.subject.strip_prefix("$KV.churn_risk.")?.to_owned(), stored.json()));
        Ok(messages.iter().filter_map(entry).collect())
    }

    /// From now on the bucket keeps entries that were replaced.
    pub(crate) async fn keep_replaced_scores(&self) -> Result<(), Trouble> {
        let context = self.jetstream();
        let bucket = context.get_stream("KV_churn_risk").await.map_err(|error| error.to_string())?;
        let mut config = bucket.cached_info().config.clone();
        config.max_messages_per_subject = 1_000;
        context.update_stream(config).await.map_err(|error| error.to_string())?;
        Ok(())
    }

    /// The rows of a query.
    pub(crate) async fn rows(
        &self,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<tokio_postgres::Row>, Trouble> {
        let ask = async {
            let url = self.cluster.superuser_url();
            let (client, connection) =
                tokio_postgres::connect(&url, tokio_postgres::NoTls).await.map_err(|error| error.to_string())?;
            in_background(connection);
            client.query(sql, parameters).await.map_err(|error| error.to_string())
        };
        tokio::time::timeout(Duration::from_secs(20), ask).await.map_err(|_| "postgres does not answer".to_owned())?
    }

    /// One number.
    pub(crate) async fn number(&self, sql: &str) -> Result<i64, Trouble> {
        let rows = self.rows(sql, &[]).await?;
        Ok(rows.first().ok_or("no row")?.get(0))
    }

    /// The engine's watermarks by partition.
    pub(crate) async fn watermarks(&self) -> Result<Vec<u64>, Trouble> {
        let rows = self.rows("SELECT watermark FROM partitions WHERE role = 'engine' ORDER BY id", &[]).await?;
        Ok(rows.iter().map(|row| u64::try_from(row.get::<_, i64>(0)).unwrap()).collect())
    }

    /// Fails while anything that stands in the event stream is not accounted for.
    pub(crate) async fn is_caught_up(&self) -> Result<u64, Trouble> {
        let last = self.last_sequence("CHURN_EVENTS").await?;
        let watermarks = self.watermarks().await?;
        let behind = watermarks.iter().filter(|watermark| **watermark < last).count();
        if behind == 0 && !watermarks.is_empty() {
            return Ok(last);
        }
        Err(format!("{behind} of {} partitions are behind {last}: {watermarks:?}", watermarks.len()))
    }

    /// Waits until everything in the event stream is accounted for.
    #[track_caller]
    pub(crate) fn caught_up(&self, within: Duration) -> impl Future<Output = u64> {
        eventually(within, async || self.is_caught_up().await)
    }

    /// A customer's risk, from the risk service; waits for a daemon that has only just started to offer it.
    pub(crate) async fn risk(&self, customer: &str, as_of: Option<i64>) -> Result<Value, Trouble> {
        let subject = format!("churn.risk.{ACCOUNT}.{}", token_of(customer));
        let as_of = as_of.map(|millis| json!({"asOf": Timestamp::from_millis(millis)}).to_string());
        let question = bytes::Bytes::from(as_of.unwrap_or_default());
        let deadline = Instant::now() + Duration::from_secs(10);
        let answer = loop {
            match self.nats.request(subject.clone(), question.clone()).await {
                Ok(answer) => break answer,
                Err(error)
                    if error.kind() == async_nats::client::RequestErrorKind::NoResponders
                        && Instant::now() < deadline =>
                {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(error) => return Err(error.to_string()),
            }
        };
        let header = |name: &str| Some(answer.headers.as_ref()?.get(name)?.as_str().to_owned());
        match header("Nats-Service-Error-Code") {
            None => serde_json::from_slice(&answer.payload).map_err(|error| error.to_string()),
            Some(code) => Err(format!("{code} {}", header("Nats-Service-Error").unwrap_or_default())),
        }
    }

    /// How many partitions of the engine each owner has, by instance; those without owner under an empty name.
    pub(crate) async fn owners(&self) -> Result<BTreeMap<String, usize>, Trouble> {
        let sql = "SELECT coalesce(split_part(owner, '/', 1), '') FROM partitions WHERE role = 'engine'";
        let mut owners = BTreeMap::new();
        for row in self.rows(sql, &[]).await? {
            *owners.entry(row.get(0)).or_default() += 1;
        }
        Ok(owners)
    }
}
