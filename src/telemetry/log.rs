//! Log lines on stderr: text to be read alone, JSON to be queried, or lines that journald knows the priority of.
//!
//! Levels: `error` someone must act, `warn` degraded but carried on, `info` lifecycle, `debug` per batch. Payloads,
//! e-mail addresses and secrets are never logged.

use std::{fmt, io, io::IsTerminal, os::fd::AsFd};

use serde::Deserialize;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::LevelFilter,
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    layer::SubscriberExt,
    registry::LookupSpan,
    util::SubscriberInitExt,
};

use super::sentry::Reporter;

/// The settings under `[log]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// How a line is written.
    pub format: Format,
    /// The least level that is logged, and exceptions: `info,churnd::stream=debug`.
    pub level: String,
}

/// How a log line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people; with priorities instead of times when journald reads it.
    Text,
    /// One JSON object a line.
    Json,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The level is not understood.
    #[error("log.level `{0}` is not understood")]
    Level(String),
    /// Something else has set up logging in this process.
    #[error("logging is already set up")]
    AlreadySetUp,
}

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

impl Config {
    /// Everything that cannot work, each as a sentence that begins with the setting.
    pub fn problems(&self) -> Vec<String> {
        let bare = self.level.split(',').map(str::trim).filter(|directive| !directive.contains(['=', '[']));
        let levels_known = bare.into_iter().all(|level| LEVELS.contains(&level.to_ascii_lowercase().as_str()));
        if levels_known && EnvFilter::try_new(&self.level).is_ok() {
            return Vec::new();
        }
        let levels = LEVELS.join(", ");
        vec![format!(
            "log.level is `{}`: it must be one of {levels}, then exceptions such as `info,churnd::stream=debug`",
            self.level
        )]
    }
}

/// Sets up logging to stderr for the whole process, and what else is to hear of errors.
pub fn init(config: &Config, reporter: Option<Reporter>) -> Result<(), LogError> {
    let filter = EnvFilter::try_new(directives(&config.level)).map_err(|_| LogError::Level(config.level.clone()))?;
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let layer = match config.format {
        Format::Json => lines.json().flatten_event(true).with_current_span(false).boxed(),
        Format::Text if journald_reads_stderr() => lines.with_ansi(false).event_format(JournalLines).boxed(),
        Format::Text => lines.with_target(false).with_ansi(io::stderr().is_terminal()).boxed(),
    };
    let reports = reporter.map(|reporter| reporter.with_filter(LevelFilter::ERROR));
    let lines = tracing_subscriber::registry().with(layer.with_filter(filter));
    lines.with(reports).try_init().map_err(|_| LogError::AlreadySetUp)
}

/// The filter for a configured level: a level alone is churnd's own; libraries speak up from warnings on.
fn directives(level: &str) -> String {
    let own = |part: &str| match part.trim() {
        level @ ("info" | "debug" | "trace") => format!("warn,churnd={level}"),
        other => other.to_owned(),
    };
    level.split(',').map(own).collect::<Vec<_>>().join(",")
}

/// Whether stderr is the stream that `$JOURNAL_STREAM` names by device and inode.
fn journald_reads_stderr() -> bool {
    #[expect(clippy::disallowed_methods, reason = "not a setting: journald tells where stderr goes")]
    let Ok(announced) = std::env::var("JOURNAL_STREAM") else { return false };
    nix::sys::stat::fstat(io::stderr().as_fd())
        .is_ok_and(|stat| announced == format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// Lines for journald: `<priority>message field=value`; the journal adds the time itself.
struct JournalLines;

impl<S, N> FormatEvent<S, N> for JournalLines
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        write!(writer, "<{}>", priority(*event.metadata().level()))?;
        context.format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

/// The syslog priority of a level.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        sync::{Arc, Mutex},
    };

    use super::*;

    #[test]
    fn a_level_alone_is_that_of_churnd_itself() {
        assert_eq!(directives("debug"), "warn,churnd=debug");
        assert_eq!(directives("error"), "error");
        assert_eq!(directives("info,async_nats=trace"), "warn,churnd=info,async_nats=trace");
    }

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn journal_lines_carry_priority_message_and_fields() {
        let lines = Lines::default();
        let sink = lines.clone();
        let layer = tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .with_writer(move || sink.clone())
            .event_format(JournalLines);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::info!(http = "127.0.0.1:8080", "listening");
            tracing::error!(partition = 7, "fenced");
        });
        let written = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert_eq!(written, "<6>listening http=\"127.0.0.1:8080\"\n<3>fenced partition=7\n");
    }

    #[test]
    fn levels_are_checked() {
        let problems = |level: &str| Config { format: Format::Text, level: level.to_owned() }.problems().len();
        assert_eq!(problems("info"), 0);
        assert_eq!(problems("WARN,churnd::stream=debug,async_nats=error"), 0);
        assert_eq!(problems("verbose"), 1);
        assert_eq!(problems("churnd=loud"), 1);
        assert_eq!(problems(""), 1);
    }
}
