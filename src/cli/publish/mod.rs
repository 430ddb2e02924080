//! `churnd publish`: a file of events into the stream, with a confirmation for each, and resumable.
//!
//! Lines are sent in order with a window of them under way. What was confirmed without a gap is remembered in a file
//! beside the events; a run that was broken off goes on from there. Nothing is sent twice: each message has an id, the
//! same in every run, and what may have arrived without our knowing is looked up in the stream before it is sent again.
//!
//! Invariant: a line behind which progress was remembered is in the stream or was named as unusable.

mod message; // a line becomes a message
mod progress; // how far a file has come
mod resume; // what arrived without our knowing

use std::{collections::HashSet, time::Duration};

use anyhow::{Context as _, bail};
use futures_util::{Stream, StreamExt as _, stream};
use tokio::sync::mpsc;

use self::{
    message::{Message, Outcome},
    progress::{Journal, Progress},
};
use super::{
    connect,
    lines::{Input, Line, Lines},
    output,
    settings::Settings,
};
use crate::{
    event::{decode::Reject, ids::AccountId},
    stream::{EVENTS, publisher::Publisher},
};

/// How many lines wait for their confirmation at once.
const WINDOW: usize = 512;
/// Lines that are handed on together.
const BATCH: usize = 128;
/// How long a line is tried before the import is broken off.
const PATIENCE: Duration = Duration::from_secs(30);

/// The flags of `churnd publish`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// One event a line, as JSON that names its customer; `-` for standard input
    #[arg(value_name = "EVENTS.ndjson", value_parser = Input::parse)]
    events: Input,
    /// Whose events they are
    #[arg(long, value_parser = output::account)]
    account: AccountId,
    /// Begin at the first line, even if an earlier run came further
    #[arg(long)]
    from_start: bool,
    #[command(flatten)]
    settings: Settings,
}

/// What became of the lines.
#[derive(Debug, Default)]
struct Tally {
    /// Stored in the stream by this run.
    published: u64,
    /// In the stream already.
    repeated: u64,
    /// Lines that cannot be used, those of earlier runs too.
    bad: u64,
}

impl Options {
    /// Publishes what is left of the file.
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let config = self.settings.load()?;
        let mut journal = Journal::open(&self.events, &self.account, self.from_start)?;
        let begun = journal.begun().clone();
        let lines = self.events.open_at(begun.offset, begun.line)?;
        let client = connect::nats(&config, "publish").await?;
        let publisher = Publisher::new(client, WINDOW).with_patience(PATIENCE);
        let arrived = if begun.offset > 0 {
            eprintln!("going on after line {} of {}, where the last run came to", begun.line, self.events);
            resume::arrived(publisher.context(), &self.events, &self.account, &begun).await?
        } else {
            journal.start_at(connect::last_sequence(publisher.context(), EVENTS).await?);
            HashSet::new()
        };
        let mut tally = Tally { bad: begun.bad, ..Tally::default() };
        let outcome = self.publish(&publisher, lines, &arrived, &mut journal, &mut tally).await;
        self.conclude(outcome, &mut journal, &tally)
    }

    /// Publishes line after line until the end, a failure or Ctrl-C.
    async fn publish(
        &self,
        publisher: &Publisher,
        lines: Lines,
        arrived: &HashSet<String>,
        journal: &mut Journal,
        tally: &mut Tally,
    ) -> anyhow::Result<()> {
        let bar = progress::bar(self.events.length());
        bar.set_position(journal.begun().offset);
        let messages = messages(lines, self.account.clone());
        let mut outcomes =
            std::pin::pin!(messages.map(|message| message::send(publisher, arrived, message)).buffered(WINDOW));
        let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
        let outcome = loop {
            let settled = tokio::select! {
                settled = outcomes.next() => settled,
                signal = &mut interrupted => break signal.context("cannot wait for Ctrl-C").and_then(|()| bail!("interrupted")),
            };
            let Some(settled) = settled else { break Ok(()) };
            match settled.outcome {
                Outcome::Stored(sequence) => {
                    tally.published += 1;
                    journal.stored(sequence);
                }
                Outcome::Repeated => tally.repeated += 1,
                Outcome::Bad(reject) => {
                    tally.bad += 1;
                    bar.suspend(|| self.complain(settled.number, &reject));
                }
                Outcome::Failed(error) => {
                    break Err(error).with_context(|| format!("{}:{} was not published", self.events, settled.number));
                }
                Outcome::Unreadable(error) => break Err(error).with_context(|| format!("cannot read {}", self.events)),
            }
            bar.set_position(settled.end);
            journal.passed(settled.end, settled.number, tally.bad)?;
        };
        bar.finish_and_clear();
        outcome
    }

    fn complain(&self, line: u64, reject: &Reject) {
        eprintln!("{}:{line}: {reject}", self.events);
    }

    fn conclude(&self, outcome: anyhow::Result<()>, journal: &mut Journal, tally: &Tally) -> anyhow::Result<()> {
        let Tally { published, repeated, bad } = tally;
        let mut said = format!("published {} to account {}", output::counted(*published, "event"), self.account);
        if *repeated > 0 {
            said += &format!("; {repeated} more were there already");
        }
        if let Err(error) = outcome {
            let Progress { line, .. } = journal.save()?;
            eprintln!("{said}");
            return match self.events.path() {
                Some(_) => {
                    Err(error.context(format!("stopped after line {line}: run the same command again to go on")))
                }
                None => Err(error.context("stopped; standard input cannot be gone on with")),
            };
        }
        journal.finish()?;
        output::line(said)?;
        if *bad > 0 {
            bail!("{} could not be used", output::counted(*bad, "line"));
        }
        Ok(())
    }
}

/// Reads on a thread of its own, since a file or a pipe may keep it waiting.
fn messages(lines: Lines, account: AccountId) -> impl Stream<Item = Message> {
    let (sender, receiver) = mpsc::channel::<Vec<Message>>(8);
    // Ends at the end of the file, or when nobody takes the batches any more.
    drop(tokio::task::spawn_blocking(move || read(lines, &account, &sender)));
    stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) }).flat_map(stream::iter)
}

fn read(mut lines: Lines, account: &AccountId, sender: &mpsc::Sender<Vec<Message>>) {
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let ended = match lines.next_line() {
            Ok(Some(line)) => {
                batch.push(message::of_line(line, account));
                false
            }
            Ok(None) => true,
            Err(error) => {
                batch.push(message::unreadable(error));
                true
            }
        };
        let full = ended || batch.len() >= BATCH || lines.must_wait();
        let broken = full && !batch.is_empty() && sender.blocking_send(std::mem::take(&mut batch)).is_err();
        if ended || broken {
            return;
        }
    }
}

#[cfg(test)]
fn line_of(number: u64, text: &str) -> Line {
    Line { number, end: 0, text: Ok(text.into()) }
}
