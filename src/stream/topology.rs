//! The declared streams: what stands in `nats/`, compared with a server and applied to it.
//!
//! The files are the JSON that the `nats` command takes, embedded in the binary. Only the fields that they name are
//! compared, so whatever an operator sets besides stays. Limits are floors: a server that keeps more, longer or more
//! copies is left alone. Nothing is ever deleted, and a change that would lose data is refused with a named error.

use std::fmt;

use async_nats::jetstream::Context;
use serde_json::{Map, Value};

use super::{
    ALERTS, DEAD, EVENTS, RISK_STREAM, StreamError, WEBHOOKS,
    api::{self, StreamInfo},
    numbering,
};

const FILES: [(&str, &str); 5] = [
    (EVENTS, include_str!("../../nats/streams/CHURN_EVENTS.json")),
    (WEBHOOKS, include_str!("../../nats/streams/CHURN_WEBHOOKS.json")),
    (ALERTS, include_str!("../../nats/streams/CHURN_ALERTS.json")),
    (DEAD, include_str!("../../nats/streams/CHURN_DEAD.json")),
    (RISK_STREAM, include_str!("../../nats/kv/churn_risk.json")),
];
/// The oldest server that has all that the streams use.
pub const LEAST_SERVER: (i64, i64, i64) = (2, 15, 0);
const NO_STORAGE: u64 = 10_047;
/// Fields without which churnd gives wrong answers, rather than merely keeping less.
const RELIED_UPON: [&str; 8] = [
    "subjects",
    "subject_transform",
    "retention",
    "discard",
    "discard_new_per_subject",
    "max_msgs_per_subject",
    "allow_direct",
    "deny_delete",
];

/// The streams as they should be.
#[derive(Clone, Debug)]
pub struct Topology {
    streams: Vec<Declared>,
}

#[derive(Clone, Debug)]
struct Declared {
    name: &'static str,
    fields: Map<String, Value>,
}

/// One way in which a server is not as declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The stream.
    pub stream: String,
    /// The field, or nothing if the whole stream is missing.
    pub field: Option<String>,
    /// What the server has.
    pub found: String,
    /// What is declared.
    pub declared: String,
    /// What [`Topology::apply`] does about it.
    pub remedy: Remedy,
}

/// What is done about a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// The stream is created.
    Create,
    /// The field is set.
    Set,
    /// Nothing: the server keeps more than was asked for.
    Keep,
    /// Refused: it would lose data or move customers to other partitions.
    Refuse(&'static str),
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stream, found, declared, .. } = self;
        let Some(field) = &self.field else { return write!(formatter, "+ {stream}: {declared}") };
        match self.remedy {
            Remedy::Create | Remedy::Set => write!(formatter, "~ {stream}.{field}: {found} -> {declared}"),
            Remedy::Keep => write!(formatter, "= {stream}.{field}: {found} is kept, declared is {declared}"),
            Remedy::Refuse(why) => write!(formatter, "! {stream}.{field}: {found} -> {declared} is refused: {why}"),
        }
    }
}

/// Why the declared streams were not applied.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// The change would lose data; nothing was changed.
    #[error("{stream}.{field}: changing {found} to {declared} is refused: {why}; nothing was changed")]
    WouldLoseData {
        /// The stream.
        stream: String,
        /// The field.
        field: String,
        /// What the server has.
        found: String,
        /// What is declared.
        declared: String,
        /// What would be lost.
        why: &'static str,
    },
    /// The server has no room for what the stream may grow to.
    #[error(
        "nats has no room for {stream}: its max_bytes are reserved when it is created; raise jetstream.max_file_store in \
         the server's configuration, or create the stream with a smaller limit from nats/streams"
    )]
    NoRoom {
        /// The stream.
        stream: String,
    },
    /// The server could not be asked, or said no.
    #[error(transparent)]
    Stream(#[from] StreamError),
}

/// Something that keeps churnd from starting, or that an operator should know; one sentence that says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Starting would give wrong answers or lose messages.
    pub fatal: bool,
    /// The sentence.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

/// The embedded declarations, with the events split into so many partitions.
pub fn declared(partitions: u16) -> Topology {
    let streams = FILES.map(|(name, text)| {
        let fields: Map<String, Value> =
            serde_json::from_str(text).expect("the embedded stream files are JSON objects");
        Declared { name, fields }
    });
    let mut topology = Topology { streams: streams.into() };
    topology.streams[0].fields["subject_transform"]["dest"] = numbering::transform(partitions).into();
    topology.set("num_replicas", None);
    topology
}

impl Topology {
    /// The same streams with so many copies each. Without this a new stream has one copy and an existing one keeps its.
    #[must_use]
    pub fn with_replicas(mut self, replicas: u8) -> Self {
        self.set("num_replicas", Some(replicas.into()));
        self
    }

    /// The same streams with limits that together need no more than `bytes`: a server reserves them when it creates a
    /// stream, and refuses when its store has no room. For private servers on small disks.
    #[must_use]
    pub fn with_room(mut self, bytes: u64) -> Self {
        let limit = |stream: &Declared| stream.fields.get("max_bytes").and_then(Value::as_u64).unwrap_or(0);
        let total: u64 = self.streams.iter().map(limit).sum();
        if total > bytes {
            for stream in &mut self.streams {
                let share = u128::from(limit(stream)) * u128::from(bytes) / u128::from(total);
                stream.fields.insert("max_bytes".to_owned(), u64::try_from(share).unwrap_or(bytes).into());
            }
        }
        self
    }

    fn set(&mut self, field: &str, value: Option<Value>) {
        for stream in &mut self.streams {
            match &value {
                Some(value) => stream.fields.insert(field.to_owned(), value.clone()),
                None => stream.fields.remove(field),
            };
        }
    }

    /// How the server differs from the declarations; empty if in nothing.
    pub async fn plan(&self, context: &Context) -> Result<Vec<Difference>, StreamError> {
        let mut differences = Vec::new();
        for stream in &self.streams {
            let found = stream.find(context).await?;
            differences.extend(stream.differences(found.as_ref()));
        }
        Ok(differences)
    }

    /// Creates and updates until the server is as declared; says what it did. Doing it again does nothing. Where any
    /// change would lose data, none is made.
    pub async fn apply(&self, context: &Context) -> Result<Vec<Difference>, TopologyError> {
        let mut work = Vec::new();
        for stream in &self.streams {
            let found = stream.find(context).await?;
            let differences = stream.differences(found.as_ref());
            if let Some(error) = differences.iter().find_map(refusal) {
                return Err(error);
            }
            work.push((stream, found, differences));
        }
        let mut done = Vec::new();
        for (stream, found, differences) in work {
            match found {
                None => stream.create(context).await?,
                Some(found) if differences.iter().any(|difference| difference.remedy == Remedy::Set) => {
                    stream.update(context, found, &differences).await?;
                }
                Some(_) => {}
            }
            done.extend(differences.into_iter().filter(|difference| difference.remedy != Remedy::Keep));
        }
        Ok(done)
    }

    /// What must be known before starting against this server: fatal problems first.
    pub async fn verify(&self, context: &Context) -> Result<Vec<Problem>, StreamError> {
        let mut problems = Vec::new();
        problems.extend(server_problem(context));
        for stream in &self.streams {
            match stream.find(context).await? {
                Some(found) => stream.check(&found, &mut problems),
                None => problems.push(Problem {
                    fatal: true,
                    text: format!("The stream {} does not exist: run `churnd provision`.", stream.name),
                }),
            }
        }
        problems.sort_by_key(|problem| !problem.fatal);
        Ok(problems)
    }
}

fn server_problem(context: &Context) -> Option<Problem> {
    let client = context.client();
    let (major, minor, patch) = LEAST_SERVER;
    if client.is_server_compatible(major, minor, patch) {
        return None;
    }
    let found = client.server_info().version;
    let text =
        format!("nats-server is {found}, and churnd needs {major}.{minor}.{patch} or newer: upgrade the server.");
    Some(Problem { fatal: true, text })
}

fn refusal(difference: &Difference) -> Option<TopologyError> {
    let Remedy::Refuse(why) = difference.remedy else { return None };
    Some(TopologyError::WouldLoseData {
        stream: difference.stream.clone(),
        field: difference.field.clone().unwrap_or_default(),
        found: difference.found.clone(),
        declared: difference.declared.clone(),
        why,
    })
}

impl Declared {
    async fn find(&self, context: &Context) -> Result<Option<StreamInfo>, StreamError> {
        match api::stream_info(context, self.name).await {
            Ok(info) => Ok(Some(info)),
            Err(StreamError::NoStream { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn differences(&self, found: Option<&StreamInfo>) -> Vec<Difference> {
        let Some(found) = found else {
            let declared = self.fields.get("description").and_then(Value::as_str).unwrap_or_default().to_owned();
            let stream = self.name.to_owned();
            return vec![Difference { stream, field: None, found: String::new(), declared, remedy: Remedy::Create }];
        };
        let mut differences = Vec::new();
        for (field, declared) in &self.fields {
            let value = normal(field, found.config.get(field));
            if value == *declared {
                continue;
            }
            differences.push(Difference {
                stream: self.name.to_owned(),
                field: Some(field.clone()),
                found: shown(field, &value),
                declared: shown(field, declared),
                remedy: remedy(field, &value, declared, found),
            });
        }
        differences
    }

    async fn create(&self, context: &Context) -> Result<(), TopologyError> {
        let mut config = self.fields.clone();
        config.entry("num_replicas").or_insert_with(|| 1.into());
        let subject = format!("STREAM.CREATE.{}", self.name);
        match api::request::<_, StreamInfo>(context, &subject, self.name, &config).await {
            Ok(_) => Ok(()),
            Err(StreamError::Refused { code: NO_STORAGE, .. }) => {
                Err(TopologyError::NoRoom { stream: self.name.to_owned() })
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn update(&self, context: &Context, found: StreamInfo, wanted: &[Difference]) -> Result<(), TopologyError> {
        let mut config = found.config;
        for difference in wanted.iter().filter(|difference| difference.remedy == Remedy::Set) {
            if let Some(field) = &difference.field {
                config.insert(field.clone(), self.fields[field].clone());
            }
        }
        let subject = format!("STREAM.UPDATE.{}", self.name);
        api::request::<_, StreamInfo>(context, &subject, self.name, &config).await?;
        Ok(())
    }

    fn check(&self, found: &StreamInfo, problems: &mut Vec<Problem>) {
        for difference in self.differences(Some(found)) {
            let relied = difference.field.as_deref().is_some_and(|field| RELIED_UPON.contains(&field));
            if relied && difference.remedy != Remedy::Keep {
                let Difference { stream, found, declared, .. } = &difference;
                let field = difference.field.as_deref().unwrap_or_default();
                let step = match difference.remedy {
                    Remedy::Refuse(why) => format!("it cannot be changed in place ({why})"),
                    Remedy::Create | Remedy::Set | Remedy::Keep => "run `churnd provision`".to_owned(),
                };
                let text = format!("The stream {stream} has {field} {found} instead of {declared}: {step}.");
                problems.push(Problem { fatal: true, text });
            }
        }
        let replicas = found.config.get("num_replicas").and_then(Value::as_u64).unwrap_or(1);
        if self.name == EVENTS && replicas < 2 {
            let text = format!(
                "The stream {} is kept in one copy: what was acknowledged survives a crash of nats-server, but \
                 survives a power cut only with `sync_interval: always`, which the server does not tell; see nats/README.md.",
                self.name
            );
            problems.push(Problem { fatal: false, text });
        }
    }
}

/// What a server that leaves a field out, or writes it in another form, means by that.
fn normal(field: &str, value: Option<&Value>) -> Value {
    match value {
        Some(value) => value.clone(),
        None => match field {
            "discard_new_per_subject" | "allow_direct" | "allow_rollup_hdrs" | "deny_delete" | "deny_purge" => {
                Value::Bool(false)
            }
            "max_msgs_per_subject" | "max_msgs" | "max_bytes" | "max_msg_size" | "max_consumers" => Value::from(-1),
            "max_age" => Value::from(0),
            _ => Value::Null,
        },
    }
}

fn remedy(field: &str, found: &Value, declared: &Value, info: &StreamInfo) -> Remedy {
    match field {
        "max_age" | "max_bytes" | "max_msgs" | "max_consumers" | "num_replicas" if keeps_more(found, declared) => {
            Remedy::Keep
        }
        "max_msg_size" if keeps_more(found, declared) => Remedy::Keep,
        "subjects" if contains_all(found, declared) => Remedy::Keep,
        "max_msgs_per_subject" if keeps_more(declared, found) => Remedy::Set,
        "max_msgs_per_subject" if info.state.messages > info.state.num_subjects => {
            Remedy::Refuse("older messages of the same subjects would be deleted")
        }
        "retention" => Remedy::Refuse("the stream may delete what was read; create it anew"),
        "storage" => Remedy::Refuse("a stream cannot move to other storage; create it anew"),
        // Doubled since: what is declared is the number that the installation began with.
        "subject_transform" if is_doubled(found, declared) => Remedy::Keep,
        "subject_transform" if info.state.messages > 0 && *found != Value::Null => {
            Remedy::Refuse("customers would move to other partitions while their older events stay where they are")
        }
        "deny_delete" | "deny_purge" if *found == Value::Bool(true) => {
            Remedy::Refuse("the server never takes this back; create the stream anew, or erasure is impossible")
        }
        _ => Remedy::Set,
    }
}

fn is_doubled(found: &Value, declared: &Value) -> bool {
    match (numbering::number(found), numbering::number(declared)) {
        (Some(found), Some(declared)) => numbering::follows(found, declared),
        _ => false,
    }
}

/// Both are limits, where zero and below mean none.
fn keeps_more(found: &Value, declared: &Value) -> bool {
    let limit = |value: &Value| value.as_i64().filter(|limit| *limit > 0).unwrap_or(i64::MAX);
    limit(found) >= limit(declared)
}

fn contains_all(found: &Value, declared: &Value) -> bool {
    let empty = Vec::new();
    let found = found.as_array().unwrap_or(&empty);
    declared.as_array().unwrap_or(&empty).iter().all(|subject| found.contains(subject))
}

/// A value for people: durations are nanoseconds in the files.
fn shown(field: &str, value: &Value) -> String {
    match (field, value.as_u64()) {
        ("max_age" | "duplicate_window", Some(0)) => "without limit".to_owned(),
        ("max_age" | "duplicate_window", Some(nanos)) => duration(nanos / 1_000_000_000),
        ("max_bytes" | "max_msg_size", Some(bytes)) if bytes.is_multiple_of(1 << 20) => format!("{} MiB", bytes >> 20),
        _ => match value {
            Value::Null => "unset".to_owned(),
            Value::Number(number) if number.as_i64() == Some(-1) => "without limit".to_owned(),
            Value::String(text) => text.clone(),
            Value::Object(map) if map.contains_key("dest") => map["dest"].as_str().unwrap_or_default().to_owned(),
            other => other.to_string(),
        },
    }
}

fn duration(seconds: u64) -> String {
    match seconds {
        _ if seconds.is_multiple_of(86_400) => format!("{} d", seconds / 86_400),
        _ if seconds.is_multiple_of(3_600) => format!("{} h", seconds / 3_600),
        _ if seconds.is_multiple_of(60) => format!("{} min", seconds / 60),
        _ => format!("{seconds} s"),
    }
}
