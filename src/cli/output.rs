//! What is printed: whole lines on standard output, flushed, and never a panic over a closed pipe.

use std::{
    fmt::Display,
    io::{self, Write as _},
};

use serde::Serialize;

use crate::event::{ids::AccountId, ids::InvalidAccount, time::Timestamp};

/// Standard output took no more; a closed pipe is no failure.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output: {0}")]
pub(super) struct NotPrinted(pub(super) io::Error);

/// Prints one line.
pub(super) fn line(text: impl Display) -> Result<(), NotPrinted> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).map_err(NotPrinted)
}

/// Prints a value as one line of JSON.
pub(super) fn json(value: &impl Serialize) -> Result<(), NotPrinted> {
    line(serde_json::to_string(value).map_err(|error| NotPrinted(error.into()))?)
}

/// Prints rows under a head, each column as wide as it must be.
pub(super) fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> Result<(), NotPrinted> {
    let width = |column: usize| {
        rows.iter().map(|row| row[column].chars().count()).chain([head[column].len()]).max().unwrap_or_default()
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let aligned = |cells: [&str; N]| {
        let cells = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    line(aligned(head))?;
    rows.iter().try_for_each(|row| line(aligned(std::array::from_fn(|column| row[column].as_str()))))
}

/// A number and its noun: `1 event`, `2 events`.
pub(super) fn counted(count: u64, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// An instant for people: to the second, in UTC.
pub(super) fn to_the_second(at: Timestamp) -> String {
    Timestamp::from_seconds(at.millis().div_euclid(1_000)).to_string()
}

/// Reads an account off the command line.
pub(super) fn account(text: &str) -> Result<AccountId, InvalidAccount> {
    AccountId::parse(text)
}
