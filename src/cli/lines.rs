//! Files of events, one to a line, read in one pass without ever holding more than a line that may be used.

use std::{
    fmt,
    fs::File,
    io::{self, BufRead as _, BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use crate::event::decode::{MAX_EVENT_BYTES, Reject};

/// A file, or standard input, as the command line names it.
#[derive(Clone, Debug)]
pub(super) struct Input(Option<PathBuf>);

/// Reads lines and counts them.
pub(super) struct Lines {
    reader: BufReader<Box<dyn Read + Send>>,
    /// The line read last, counted from 1.
    number: u64,
    /// The byte behind it.
    offset: u64,
}

/// A line that is not blank.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// Counted from 1.
    pub(super) number: u64,
    /// The byte behind it, from the file's beginning.
    pub(super) end: u64,
    /// Its text without blanks around it, unless it is longer than any event.
    pub(super) text: Result<Vec<u8>, Reject>,
}

impl Input {
    /// `-` is standard input.
    pub(super) fn parse(text: &str) -> Result<Self, std::convert::Infallible> {
        Ok(Self((text != "-").then(|| PathBuf::from(text))))
    }

    /// The file, unless this is standard input.
    pub(super) fn path(&self) -> Option<&Path> {
        self.0.as_deref()
    }

    /// How many bytes it has, where that is known.
    pub(super) fn length(&self) -> Option<u64> {
        self.path().and_then(|path| path.metadata().ok()).filter(|data| data.is_file()).map(|data| data.len())
    }

    /// Opens it at a line: its offset, and how many lines stand before it.
    pub(super) fn open_at(&self, offset: u64, number: u64) -> anyhow::Result<Lines> {
        let reader: Box<dyn Read + Send> = match self.path() {
            None => Box::new(io::stdin()),
            Some(path) => {
                let mut file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
                if offset > 0 {
                    file.seek(SeekFrom::Start(offset)).with_context(|| format!("cannot read {}", path.display()))?;
                }
                Box::new(file)
            }
        };
        Ok(Lines { reader: BufReader::with_capacity(256 << 10, reader), number, offset })
    }
}

impl fmt::Display for Input {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path() {
            None => formatter.write_str("stdin"),
            Some(path) => write!(formatter, "{}", path.display()),
        }
    }
}

impl Lines {
    /// The next line that is not blank.
    pub(super) fn next_line(&mut self) -> io::Result<Option<Line>> {
        let mut text = Vec::new();
        loop {
            let Some(bytes) = self.read_into(&mut text)? else { return Ok(None) };
            let line = |text| Line { number: self.number, end: self.offset, text };
            if bytes > text.len() {
                return Ok(Some(line(Err(Reject::Oversize { bytes, limit: MAX_EVENT_BYTES }))));
            }
            let mut trimmed = text.trim_ascii();
            if self.number == 1 {
                trimmed = trimmed.strip_prefix(b"\xef\xbb\xbf").unwrap_or(trimmed);
            }
            if !trimmed.is_empty() {
                return Ok(Some(line(Ok(trimmed.to_vec()))));
            }
        }
    }

    /// Nothing more is at hand: the next line must be waited for.
    pub(super) fn must_wait(&self) -> bool {
        !self.reader.buffer().contains(&b'\n')
    }

    /// Reads up to the line's end, keeps what an event may have, and says how long the line is; `None` at the end.
    fn read_into(&mut self, text: &mut Vec<u8>) -> io::Result<Option<usize>> {
        /// Blanks around an event are no part of it.
        const KEPT: usize = MAX_EVENT_BYTES + 1_024;
        text.clear();
        let mut length = 0;
        loop {
            let buffer = match self.reader.fill_buf() {
                Ok(buffer) => buffer,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let (part, taken) = match buffer.iter().position(|byte| *byte == b'\n') {
                Some(end) => (&buffer[..end], end + 1),
                None => (buffer, buffer.len()),
            };
            text.extend_from_slice(&part[..part.len().min(KEPT - text.len())]);
            length += part.len();
            let ended = taken > part.len();
            self.reader.consume(taken);
            self.offset += taken as u64;
            if ended || taken == 0 {
                if !ended && length == 0 {
                    return Ok(None);
                }
                self.number += 1;
                return Ok(Some(length));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> Vec<Line> {
        let reader: Box<dyn Read + Send> = Box::new(io::Cursor::new(text.to_vec()));
        let mut lines = Lines { reader: BufReader::with_capacity(7, reader), number: 0, offset: 0 };
        std::iter::from_fn(|| lines.next_line().unwrap()).collect()
    }

    fn line(number: u64, end: u64, text: &str) -> Line {
        Line { number, end, text: Ok(text.into()) }
    }

    #[test]
    fn lines_come_with_their_number_and_end() {
        assert_eq!(read(b"one\r\n\n  two  \nthree"), [line(1, 5, "one"), line(3, 14, "two"), line(4, 19, "three")]);
        assert_eq!(read(b"\xef\xbb\xbf{}\n"), [line(1, 6, "{}")]);
        assert_eq!(read(b"\n\n"), []);
        assert_eq!(read(b""), []);
    }

    #[test]
    fn a_line_longer_than_any_event_is_told_and_passed_over() {
        let mut text = vec![b'x'; 100_000];
        text.extend_from_slice(b"\nafter\n");
        let lines = read(&text);
        assert_eq!(lines[0].text, Err(Reject::Oversize { bytes: 100_000, limit: MAX_EVENT_BYTES }));
        assert_eq!(lines[1], line(2, 100_007, "after"));
    }
}
