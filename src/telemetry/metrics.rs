//! Every metric, once: the doc comment of a field is the help text that operators read.
//!
//! Names are `churnd_<noun>_<participle>_total`, `_seconds`, `_bytes`. Labels are bounded: words of the program's text and
//! partition numbers, never an account, a customer or an error's text.

use std::{
    fmt,
    ops::Deref,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64},
    },
    time::{Duration, Instant},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeLabelValue, EncodeMetric, MetricEncoder, text},
    metrics::{
        MetricType, TypedMetric,
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::{ConstGauge, Gauge},
        histogram::Histogram,
        info::Info,
    },
    registry::Registry,
};

use super::process::Usage;
use crate::event::{ids::PartitionId, time::Timestamp};

/// The content type of [`Metrics::encode`]'s text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A gauge of whole numbers.
pub type Whole = Gauge<i64, AtomicI64>;
/// A gauge of seconds or ratios.
pub type Real = Gauge<f64, AtomicU64>;

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the variants are the values of the label")]
pub enum EventResult {
    /// It changed its customer's state.
    applied,
    /// It was known already.
    duplicate,
    /// It lies before the windows and changed nothing.
    late,
    /// It went to the dead letters.
    dead,
    /// It was erased, because its customer was.
    suppressed,
}

impl EventResult {
    /// All of them.
    const ALL: [Self; 5] = [Self::applied, Self::duplicate, Self::late, Self::dead, Self::suppressed];
}

/// Label `result` of [`Registered::events`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct EventLabels {
    /// What became of the event.
    pub result: EventResult,
}

/// Declares a set of labels whose values are words of the program's text.
macro_rules! labels {
    ($($(#[$doc:meta])+ $name:ident { $($label:ident),+ })+) => {$(
        $(#[$doc])+
        #[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
        #[expect(missing_docs, reason = "the fields are the labels")]
        pub struct $name { $(pub $label: &'static str),+ }
    )+
        /// The labels of each set that is declared here.
        const LABEL_SETS: &[(&str, &[&str])] = &[$((stringify!($name), &[$(stringify!($label)),+])),+];
    };
}

labels! {
    /// How something ended.
    ResultLabel { result }
    /// Why something happened.
    ReasonLabel { reason }
    /// Of which kind something is.
    KindLabel { kind }
    /// What made something happen.
    CauseLabel { cause }
    /// What something is for.
    PurposeLabel { purpose }
    /// A stage of the pipeline.
    StageLabel { stage }
    /// A stage and the kind of error met there.
    ErrorLabels { stage, error_type }
    /// A stage and why a message was given up there.
    DeadLabels { stage, reason }
    /// An alert's kind and level.
    AlertLabels { kind, level }
    /// Where an event came in, and what became of it there.
    IngestLabels { source, result }
    /// A kind of channel, and how something ended there.
    DeliveryLabels { channel, result }
    /// A kind of channel.
    ChannelLabel { channel }
    /// A route of the HTTP API as it is declared, never a path as it was asked for.
    RouteLabel { route }
}

/// A request's route, method and answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    /// The route as it is declared.
    pub route: &'static str,
    /// The method; `other` for those that no route has.
    pub method: &'static str,
    /// The status.
    pub code: u16,
}

/// A partition's number.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PartitionLabel {
    /// The number, from 0.
    pub partition: u16,
}

impl From<PartitionId> for PartitionLabel {
    fn from(partition: PartitionId) -> Self {
        Self { partition: partition.0 }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HashLabel {
    hash: String,
}

/// How long something has been waiting, worked out when it is asked for: it grows even when the task that should end the
/// waiting hangs.
#[derive(Clone, Debug, Default)]
pub struct Age(Arc<Mutex<Option<Instant>>>);

impl Age {
    /// Something has been waiting since then, or nothing is (the age is 0).
    pub fn waits_since(&self, instant: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = instant;
    }

    /// The age now.
    pub fn get(&self) -> Duration {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).map_or(Duration::ZERO, |since| since.elapsed())
    }
}

impl TypedMetric for Age {
    const TYPE: MetricType = MetricType::Gauge;
}

impl EncodeMetric for Age {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        encoder.encode_gauge(&self.get().as_secs_f64())
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

/// A metric as operators meet it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// Its name as it is exported; a histogram's has `_bucket`, `_sum` or `_count` after it.
    pub name: &'static str,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// By what it is told apart.
    pub labels: Vec<&'static str>,
    /// What it tells.
    pub help: &'static str,
}

impl Described {
    /// Reads kind and labels off the type that it is declared with.
    fn new(name: &'static str, declared: &str, help: &'static str) -> Self {
        let kind = ["Counter", "Histogram"].into_iter().find(|kind| declared.contains(kind));
        let kind = kind.map_or("gauge", |kind| if kind == "Counter" { "counter" } else { "histogram" });
        let by_hand: [(&str, &[&str]); 3] = [
            ("EventLabels", &["result"]),
            ("RequestLabels", &["route", "method", "code"]),
            ("PartitionLabel", &["partition"]),
        ];
        let is_declared = |set: &str| declared.contains(&format!("<{set},"));
        let labels =
            LABEL_SETS.iter().chain(&by_hand).find(|(set, _)| is_declared(set)).map(|(_, labels)| labels.to_vec());
        Self { name, kind, labels: labels.unwrap_or_default(), help }
    }
}

const BUILD_HELP: &str = "The version that runs";
const RULES_HELP: &str = "The rules in force, by the hash of their file";

/// What the metrics of the process itself tell.
mod process_help {
    pub(super) const CPU: &str = "CPU time used, user and system";
    pub(super) const MEMORY: &str = "Memory resident in RAM";
    pub(super) const OPEN_FDS: &str = "Open file descriptors";
    pub(super) const STARTED: &str = "When the process started, in Unix time";
}

/// Declares the struct of all metrics, and how each is made and registered.
macro_rules! metrics {
    ($($(#[doc = $help:literal])+ $field:ident: $kind:ty = $name:literal $(, $make:expr)?;)+) => {
        /// The metrics as fields, to count on.
        #[derive(Debug)]
        pub struct Registered {
            $($(#[doc = $help])+ pub $field: $kind,)+
            rules_hash: Family<HashLabel, Whole>,
        }

        /// Every metric, as operators meet it.
        pub fn catalog() -> Vec<Described> {
            let mut all = vec![$(Described::new($name, stringify!($kind), help(concat!($($help),+)))),+];
            all.push(Described { name: "churnd_build_info", kind: "gauge", labels: vec!["version"], help: BUILD_HELP });
            all.push(Described { name: "churnd_rules_hash_info", kind: "gauge", labels: vec!["hash"], help: RULES_HELP });
            all.push(Described::new("process_cpu_seconds_total", "Counter", process_help::CPU));
            all.push(Described::new("process_resident_memory_bytes", "Gauge", process_help::MEMORY));
            all.push(Described::new("process_open_fds", "Gauge", process_help::OPEN_FDS));
            all.push(Described::new("process_start_time_seconds", "Gauge", process_help::STARTED));
            all
        }

        fn register(registry: &mut Registry) -> Registered {
            $(
                let $field = metrics!(@make $kind $(, $make)?);
                registry.register(base_name($name), help(concat!($($help),+)), <$kind>::clone(&$field));
            )+
            let rules_hash = Family::default();
            registry.register("churnd_rules_hash_info", RULES_HELP, rules_hash.clone());
            Registered { $($field,)+ rules_hash }
        }
    };
    (@make $kind:ty) => { <$kind>::default() };
    (@make $kind:ty, $make:expr) => { $make };
}

metrics! {
    /// Events that were taken from the stream and decided on, by what became of them.
    events: Family<EventLabels, Counter> = "churnd_events_total";
    /// Messages that were received from the event stream.
    events_received: Counter = "churnd_events_received_total";
    /// Messages in the event stream that were not delivered to this instance yet.
    consumer_pending_messages: Whole = "churnd_consumer_pending_messages";
    /// How long before its decision the newest event decided on was stored in the stream.
    event_lag_seconds: Real = "churnd_event_lag_seconds";
    /// Consumers that were made anew, by reason.
    consumer_recreated: Family<ReasonLabel, Counter> = "churnd_consumer_recreated_total";
    /// Heartbeats of the server that a consumer missed.
    consumer_heartbeats_missed: Counter = "churnd_consumer_heartbeats_missed_total";
    /// Time that one batch spent in a stage of the pipeline.
    processing_duration_seconds: Family<StageLabel, Histogram> = "churnd_processing_duration_seconds",
        Family::new_with_constructor(durations as fn() -> Histogram);
    /// Time from an event's storing in the stream to the checkpoint that holds it.
    end_to_end_latency_seconds: Histogram = "churnd_end_to_end_latency_seconds", durations();
    /// Customers held in memory, changed or not.
    windows_resident: Whole = "churnd_windows_resident";
    /// Customers held in memory that changed since the last checkpoint.
    windows_dirty: Whole = "churnd_windows_dirty";
    /// Customers dropped from memory, by cause.
    window_evictions: Family<CauseLabel, Counter> = "churnd_window_evictions_total";
    /// Customers looked for in the store, by whether they were found.
    window_loads: Family<ResultLabel, Counter> = "churnd_window_loads_total";
    /// How long the oldest change that no checkpoint holds has been waiting; 0 when there is none.
    checkpoint_age_seconds: Age = "churnd_checkpoint_age_seconds";
    /// Time that a checkpoint's transaction took.
    checkpoint_duration_seconds: Histogram = "churnd_checkpoint_duration_seconds", durations();
    /// Size of a checkpoint's states.
    checkpoint_size_bytes: Histogram = "churnd_checkpoint_size_bytes", sizes();
    /// Checkpoints, by result.
    checkpoints: Family<ResultLabel, Counter> = "churnd_checkpoints_total";
    /// The stream sequence up to which a partition's checkpoint stands.
    checkpoint_sequence: Family<PartitionLabel, Whole> = "churnd_checkpoint_sequence";
    /// 1 for each partition that this instance owns.
    partition_owner: Family<PartitionLabel, Whole> = "churnd_partition_owner";
    /// The epoch under which this instance owns a partition.
    lease_epoch: Family<PartitionLabel, Whole> = "churnd_lease_epoch";
    /// Writes that were refused because another instance has taken the partition over.
    fenced_writes: Counter = "churnd_fenced_writes_total";
    /// Partitions that this instance took over.
    takeovers: Counter = "churnd_takeovers_total";
    /// Alerts raised, by kind and level.
    alerts: Family<AlertLabels, Counter> = "churnd_alerts_total";
    /// Alerts that were held back, by reason: the same level was announced lately (cooldown), or events of the whole account
    /// are or were missing (tracking).
    alerts_held: Family<ReasonLabel, Counter> = "churnd_alerts_held_total";
    /// Accounts whose events do not come at present, so that their tracking may be broken.
    accounts_guarded: Whole = "churnd_accounts_guarded";
    /// Tries to deliver a message to people, by kind of channel and result.
    delivery_attempts: Family<DeliveryLabels, Counter> = "churnd_delivery_attempts_total";
    /// Alerts that were dealt with for a channel, by its kind, and by what became of them.
    deliveries: Family<DeliveryLabels, Counter> = "churnd_deliveries_total";
    /// Time that one try to deliver took, by kind of channel.
    delivery_duration_seconds: Family<ChannelLabel, Histogram> = "churnd_delivery_duration_seconds",
        Family::new_with_constructor(durations as fn() -> Histogram);
    /// Alerts that wait to be delivered, whether they are due or held for later.
    deliveries_pending: Whole = "churnd_deliveries_pending";
    /// How long ago the oldest delivery that is due became so; 0 when none is.
    delivery_oldest_age_seconds: Age = "churnd_delivery_oldest_age_seconds";
    /// Channels that were paused because they failed for long, by kind.
    channels_paused: Family<ChannelLabel, Whole> = "churnd_channels_paused";
    /// Messages in the outbox that are not published yet.
    outbox_pending: Whole = "churnd_outbox_pending";
    /// How long the oldest message in the outbox has been waiting; 0 when it is empty.
    outbox_oldest_age_seconds: Age = "churnd_outbox_oldest_age_seconds";
    /// Erasures of customers that are not done.
    erasures_open: Whole = "churnd_erasures_open";
    /// How long ago the oldest erasure that is not done was asked for; 0 when there is none.
    erasure_oldest_age_seconds: Age = "churnd_erasure_oldest_age_seconds";
    /// Errors met, by stage and kind.
    errors: Family<ErrorLabels, Counter> = "churnd_errors_total";
    /// Messages that went to the dead letters, by stage and reason.
    dlq: Family<DeadLabels, Counter> = "churnd_dlq_total";
    /// Webhooks taken from their stream, by what became of them.
    webhooks: Family<ResultLabel, Counter> = "churnd_webhooks_total";
    /// Reloads of what can change while running, by result.
    config_reloads: Family<ResultLabel, Counter> = "churnd_config_reloads_total";
    /// 1 while the connection to NATS stands.
    nats_connected: Whole = "churnd_nats_connected";
    /// Times that the connection to NATS was made anew.
    nats_reconnects: Counter = "churnd_nats_reconnects_total";
    /// Events whose timestamp lay too far ahead and was set to the time of receipt.
    clamped_timestamps: Counter = "churnd_clamped_timestamps_total";
    /// Messages that the stream dropped at its limits before they were read.
    overtaken_messages: Counter = "churnd_overtaken_messages_total";
    /// Customers' risks that were calculated: with an event, after a silence, or by other rules.
    risk_calculations: Counter = "churnd_risk_calculations_total";
    /// Customers scored anew after a change of rules.
    rescored_customers: Counter = "churnd_rescored_customers_total";
    /// Events written to the archive.
    archive_events: Counter = "churnd_archive_events_total";
    /// Connections that were refused or ended by us, by reason: ambiguous requests, no agreement on TLS, too many of a client.
    http_connections_refused: Family<ReasonLabel, Counter> = "churnd_http_connections_refused_total";
    /// Webhooks that came in over HTTP, by source, and by whether the sender was proven.
    webhook_verifications: Family<IngestLabels, Counter> = "churnd_webhook_verifications_total";
    /// Time from a webhook's head to its answer.
    webhook_processing_duration_seconds: Histogram = "churnd_webhook_processing_duration_seconds", durations();
    /// When our TLS certificate ends, in Unix time.
    tls_certificate_expiry_timestamp_seconds: Family<PurposeLabel, Whole> =
        "churnd_tls_certificate_expiry_timestamp_seconds";
    /// HTTP requests answered, by route, method and status.
    http_requests: Family<RequestLabels, Counter> = "churnd_http_requests_total";
    /// Time from a request's head to its answer's head.
    http_request_duration_seconds: Family<RouteLabel, Histogram> = "churnd_http_request_duration_seconds",
        Family::new_with_constructor(durations as fn() -> Histogram);
    /// HTTP requests that are being worked on.
    http_in_flight: Whole = "churnd_http_in_flight";
    /// Events that came in over HTTP, by where, and by what became of them.
    ingest_events: Family<IngestLabels, Counter> = "churnd_ingest_events_total";
    /// Messages of Segment's SDKs that did not become events, by reason; their senders are told that all is well.
    segment_dropped: Family<ReasonLabel, Counter> = "churnd_segment_dropped_total";
    /// Bytes of the events that were accepted over HTTP.
    ingest_bytes: Counter = "churnd_ingest_bytes_total";
    /// Time from an event's publishing to the stream's confirmation.
    publish_ack_duration_seconds: Histogram = "churnd_publish_ack_duration_seconds", durations();
    /// Requests whose key opened nothing, by reason.
    auth_failures: Family<ReasonLabel, Counter> = "churnd_auth_failures_total";
    /// Requests that came too often, by the kind of their key.
    rate_limited: Family<KindLabel, Counter> = "churnd_rate_limited_total";
}

/// The metrics of this process; all clones count on the same.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registered: Registered,
    registry: Registry,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Metrics")
    }
}

impl Deref for Metrics {
    type Target = Registered;

    fn deref(&self) -> &Registered {
        &self.0.registered
    }
}

impl Metrics {
    /// All metrics at zero, of a process that began at `started`.
    pub fn new(started: Timestamp) -> Self {
        let mut registry = Registry::default();
        let registered = register(&mut registry);
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("churnd_build", BUILD_HELP, build);
        registry.register_collector(Box::new(Process { started }));
        let metrics = Self(Arc::new(Inner { registered, registry }));
        for result in EventResult::ALL {
            metrics.count_events(result, 0);
        }
        // A counter that begins with its first refusal shows no increase.
        for result in ["applied", "refused"] {
            metrics.config_reloads.get_or_create(&ResultLabel { result }).inc_by(0);
        }
        metrics
    }

    /// Counts events by what became of them.
    pub fn count_events(&self, result: EventResult, count: u64) {
        self.events.get_or_create(&EventLabels { result }).inc_by(count);
    }

    /// Counts an error that was met and handled.
    pub fn count_error(&self, stage: &'static str, error_type: &'static str) {
        self.errors.get_or_create(&ErrorLabels { stage, error_type }).inc();
    }

    /// Counts a message that went to the dead letters.
    pub fn count_dead(&self, stage: &'static str, reason: &'static str) {
        self.dlq.get_or_create(&DeadLabels { stage, reason }).inc();
    }

    /// Notes how long one batch spent in a stage.
    pub fn observe_stage(&self, stage: &'static str, span: Duration) {
        self.processing_duration_seconds.get_or_create(&StageLabel { stage }).observe(span.as_secs_f64());
    }

    /// Shows a partition as owned.
    pub fn partition_acquired(&self, partition: PartitionId, epoch: u64) {
        let label = PartitionLabel::from(partition);
        self.partition_owner.get_or_create(&label).set(1);
        self.lease_epoch.get_or_create(&label).set(whole(epoch));
    }

    /// Shows how far a partition's checkpoint stands.
    pub fn partition_checkpointed(&self, partition: PartitionId, sequence: u64) {
        self.checkpoint_sequence.get_or_create(&partition.into()).set(whole(sequence));
    }

    /// Shows a partition as no longer owned.
    pub fn partition_released(&self, partition: PartitionId) {
        let label = PartitionLabel::from(partition);
        self.partition_owner.remove(&label);
        self.lease_epoch.remove(&label);
        self.checkpoint_sequence.remove(&label);
    }

    /// Shows which rules are in force.
    pub fn set_rules_hash(&self, hash: &str) {
        self.rules_hash.clear();
        self.rules_hash.get_or_create(&HashLabel { hash: hash.to_owned() }).set(1);
    }

    /// All metrics as `OpenMetrics` text, of [`CONTENT_TYPE`].
    pub fn encode(&self) -> String {
        let mut text = String::with_capacity(16 * 1024);
        text::encode(&mut text, &self.0.registry).expect("writing to a string cannot fail");
        text
    }
}

/// What the kernel knows of this process, asked at each scrape.
#[derive(Debug)]
struct Process {
    started: Timestamp,
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let usage = Usage::of_this_process();
        if let Some(seconds) = usage.cpu_seconds {
            put(&mut encoder, "process_cpu_seconds", process_help::CPU, &ConstCounter::new(seconds))?;
        }
        if let Some(bytes) = usage.resident_bytes {
            let gauge = ConstGauge::new(whole(bytes));
            put(&mut encoder, "process_resident_memory_bytes", process_help::MEMORY, &gauge)?;
        }
        if let Some(count) = usage.open_fds {
            put(&mut encoder, "process_open_fds", process_help::OPEN_FDS, &ConstGauge::new(whole(count)))?;
        }
        let started = ConstGauge::new(self.started.millis() as f64 / 1_000.0);
        put(&mut encoder, "process_start_time_seconds", process_help::STARTED, &started)
    }
}

fn put(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, metric: &impl EncodeMetric) -> fmt::Result {
    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
}

/// A count as a gauge holds it.
fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// From half a millisecond to a minute.
fn durations() -> Histogram {
    Histogram::new([0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0])
}

/// From 1 KiB to 64 MiB, in steps of four.
fn sizes() -> Histogram {
    Histogram::new((0..9).map(|step| 1024.0 * 4f64.powi(step)))
}

/// The encoder appends a counter's `_total` itself.
fn base_name(name: &'static str) -> &'static str {
    name.strip_suffix("_total").unwrap_or(name)
}

/// The encoder appends the full stop itself.
fn help(doc: &'static str) -> &'static str {
    doc.trim().trim_end_matches('.')
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn metrics() -> Metrics {
        Metrics::new(Timestamp::from_seconds(1_790_000_000))
    }

    #[test]
    fn counted_events_are_exported_with_help_type_and_end() {
        let metrics = metrics();
        metrics.clone().count_events(EventResult::applied, 7);
        let text = metrics.encode();
        assert!(text.contains("# TYPE churnd_events counter\n"), "{text}");
        assert!(text.contains("churnd_events_total{result=\"applied\"} 7\n"));
        assert!(text.contains("churnd_events_total{result=\"dead\"} 0\n"));
        assert!(text.contains(
            "# HELP churnd_windows_dirty Customers held in memory that changed since the last checkpoint.\n"
        ));
        assert!(text.ends_with("# EOF\n"));
    }

    /// A family without members is not exported, so this can only prove the other direction for them.
    #[test]
    fn every_exported_name_is_declared_once() {
        let metrics = metrics();
        metrics.set_rules_hash("ab12");
        metrics.count_error("decode", "not_json");
        metrics.observe_stage("decode", Duration::from_millis(3));
        let text = metrics.encode();
        let exported: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
        let mut declared: HashSet<&str> = catalog().iter().map(|metric| base_name(metric.name)).collect();
        assert_eq!(declared.len(), catalog().len(), "a name is declared twice");
        declared.insert("churnd_build");
        for name in &exported {
            assert!(declared.contains(name), "{name} is exported but not declared");
        }
        assert_eq!(exported.iter().collect::<HashSet<_>>().len(), exported.len(), "exported twice");
        assert!(exported.len() > 25, "{exported:?}");
    }

    #[test]
    fn released_partitions_leave_no_series_behind() {
        let metrics = metrics();
        metrics.partition_acquired(PartitionId(3), 42);
        metrics.partition_checkpointed(PartitionId(3), 1_000);
        assert!(metrics.encode().contains("churnd_lease_epoch{partition=\"3\"} 42\n"));
        metrics.partition_released(PartitionId(3));
        assert!(!metrics.encode().contains("partition=\"3\""));
    }

    #[test]
    fn age_grows_by_itself_and_rules_hash_is_one() {
        let metrics = metrics();
        assert_eq!(metrics.checkpoint_age_seconds.get(), Duration::ZERO);
        metrics.checkpoint_age_seconds.waits_since(Instant::now().checked_sub(Duration::from_secs(5)));
        assert!(metrics.checkpoint_age_seconds.get() >= Duration::from_secs(5));
        metrics.set_rules_hash("first");
        metrics.set_rules_hash("second");
        let text = metrics.encode();
        assert!(text.contains("churnd_rules_hash_info{hash=\"second\"} 1\n") && !text.contains("first"), "{text}");
    }

    #[test]
    fn process_metrics_come_from_proc() {
        let text = metrics().encode();
        for name in ["process_cpu_seconds_total ", "process_resident_memory_bytes ", "process_open_fds "] {
            assert!(text.contains(name), "{name} is missing");
        }
        assert!(text.contains("process_start_time_seconds 1790000000"));
    }
}
