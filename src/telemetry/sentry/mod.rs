//! Errors and panics, reported to Sentry: where they happened and what kind they are, not whom they concern.
//!
//! A report is made of the place in the source, of fields that hold our own words or small numbers, and of those words of the text
//! that are known (`words`). Nothing is added by the SDK: no request, no user, no breadcrumbs, no environment. The log line
//! of the same instant and instance says the rest.

mod transport; // the way there
mod words; // what of a text may be told

use std::{
    collections::{BTreeMap, HashMap},
    fmt::{self, Write as _},
    panic::{self, PanicHookInfo},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use secrecy::{ExposeSecret, SecretString};
use sentry::{
    Client, ClientOptions,
    integrations::backtrace::current_stacktrace,
    protocol::{Event as Report, Exception, Stacktrace},
    types::Dsn,
};
use serde::Deserialize;
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::layer::{Context, Layer};

use self::{transport::Post, words::known_words};

/// Fields that hold our own words or small numbers.
const FIELDS: [&str; 5] = ["code", "status", "stage", "partition", "epoch"];
/// The same place reports at most once in this time.
const BETWEEN: Duration = Duration::from_secs(10);
/// How long the last reports may take at the stop.
const AT_THE_STOP: Duration = Duration::from_secs(2);

/// The settings under `[sentry]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where errors are reported to.
    pub dsn: Option<SecretString>,
}

impl Config {
    /// Everything that cannot work, each as a sentence that begins with the setting. The value is a secret.
    pub fn problems(&self) -> Vec<String> {
        match self.dsn.as_ref().map(read_dsn) {
            Some(Err(problem)) => vec![format!("sentry.dsn {problem}: it must be https://KEY@HOST/PROJECT")],
            Some(Ok(_)) | None => Vec::new(),
        }
    }
}

fn read_dsn(dsn: &SecretString) -> Result<Dsn, String> {
    let dsn: Dsn = dsn.expose_secret().parse().map_err(|error| format!("is not a DSN ({error})"))?;
    let host = dsn.host().trim_matches(['[', ']']);
    let is_here = host == "localhost" || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback());
    match dsn.scheme() {
        sentry::types::Scheme::Http if !is_here => Err("is not encrypted".to_owned()),
        _ => Ok(dsn),
    }
}

/// Reports errors and panics; clones are the same.
#[derive(Clone)]
pub struct Reporter(Arc<Inner>);

struct Inner {
    client: Client,
    instance: String,
    reported: Mutex<HashMap<String, Instant>>,
}

impl Reporter {
    /// Starts reporting, if there is where to.
    pub fn start(config: &Config, instance: &str) -> anyhow::Result<Option<Self>> {
        let Some(dsn) = &config.dsn else { return Ok(None) };
        let dsn = read_dsn(dsn).map_err(|problem| anyhow::anyhow!("sentry.dsn {problem}"))?;
        let post = Arc::new(Post::start(&dsn)?);
        let mut options = ClientOptions::default();
        options.dsn = Some(dsn);
        options.release = Some(transport::AGENT.replace('/', "@").into());
        options.shutdown_timeout = AT_THE_STOP;
        options.transport = Some(Arc::new(post));
        let client = Client::with_options(options);
        Ok(Some(Self(Arc::new(Inner { client, instance: instance.to_owned(), reported: Mutex::default() }))))
    }

    /// Reports panics too, before whatever else is done about them.
    pub fn watch_panics(&self) {
        let (reporter, others) = (self.clone(), panic::take_hook());
        panic::set_hook(Box::new(move |info| {
            reporter.report_panic(info);
            others(info);
        }));
    }

    /// Waits a moment for what is on its way.
    pub fn flush(&self) {
        self.0.client.flush(Some(AT_THE_STOP));
    }

    fn report_panic(&self, info: &PanicHookInfo<'_>) {
        let payload = info.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or_default();
        let place = info.location().map(|location| format!("{}:{}", location.file(), location.line()));
        self.report(&place.unwrap_or_default(), |report| {
            report.level = sentry::Level::Fatal;
            report.logger = Some("panic".to_owned());
            report.exception = vec![Exception {
                ty: "panic".to_owned(),
                value: Some(known_words(text)),
                stacktrace: current_stacktrace().map(bare),
                ..Exception::default()
            }]
            .into();
        });
    }

    fn report_error(&self, event: &Event<'_>) {
        let metadata = event.metadata();
        let mut told = Told::default();
        event.record(&mut told);
        let place = format!("{}:{}", metadata.file().unwrap_or_default(), metadata.line().unwrap_or_default());
        let code = told.fields.get("code").cloned().unwrap_or_default();
        self.report(&format!("{place} {code}"), |report| {
            report.level = sentry::Level::Error;
            report.logger = Some(metadata.target().to_owned());
            report.message = Some(known_words(&told.message));
            report.tags.extend(told.fields.into_iter().map(|(name, value)| (name.to_owned(), value)));
        });
    }

    /// Reports from one place, unless it has just reported.
    fn report(&self, place: &str, fill: impl FnOnce(&mut Report<'static>)) {
        {
            let mut reported = self.0.reported.lock().unwrap_or_else(PoisonError::into_inner);
            if reported.get(place).is_some_and(|last| last.elapsed() < BETWEEN) {
                return;
            }
            reported.insert(place.to_owned(), Instant::now());
        }
        let mut report = Report { culprit: Some(place.to_owned()), ..Report::new() };
        report.fingerprint = vec![place.to_owned().into()].into();
        report.tags.insert("instance".to_owned(), self.0.instance.clone());
        fill(&mut report);
        self.0.client.capture_event(report, None);
    }
}

impl fmt::Debug for Reporter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Reporter")
    }
}

impl<S: Subscriber> Layer<S> for Reporter {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if *event.metadata().level() == Level::ERROR {
            self.report_error(event);
        }
    }
}

/// What a log line holds.
#[derive(Default)]
struct Told {
    message: String,
    fields: BTreeMap<&'static str, String>,
}

impl Visit for Told {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            // Writing to a text does not fail.
            write!(self.message, "{value:?}").unwrap_or_default();
        } else if let Some(name) = FIELDS.iter().find(|name| **name == field.name()) {
            let value = format!("{value:?}");
            let is_plain = value.len() <= 64
                && value.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
            if is_plain {
                self.fields.insert(name, value);
            }
        }
    }
}

/// A stack of names and lines, without the paths of the machine that it was built on.
fn bare(mut stack: Stacktrace) -> Stacktrace {
    for frame in &mut stack.frames {
        frame.abs_path = None;
        frame.package = None;
        frame.vars.clear();
    }
    stack
}
