//! How far a file has come: a small file beside it, written often enough that little is in doubt after a crash.

use std::{
    collections::VecDeque,
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::{Input, WINDOW};
use crate::event::ids::{AccountId, StreamSequence};

/// After how many lines progress is remembered.
pub(super) const SAVE_EVERY: usize = 256;

/// Everything before this place has been dealt with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Progress {
    /// The byte to go on from.
    pub(super) offset: u64,
    /// The lines before it.
    pub(super) line: u64,
    /// How many of them could not be used.
    pub(super) bad: u64,
    /// What is sent from there on has a higher place in the stream.
    pub(super) sequence: u64,
    /// Tells this file from another of the same name: a hash of what stands before the offset.
    before: u64,
}

/// Keeps the progress of one file and account.
pub(super) struct Journal {
    /// The events; none for standard input, of which nothing is remembered.
    events: Option<PathBuf>,
    file: PathBuf,
    begun: Progress,
    now: Progress,
    unsaved: u64,
    /// The highest place in the stream that was known at each of the last confirmations: a line is sent only after the
    /// one a window before it was confirmed, so what is in doubt stands behind the first of these.
    known: VecDeque<u64>,
}

impl Journal {
    /// Finds out how far an earlier run came.
    pub(super) fn open(events: &Input, account: &AccountId, from_start: bool) -> anyhow::Result<Self> {
        let events = events.path().filter(|path| path.is_file()).map(Path::to_owned);
        let file = events.as_deref().map(|events| beside(events, account)).unwrap_or_default();
        let begun = match &events {
            Some(events) if !from_start => read(&file, events)?.unwrap_or_default(),
            _ => Progress::default(),
        };
        let (now, known) = (begun.clone(), VecDeque::from([begun.sequence]));
        Ok(Self { events, file, begun, now, unsaved: 0, known })
    }

    /// Where this run began.
    pub(super) fn begun(&self) -> &Progress {
        &self.begun
    }

    /// The stream ended here before the first line was sent.
    pub(super) fn start_at(&mut self, sequence: u64) {
        self.known = VecDeque::from([sequence]);
        self.now.sequence = sequence;
    }

    /// A message was stored.
    pub(super) fn stored(&mut self, sequence: StreamSequence) {
        let highest = self.known.back().copied().unwrap_or_default().max(sequence.0);
        self.known.push_back(highest);
        if self.known.len() > WINDOW + 1 {
            self.known.pop_front();
        }
    }

    /// Everything up to a line's end has been dealt with.
    pub(super) fn passed(&mut self, offset: u64, line: u64, bad: u64) -> anyhow::Result<()> {
        (self.now.offset, self.now.line, self.now.bad) = (offset, line, bad);
        self.unsaved += 1;
        if self.unsaved >= SAVE_EVERY as u64 {
            self.save()?;
        }
        Ok(())
    }

    /// Remembers the progress; also says it.
    pub(super) fn save(&mut self) -> anyhow::Result<Progress> {
        self.unsaved = 0;
        self.now.sequence = self.known.front().copied().unwrap_or_default();
        if let Some(events) = self.events.as_ref().filter(|_| self.now.offset > 0) {
            self.now.before = hash_before(events, self.now.offset).with_context(|| cannot("read", events))?;
            // Written aside and renamed: a crash leaves the old progress or the new one.
            let fresh = self.file.with_extension("progress.new");
            let text = serde_json::to_vec(&self.now).context("cannot write progress down")?;
            fs::write(&fresh, text)
                .and_then(|()| fs::rename(&fresh, &self.file))
                .with_context(|| cannot("write", &self.file))?;
        }
        Ok(self.now.clone())
    }

    /// The file is done with: nothing is left to remember.
    pub(super) fn finish(&self) -> anyhow::Result<()> {
        match fs::remove_file(&self.file) {
            Err(error) if self.events.is_some() && error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| cannot("remove", &self.file))
            }
            _ => Ok(()),
        }
    }
}

/// `<file>.churnd-<account>.progress`
fn beside(events: &Path, account: &AccountId) -> PathBuf {
    let mut name = events.as_os_str().to_owned();
    name.push(format!(".churnd-{account}.progress"));
    PathBuf::from(name)
}

fn read(file: &Path, events: &Path) -> anyhow::Result<Option<Progress>> {
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| cannot("read", file)),
    };
    let progress: Progress = serde_json::from_str(&text)
        .with_context(|| format!("{} is damaged: remove it to publish from the first line", file.display()))?;
    let before = hash_before(events, progress.offset);
    ensure!(
        before.is_ok_and(|before| before == progress.before),
        "{} has changed since its import was broken off after line {}: publish it from the first line with --from-start",
        events.display(),
        progress.line
    );
    Ok(Some(progress))
}

/// A hash of the last bytes before an offset.
fn hash_before(events: &Path, offset: u64) -> io::Result<u64> {
    let mut bytes = [0; 1024];
    let length = offset.min(bytes.len() as u64);
    let mut file = File::open(events)?;
    file.seek(SeekFrom::Start(offset - length))?;
    let bytes = &mut bytes[..usize::try_from(length).unwrap_or_default()];
    file.read_exact(bytes)?;
    Ok(xxh3_64(bytes))
}

fn cannot(action: &str, path: &Path) -> String {
    format!("cannot {action} {}", path.display())
}

/// A bar on a terminal; nothing elsewhere.
pub(super) fn bar(length: Option<u64>) -> ProgressBar {
    let (bar, template) = match length {
        Some(length) => (
            ProgressBar::new(length),
            "{wide_bar} {percent}%  {binary_bytes} of {binary_total_bytes}  {binary_bytes_per_sec}  {eta} left",
        ),
        None => (ProgressBar::new_spinner(), "{spinner} {binary_bytes}  {binary_bytes_per_sec}"),
    };
    bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal(events: &Path) -> anyhow::Result<Journal> {
        let input = Input::parse(events.to_str().unwrap()).unwrap();
        Journal::open(&input, &AccountId::parse("acme").unwrap(), false)
    }

    #[test]
    fn progress_is_found_again_and_forgotten_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let events = dir.path().join("events.ndjson");
        fs::write(&events, "one\ntwo\n").unwrap();
        let mut first = journal(&events).unwrap();
        first.start_at(40);
        first.stored(StreamSequence(41));
        first.passed(4, 1, 1).unwrap();
        first.save().unwrap();
        let second = journal(&events).unwrap();
        assert_eq!((second.begun().offset, second.begun().line, second.begun().bad), (4, 1, 1));
        assert_eq!(second.begun().sequence, 40);
        second.finish().unwrap();
        assert_eq!(journal(&events).unwrap().begun(), &Progress::default());
    }

    #[test]
    fn another_file_of_the_same_name_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let events = dir.path().join("events.ndjson");
        fs::write(&events, "one\ntwo\n").unwrap();
        let mut first = journal(&events).unwrap();
        first.passed(4, 1, 0).unwrap();
        first.save().unwrap();
        for other in ["eins\nzwei\n", "o"] {
            fs::write(&events, other).unwrap();
            let error = journal(&events).err().unwrap().to_string();
            assert!(error.contains("--from-start"), "{error}");
        }
    }

    #[test]
    fn what_is_in_doubt_stands_behind_the_remembered_place_in_the_stream() {
        let dir = tempfile::tempdir().unwrap();
        let events = dir.path().join("events.ndjson");
        fs::write(&events, "one\n").unwrap();
        let mut journal = journal(&events).unwrap();
        journal.start_at(9);
        (10..10 + 2 * WINDOW as u64).for_each(|sequence| journal.stored(StreamSequence(sequence)));
        assert_eq!(journal.save().unwrap().sequence, 9 + WINDOW as u64);
    }
}
