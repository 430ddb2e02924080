//! The shape of the source, held by tests: which module may name which, what the pure modules must not know, what the
//! dependencies must not bring.
//!
//! The direction is what a workspace of crates would give for the price of one table. Test code is left out: it may start
//! servers and name what it likes.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

/// Each module and the modules it may name, besides itself. `service::clock` is a leaf, so it stands by itself.
const DIRECTIONS: [(&str, &[&str]); 15] = [
    ("event", &[]),
    ("engine", &["event"]),
    ("web", &[]),
    ("tls", &[]),
    ("telemetry", &["event", "web"]),
    ("service::clock", &["event"]),
    ("embedded", &["event", "telemetry"]),
    ("stream", &["event", "engine", "telemetry", "tls"]),
    ("store", &["event", "engine", "telemetry", "tls"]),
    ("pipeline", &["event", "engine", "telemetry", "service::clock", "stream", "store"]),
    ("notify", &["event", "engine", "telemetry", "web", "service::clock", "stream", "store"]),
    ("bridge", &["event", "engine", "telemetry", "web", "service::clock", "stream", "store", "pipeline", "notify"]),
    ("config", &["event", "engine", "telemetry", "stream", "store", "pipeline", "bridge", "notify", "service"]),
    (
        "service",
        &[
            "event",
            "engine",
            "telemetry",
            "service::clock",
            "embedded",
            "stream",
            "store",
            "pipeline",
            "bridge",
            "notify",
            "config",
        ],
    ),
    (
        "cli",
        &[
            "event",
            "engine",
            "telemetry",
            "web",
            "service::clock",
            "embedded",
            "stream",
            "store",
            "pipeline",
            "bridge",
            "notify",
            "config",
            "service",
        ],
    ),
];

/// Modules without I/O, clock and runtime.
const PURE: [&str; 2] = ["event", "engine"];

/// What the pure modules must not name.
const IMPURE: [&str; 16] = [
    "tokio",
    "tokio_util",
    "async_nats",
    "tokio_postgres",
    "deadpool_postgres",
    "hyper",
    "axum",
    "nix",
    "std::net",
    "std::fs",
    "std::env",
    "std::thread",
    "std::process",
    "std::os",
    "std::time::SystemTime",
    "std::time::Instant",
];

/// Crates that must not come back in: a second TLS provider, a second way to tell time.
const BANNED_CRATES: [&str; 6] = ["aws-lc-rs", "aws-lc-sys", "openssl", "openssl-sys", "native-tls", "chrono"];

#[test]
fn modules_name_only_what_lies_below_them() {
    let complaints: Vec<String> = sources().iter().flat_map(|(path, text)| complaints_about(path, text)).collect();
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn every_source_file_opens_with_what_it_is() {
    let silent: Vec<String> = sources()
        .into_iter()
        .filter(|(path, text)| !is_test_file(path) && !text.starts_with("//! "))
        .map(|(path, _)| path.display().to_string())
        .collect();
    assert!(silent.is_empty(), "these files do not open with a `//!` sentence: {silent:?}");
}

#[test]
fn every_module_has_its_place_in_the_directions() {
    for (path, _) in sources() {
        let top = module_of(&path).split("::").next().unwrap_or_default().to_owned();
        let known = top.is_empty() || DIRECTIONS.iter().any(|(module, _)| *module == top);
        assert!(known, "module `{top}` is missing in the table of this test");
    }
}

#[test]
fn dependencies_bring_no_second_tls_provider() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    for banned in BANNED_CRATES {
        assert!(!lock.contains(&format!("\nname = \"{banned}\"\n")), "Cargo.lock holds {banned}");
    }
}

#[test]
fn planted_violations_are_noticed() {
    let planted = [
        ("src/engine/score.rs", "use tokio::time;", "src/engine/score.rs:1: `engine` is pure and must not name tokio"),
        (
            "src/event/ids.rs",
            "//! x\nuse std::{fmt, fs::File};",
            "src/event/ids.rs:2: `event` is pure and must not name std::fs",
        ),
        ("src/engine/state.rs", "fn f() { std::time::Instant::now(); }", "must not name std::time::Instant"),
        (
            "src/event/time.rs",
            "use crate::engine::rules::Rules;",
            "src/event/time.rs:1: `event` must not name crate::engine::rules::Rules",
        ),
        (
            "src/store/mod.rs",
            "use crate::{\n    event::ids::PartitionId,\n    stream::reader::Reader,\n};",
            "src/store/mod.rs:3: `store` must not name crate::stream",
        ),
        (
            "src/pipeline/flush.rs",
            "use crate::service::lifecycle::Lifecycle;",
            "`pipeline` must not name crate::service::lifecycle",
        ),
        (
            "src/pipeline/flush.rs",
            "use crate::service::{clock::Clock, lifecycle};",
            "`pipeline` must not name crate::service::lifecycle",
        ),
        ("src/bridge/track.rs", "fn f(config: &crate::config::Config) {}", "`bridge` must not name crate::config"),
        (
            "src/service/clock.rs",
            "use crate::telemetry::metrics::Metrics;",
            "`service::clock` must not name crate::telemetry",
        ),
        (
            "src/bridge/router.rs",
            "use super::super::config::Config;",
            "src/bridge/router.rs:1: `bridge::router` leaves its module",
        ),
        ("src/store/mod.rs", "use super::bridge;", "src/store/mod.rs:1: `store` leaves its module"),
    ];
    for (path, text, expected) in planted {
        let complaints = complaints_about(Path::new(path), text);
        assert!(complaints.iter().any(|complaint| complaint.contains(expected)), "{path}: {text}\n{complaints:?}");
    }
}

#[test]
fn innocent_sources_are_not_complained_about() {
    let innocent = [
        (
            "src/engine/score.rs",
            "// like tokio::time\nconst TEXT: &str = \"use std::fs\"; use crate::event::ids; use super::state;",
        ),
        (
            "src/engine/score.rs",
            "use crate::event;\n#[cfg(test)]\nmod tests {\n    use std::fs;\n    use super::super::state;\n}",
        ),
        ("src/event/tests.rs", "use tokio::time; use crate::cli;"),
        ("src/event/time.rs", "use std::time::Duration; fn f<'a>(x: &'a str) -> char { '\"' } // std::fs"),
        ("src/pipeline/flush.rs", "use crate::{service::clock::Clock, stream, store::{self, Store}};"),
        ("src/store/states/mod.rs", "use super::tx; use crate::store::error::StoreError;"),
        ("src/service/lifecycle.rs", "use crate::config::Config; use super::clock;"),
    ];
    for (path, text) in innocent {
        assert_eq!(complaints_about(Path::new(path), text), Vec::<String>::new(), "{path}: {text}");
    }
}

// -- the checks ---------------------------------------------------------------------------------------------------------

/// What is wrong with one source file, each with file and line.
fn complaints_about(path: &Path, text: &str) -> Vec<String> {
    let module = module_of(path);
    if module.is_empty() || is_test_file(path) {
        return Vec::new();
    }
    let tokens = tokens_of(without_inline_tests(text));
    let mut complaints = Vec::new();
    let mut complain = |line: usize, what: &str| {
        let mut complaint = String::new();
        write!(complaint, "{}:{line}: {what}", path.display()).unwrap();
        complaints.push(complaint);
    };
    let (own, allowed) = direction_of(&module);
    for (line, named) in paths_of(&tokens) {
        if let Some(inside) = named.strip_prefix("crate::") {
            let (target, _) = direction_of(inside);
            if target != own && !allowed.contains(&target) {
                complain(line, &format!("`{own}` must not name {named}"));
            }
        }
        let impure = IMPURE.iter().find(|impure| named == **impure || named.starts_with(&format!("{impure}::")));
        if let Some(impure) = impure.filter(|_| PURE.contains(&own)) {
            complain(line, &format!("`{own}` is pure and must not name {impure}"));
        }
        let climbs = named.split("::").take_while(|segment| *segment == "super").count();
        if climbs >= module.split("::").count() {
            complain(line, &format!("`{module}` leaves its module with {named}"));
        }
    }
    complaints
}

/// The entry of the table that holds a module path: the longest that fits.
fn direction_of(path: &str) -> (&str, &'static [&'static str]) {
    let holds = |module: &str| path == module || path.starts_with(&format!("{module}::"));
    let entry = DIRECTIONS.iter().filter(|(module, _)| holds(module)).max_by_key(|(module, _)| module.len());
    entry.map_or((path, &[]), |(module, allowed)| (*module, *allowed))
}

/// `src/store/states/mod.rs` → `store::states`; empty for the crate's roots.
fn module_of(path: &Path) -> String {
    let path = path.strip_prefix("src").unwrap().with_extension("");
    let segments: Vec<String> = path.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    match segments.as_slice() {
        [only] if only == "lib" || only == "main" => String::new(),
        [parents @ .., last] if last == "mod" => parents.join("::"),
        all => all.join("::"),
    }
}

fn is_test_file(path: &Path) -> bool {
    path.iter().any(|part| part == "tests" || part.to_string_lossy().starts_with("tests_") || part == "tests.rs")
}

/// Inline test modules close a file.
fn without_inline_tests(text: &str) -> &str {
    text.find("#[cfg(test)]\nmod tests {").map_or(text, |start| &text[..start])
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust files under `src`, by their path from the root.
fn sources() -> Vec<(PathBuf, String)> {
    let (mut found, mut folders) = (Vec::new(), vec![root().join("src")]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path.strip_prefix(root()).unwrap().to_owned(), text));
            }
        }
    }
    assert!(found.len() > 20, "the sources were not found");
    found
}

// -- reading Rust, as far as it is needed ---------------------------------------------------------------------------------

/// A word or a sign, with its line.
#[derive(Debug, PartialEq)]
struct Token<'a> {
    line: usize,
    text: &'a str,
}

/// Words, `::` and single signs; no comments, no literals.
fn tokens_of(source: &str) -> Vec<Token<'_>> {
    let (mut tokens, mut rest, mut line) = (Vec::new(), source, 1);
    while let Some(first) = rest.chars().next() {
        let length = length_of_next(rest, first);
        let text = &rest[..length];
        let matters = !first.is_whitespace() && !rest.starts_with("//") && !rest.starts_with("/*") && !is_literal(text);
        if matters {
            tokens.push(Token { line, text });
        }
        line += text.matches('\n').count();
        rest = &rest[length..];
    }
    tokens
}

fn is_literal(text: &str) -> bool {
    text.starts_with('"') || text.starts_with("r\"") || text.starts_with("r#") || text.starts_with('\'')
}

fn length_of_next(rest: &str, first: char) -> usize {
    let until = |end: &str, from: usize| rest[from..].find(end).map_or(rest.len(), |at| from + at + end.len());
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return until("*/", 2);
    }
    if rest.starts_with("r\"") || rest.starts_with("r#\"") || rest.starts_with("r##\"") {
        let hashes = rest[1..].chars().take_while(|sign| *sign == '#').count();
        return until(&format!("\"{}", "#".repeat(hashes)), hashes + 2);
    }
    match first {
        '"' => length_of_text(rest),
        '\'' => length_of_letter(rest),
        ':' if rest.starts_with("::") => 2,
        _ if first.is_alphanumeric() || first == '_' => {
            rest.find(|sign: char| !sign.is_alphanumeric() && sign != '_').unwrap_or(rest.len())
        }
        _ => first.len_utf8(),
    }
}

fn length_of_text(rest: &str) -> usize {
    let mut escaped = false;
    for (at, sign) in rest.char_indices().skip(1) {
        match sign {
            '"' if !escaped => return at + 1,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    rest.len()
}

/// A letter such as `'x'` or `'\''`, or a lifetime.
fn length_of_letter(rest: &str) -> usize {
    let mut signs = rest.char_indices().skip(1);
    match signs.next() {
        Some((_, '\\')) => rest[3..].find('\'').map_or(rest.len(), |at| at + 4),
        Some((at, sign)) => match rest[at + sign.len_utf8()..].starts_with('\'') {
            true => at + sign.len_utf8() + 1,
            false => 1,
        },
        None => 1,
    }
}

/// All paths that begin with a word, groups written out, each with the line of its last word.
fn paths_of(tokens: &[Token<'_>]) -> Vec<(usize, String)> {
    let (mut paths, mut at) = (Vec::new(), 0);
    while at < tokens.len() {
        at = if is_word(&tokens[at]) { read_path(tokens, at, "", &mut paths) } else { at + 1 };
    }
    paths
}

/// Reads one path or tree of a `use` and returns where it ends.
fn read_path(tokens: &[Token<'_>], mut at: usize, prefix: &str, paths: &mut Vec<(usize, String)>) -> usize {
    let mut path = prefix.to_owned();
    while let Some(token) = tokens.get(at) {
        if token.text == "{" && !path.is_empty() {
            return read_group(tokens, at + 1, &path, paths);
        }
        if !is_word(token) {
            return at + 1;
        }
        path += token.text;
        if tokens.get(at + 1).is_none_or(|next| next.text != "::") {
            paths.push((token.line, path));
            return at + 1;
        }
        path += "::";
        at += 2;
    }
    at
}

fn read_group(tokens: &[Token<'_>], mut at: usize, prefix: &str, paths: &mut Vec<(usize, String)>) -> usize {
    while let Some(token) = tokens.get(at) {
        match token.text {
            "}" => return at + 1,
            _ if is_word(token) => at = read_path(tokens, at, prefix, paths),
            _ => at += 1,
        }
    }
    at
}

fn is_word(token: &Token<'_>) -> bool {
    token.text.starts_with(|sign: char| sign.is_alphabetic() || sign == '_')
}
