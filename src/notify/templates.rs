//! Templates: wordings become texts, by the built-in templates or by a channel's own.
//!
//! Templates are minijinja's, without includes and macros, and cannot take the escaping off. What one may compute is bounded.
//! A channel's own is checked against samples of all kinds when it is stored; if it fails all the same when an alert is to be
//! told, the built-in one tells it.

use std::{borrow::Cow, sync::LazyLock};

use minijinja::{
    AutoEscape, Environment, Error, ErrorKind, Output, State, UndefinedBehavior, Value, escape_formatter,
    syntax::SyntaxConfig, value::Serde,
};
use tracing::warn;

use super::{
    message::{Notice, Wording},
    sample,
};
use crate::store::channels::Templates;

/// What one text may compute: about this many instructions, or 64 bytes each.
const FUEL: u64 = 100_000;
/// How deep expressions may be nested.
const DEPTH: usize = 100;
/// The longest template.
const MOST_BYTES: usize = 32 * 1024;
/// The longest subject, in characters.
const SUBJECT_CHARS: usize = 200;
/// How `&`, `<` and `>` are written in Slack's texts.
const SLACK: AutoEscape = AutoEscape::Custom(Cow::Borrowed("slack"));

const SUBJECT: &str = include_str!("../../templates/notify/subject.txt");
const TEXT: &str = include_str!("../../templates/notify/message.txt");
const HTML: &str = include_str!("../../templates/notify/message.html");

static BUILT_IN: LazyLock<Environment<'static>> = LazyLock::new(|| environment(UndefinedBehavior::Lenient));
static STRICT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = environment(UndefinedBehavior::Strict);
    environment.set_debug(true);
    environment
});

/// A wording as texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Texts {
    /// One line.
    pub subject: String,
    /// Plain text.
    pub text: String,
    /// HTML.
    pub html: String,
}

/// Renders what mail needs.
pub fn render(templates: &Templates, wording: &Wording) -> Texts {
    let own_html = templates.html.as_deref().unwrap_or_default();
    Texts {
        subject: subject(templates, wording),
        text: one("message.txt", &templates.text, TEXT, wording),
        html: one("message.html", own_html, HTML, wording),
    }
}

/// Renders the one line that says it all.
pub fn subject(templates: &Templates, wording: &Wording) -> String {
    let rendered = one("subject.txt", &templates.subject, SUBJECT, wording);
    super::words::subject(&rendered, SUBJECT_CHARS)
}

/// Renders a channel's own text for Slack, where it has one that can be rendered.
pub fn slack_text(templates: &Templates, wording: &Wording) -> Option<String> {
    let own = Some(templates.text.as_str()).filter(|own| !own.is_empty())?;
    own_or_warning("message.slack", own, wording)
}

/// What is wrong with a channel's own templates, each as a sentence that names field and line.
pub fn problems(templates: &Templates) -> Vec<String> {
    let html = templates.html.as_deref().unwrap_or_default();
    let fields = [
        ("subject", "subject.txt", templates.subject.as_str()),
        ("text", "message.txt", templates.text.as_str()),
        ("text", "message.slack", templates.text.as_str()),
        ("html", "message.html", html),
    ];
    let mut problems: Vec<String> = Vec::new();
    for (field, name, own) in fields.into_iter().filter(|(_, _, own)| !own.is_empty()) {
        if let Some(problem) = problem_of(field, name, own).filter(|problem| !problems.contains(problem)) {
            problems.push(problem);
        }
    }
    problems
}

fn problem_of(field: &str, name: &str, own: &str) -> Option<String> {
    if own.len() > MOST_BYTES {
        return Some(format!("the template of the {field} has {} bytes: at most {MOST_BYTES} are possible", own.len()));
    }
    let samples: Vec<Notice> = sample::all();
    let wordings =
        samples.iter().flat_map(|notice| [Some("https://churn.example"), None].map(|url| Wording::of(notice, url)));
    let error = wordings.into_iter().find_map(|wording| STRICT.render_named_str(name, own, value(&wording)).err())?;
    Some(format!("the template of the {field} cannot be used: {}", in_words(&error)))
}

fn in_words(error: &Error) -> String {
    let at = error.line().map(|line| format!("line {line}: ")).unwrap_or_default();
    let what = match error.kind() {
        ErrorKind::OutOfFuel => "it computes too much",
        ErrorKind::UndefinedError => "there is no such field",
        _ => "",
    };
    let detail = error.detail().unwrap_or_default();
    match (what, detail) {
        ("", "") => format!("{at}{}", error.kind()),
        ("", detail) => format!("{at}{detail}"),
        (what, "") => format!("{at}{what}"),
        (what, detail) => format!("{at}{what}: {detail}"),
    }
}

/// A channel's own template if it has one that works, else the built-in one.
fn one(name: &str, own: &str, built_in: &str, wording: &Wording) -> String {
    let own = Some(own).filter(|own| !own.is_empty()).and_then(|own| own_or_warning(name, own, wording));
    own.unwrap_or_else(|| {
        let filled = BUILT_IN.render_named_str(name, built_in, value(wording));
        filled.expect("a test renders the built-in templates")
    })
}

fn own_or_warning(name: &str, own: &str, wording: &Wording) -> Option<String> {
    let rendered = BUILT_IN.render_named_str(name, own, value(wording));
    let rendered = rendered.inspect_err(|error| {
        let account = &wording.account;
        warn!(account = %account, "a channel's own template fails, the built-in one is used: {}", in_words(error));
    });
    rendered.ok().filter(|text| !text.trim().is_empty())
}

fn value(wording: &Wording) -> Value {
    Serde(wording).into()
}

fn environment(undefined: UndefinedBehavior) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(DEPTH);
    environment.set_undefined_behavior(undefined);
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.expect("the usual delimiters differ"));
    environment.remove_filter("safe");
    environment.set_auto_escape_callback(|name| match name.rsplit('.').next() {
        Some("html") => AutoEscape::Html,
        Some("slack") => SLACK,
        _ => AutoEscape::None,
    });
    environment.set_formatter(format_value);
    environment
}

fn format_value(output: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    if *state.auto_escape() != SLACK || value.is_undefined() || value.is_none() {
        return escape_formatter(output, state, value);
    }
    output.write_str(&for_slack(&value.to_string())).map_err(Error::from)
}

/// A text as it stands in Slack's: it mentions nobody and links nowhere.
pub fn for_slack(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests;
