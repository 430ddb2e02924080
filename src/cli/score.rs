//! `churnd score`: the customers of a file, scored as of one instant, without any server.

use std::{
    fs,
    io::{self, BufWriter, Write as _},
    path::PathBuf,
};

use anyhow::{Context as _, bail};

use super::{
    lines::Input,
    output::{self, NotPrinted},
};
use crate::{
    engine::{offline::Offline, rules::Rules},
    event::time::Timestamp,
};

/// The flags of `churnd score`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// One event a line, as JSON that names its customer; `-` for standard input
    #[arg(value_name = "EVENTS.ndjson", value_parser = Input::parse)]
    events: Input,
    /// The instant to score at, such as 2026-03-01T12:00:00Z; later events do not count
    #[arg(long, value_name = "TIME")]
    as_of: Timestamp,
    /// The rules to score with; without it those built into the program
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,
}

impl Options {
    /// Prints a line for each customer, by id. Lines that cannot be used are named, and make it fail at the end.
    pub(super) fn run(self) -> anyhow::Result<()> {
        let mut offline = Offline::new(self.rules()?, self.as_of);
        let mut lines = self.events.open_at(0, 0)?;
        let (mut read, mut bad) = (0_u64, 0_u64);
        while let Some(line) = lines.next_line().with_context(|| format!("cannot read {}", self.events))? {
            read += 1;
            if let Err(reject) = line.text.and_then(|text| offline.apply_line(&text)) {
                bad += 1;
                eprintln!("{}:{}: {reject}", self.events, line.number);
            }
        }
        print(offline)?;
        if bad > 0 {
            bail!("{bad} of {} could not be used", output::counted(read, "line"));
        }
        Ok(())
    }

    fn rules(&self) -> anyhow::Result<Rules> {
        let Some(file) = &self.rules else { return Ok(Rules::default()) };
        let name = file.display().to_string();
        let text = fs::read_to_string(file).with_context(|| format!("cannot read the rules from {name}"))?;
        Ok(Rules::parse(&text, &name)?)
    }
}

fn print(offline: Offline) -> Result<(), NotPrinted> {
    let mut out = BufWriter::with_capacity(256 << 10, io::stdout().lock());
    for score in offline.scores() {
        serde_json::to_writer(&mut out, &score).map_err(|error| NotPrinted(error.into()))?;
        out.write_all(b"\n").map_err(NotPrinted)?;
    }
    out.flush().map_err(NotPrinted)
}
