//! `churnd score` against the naive model, on generated files.

use std::{
    collections::BTreeSet,
    path::Path,
    process::{Command, Stdio},
};

use crate::{
    model::{
        generate, instant,
        scoring::{self, Line, Parameters},
        stripe,
    },
    support::Scratch,
};

/// How many files are compared.
const FILES: u64 = 240;

/// What `churnd score` prints for a file; it must succeed.
#[track_caller]
fn score(file: &Path, as_of: &str) -> Vec<Line> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_churnd"));
    let output = command.arg("score").arg(file).args(["--as-of", as_of]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "churnd score ended with {}: {said}", output.status);
    let printed = String::from_utf8(output.stdout).unwrap();
    printed.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"))).collect()
}

/// The events of one customer, to be read by who looks for a difference.
fn events_of(text: &str, customer: &str) -> String {
    let of_customer = |line: &&str| {
        serde_json::from_str::<serde_json::Value>(line).is_ok_and(|event| event["customerId"] == customer)
    };
    text.lines().filter(of_customer).map(|line| format!("{line}\n")).collect()
}

#[test]
fn the_command_scores_as_the_contract_says() {
    let scratch = Scratch::new();
    let mut compared = 0;
    for seed in 0..FILES {
        let generate::File { text, as_of } = generate::file(seed);
        let path = scratch.write("events.ndjson", &text);
        let as_of_text = instant::utc(as_of);
        let found = score(&path, &as_of_text);
        let expected = scoring::score_file(&text, as_of, &Parameters::default());
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(
                found,
                expected,
                "seed {seed}, as of {as_of_text}, events:\n{}",
                events_of(&text, &expected.customer_id)
            );
        }
        assert_eq!(found.len(), expected.len(), "seed {seed}: as many customers");
        compared += found.len();
    }
    assert!(compared > 1_000, "only {compared} customers were compared");
}

#[test]
fn subscriptions_weigh_as_the_contract_says() {
    let as_of = instant::parse("2026-03-31T10:30:00.5Z").unwrap();
    let customers: Vec<(String, Vec<stripe::Fact>)> =
        (0..3_000).map(|seed| (format!("c{seed:04}"), stripe::draw(seed, as_of))).collect();
    let lines = customers.iter().flat_map(|(customer, facts)| facts.iter().map(|fact| stripe::event(customer, fact)));
    let scratch = Scratch::new();
    let path = scratch.write("events.ndjson", lines.collect::<Vec<_>>().join("\n"));
    let found = score(&path, &instant::utc(as_of));
    assert_eq!(found.len(), customers.len());
    let mut scores_seen = BTreeSet::new();
    for ((customer, facts), line) in customers.iter().zip(&found) {
        let verdict = stripe::verdict(facts, as_of);
        let expected = verdict.score(0);
        let level = scoring::level(expected, &Parameters::default());
        let (score, found_level) = (i64::from(line.score), line.level.as_str());
        assert_eq!((score, found_level), (expected, level), "{customer}: {verdict:?} {line:?} {facts:#?}");
        scores_seen.insert(score);
    }
    assert_eq!(Vec::from_iter(scores_seen), [0, 20, 60, 80, 100], "every weight comes up");
}

#[test]
fn a_file_from_standard_input_scores_the_same() {
    let scratch = Scratch::new();
    let generate::File { text, as_of } = generate::file(1);
    let path = scratch.write("events.ndjson", &text);
    let as_of = instant::utc(as_of);
    let from_input = Command::new(env!("CARGO_BIN_EXE_churnd"))
        .args(["score", "-", "--as-of", &as_of])
        .stdin(Stdio::from(std::fs::File::open(&path).unwrap()))
        .output()
        .unwrap();
    let from_file =
        Command::new(env!("CARGO_BIN_EXE_churnd")).arg("score").arg(&path).args(["--as-of", &as_of]).output().unwrap();
    assert!(from_file.status.success() && !from_file.stdout.is_empty());
    assert_eq!(from_input.stdout, from_file.stdout);
}

#[test]
fn the_customers_are_sorted_and_the_line_holds_nothing_else() {
    let scratch = Scratch::new();
    let line = |customer: &str| {
        format!(r#"{{"customerId":"{customer}","event":"payment_failed","timestamp":"2026-03-01T00:00:00Z"}}"#)
    };
    let path = scratch.write("events.ndjson", [line("b"), line("=41"), line("A"), line("ü")].join("\n"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_churnd"));
    let output = command.arg("score").arg(path).args(["--as-of", "2026-03-02T00:00:00+00:00"]).output().unwrap();
    let expected: String = ["=41", "A", "b", "ü"]
        .map(|customer| {
            format!(r#"{{"customerId":"{customer}","score":40,"level":"medium","factors":["Recent payment failure"]}}"#)
                + "\n"
        })
        .concat();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
}
