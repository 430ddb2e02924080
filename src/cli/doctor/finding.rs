//! One thing that was looked at, and how it is told.

use std::io::{self, IsTerminal as _};

use serde::Serialize;

use crate::cli::output::{self, NotPrinted};

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    area: &'static str,
    status: Status,
    text: String,
    /// One by one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    details: Vec<String>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Ok,
    Note,
    Fault,
}

/// All that was looked at.
#[derive(Debug, Default)]
pub(super) struct Findings(Vec<Finding>);

impl Finding {
    /// As it should be.
    pub(super) fn fine(area: &'static str, text: impl Into<String>) -> Self {
        Self { area, status: Status::Ok, text: text.into(), details: Vec::new(), next: None }
    }

    /// Worth knowing; nothing is broken.
    pub(super) fn note(area: &'static str, text: impl Into<String>) -> Self {
        Self { area, status: Status::Note, text: text.into(), details: Vec::new(), next: None }
    }

    /// Wrong.
    pub(super) fn fault(area: &'static str, text: impl Into<String>, next: impl Into<String>) -> Self {
        Self { area, status: Status::Fault, text: text.into(), details: Vec::new(), next: Some(next.into()) }
    }

    /// The same with lines of its own for each part.
    pub(super) fn with_details(mut self, details: Vec<String>) -> Self {
        self.details = details;
        self
    }

    /// The same with what to do next.
    pub(super) fn with_next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }
}

impl Findings {
    /// Adds one.
    pub(super) fn add(&mut self, finding: Finding) {
        self.0.push(finding);
    }

    /// Adds several.
    pub(super) fn extend(&mut self, findings: impl IntoIterator<Item = Finding>) {
        self.0.extend(findings);
    }

    /// How many things are wrong.
    pub(super) fn faults(&self) -> u64 {
        self.0.iter().filter(|finding| finding.status == Status::Fault).count() as u64
    }

    /// For people.
    pub(super) fn print(&self) -> Result<(), NotPrinted> {
        let colored = io::stdout().is_terminal();
        for finding in &self.0 {
            let (mark, color) = match finding.status {
                Status::Ok => ("✓", "32"),
                Status::Note => ("!", "33"),
                Status::Fault => ("✗", "31"),
            };
            let mark = if colored { format!("\x1b[{color}m{mark}\x1b[0m") } else { mark.to_owned() };
            output::line(format!("{mark} {:<11} {}", finding.area, finding.text))?;
            for detail in &finding.details {
                output::line(format!("{:14}{detail}", ""))?;
            }
            if let Some(next) = &finding.next {
                output::line(format!("{:14}→ {next}", ""))?;
            }
        }
        if self.faults() == 0 { output::line("nothing is wrong") } else { Ok(()) }
    }

    /// For programs.
    pub(super) fn print_json(&self) -> Result<(), NotPrinted> {
        output::json(&serde_json::json!({ "ok": self.faults() == 0, "findings": self.0 }))
    }
}
