//! Where requests begin and end on a connection, told from the raw bytes; whatever could be read in two ways is refused.
//!
//! The server's parser forgives what a proxy in front of it may read otherwise: it drops a `Content-Length` beside a
//! `Transfer-Encoding`, takes bare line feeds, adds up repeated fields. Two readers that disagree on where a request ends let a
//! client smuggle a second one in. So the boundaries are followed here, by rules without choice, before the parser sees a
//! byte. Knows no sockets; size limits are the parser's, which answers them with 431.
//!
//! Invariant: the verdict does not depend on how the bytes are split.

use std::ops::ControlFlow;

/// The longest line that gives a chunk's size, with its extensions, which nobody needs.
const MAX_CHUNK_LINE: usize = 256;
/// The parser bounds heads and refuses them itself long before this.
const MAX_LINE: usize = 1 << 20;
/// Clients of old send an empty line after a body.
const MAX_EMPTY_LINES: u8 = 2;

/// Why a connection's bytes are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Violation {
    BareLineEnd,
    ControlCharacter,
    RequestLine,
    FieldName,
    FoldedField,
    ContentLength,
    TransferEncoding,
    TwoLengths,
    Host,
    Chunk,
    Trailer,
    LongLine,
}

impl Violation {
    /// Names it in logs and metrics.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::BareLineEnd => "bare_line_end",
            Self::ControlCharacter => "control_character",
            Self::RequestLine => "request_line",
            Self::FieldName => "field_name",
            Self::FoldedField => "folded_field",
            Self::ContentLength => "content_length",
            Self::TransferEncoding => "transfer_encoding",
            Self::TwoLengths => "two_lengths",
            Self::Host => "host",
            Self::Chunk => "chunk",
            Self::Trailer => "trailer",
            Self::LongLine => "long_line",
        }
    }
}

/// A violation, and where the line that holds it begins in the bytes that were given last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) at: usize,
    pub(super) violation: Violation,
}

/// Follows the requests of one connection.
#[derive(Debug, Default)]
pub(super) struct Framing {
    place: Place,
    head: Head,
    /// The beginning of a line whose end has not come.
    line: Vec<u8>,
    /// The line is whole but for its line feed.
    after_return: bool,
}

/// What the next bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    RequestLine { empty_lines: u8 },
    Field,
    Body { left: u64 },
    ChunkSize,
    ChunkData { left: u64 },
    ChunkEnd,
    Trailer,
}

impl Default for Place {
    fn default() -> Self {
        Self::RequestLine { empty_lines: 0 }
    }
}

/// What the head under way has said of its request's end.
#[derive(Debug, Default)]
struct Head {
    is_old: bool,
    hosts: u8,
    length: Option<u64>,
    is_chunked: bool,
}

impl Framing {
    /// Takes the next bytes of the connection. After a refusal nothing more may be given.
    pub(super) fn follow(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            at += match &mut self.place {
                Place::Body { left } | Place::ChunkData { left } => {
                    let passed = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                    *left -= passed as u64;
                    if *left == 0 {
                        self.place =
                            if matches!(self.place, Place::Body { .. }) { Place::default() } else { Place::ChunkEnd };
                    }
                    passed
                }
                _ => self.read_line(rest).map_err(|violation| Refusal { at, violation })?,
            };
        }
        Ok(())
    }

    /// A head has begun and not ended.
    #[cfg(test)]
    pub(super) fn is_in_head(&self) -> bool {
        self.place == Place::Field
    }

    /// Takes one line or what is there of it, and tells its length.
    fn read_line(&mut self, rest: &[u8]) -> Result<usize, Violation> {
        if self.after_return {
            if rest[0] != b'\n' {
                return Err(Violation::BareLineEnd);
            }
            self.after_return = false;
            self.judge_kept()?;
            return Ok(1);
        }
        let Some(end) = first_control(rest) else {
            self.keep(rest)?;
            return Ok(rest.len());
        };
        match (rest[end], rest.get(end + 1)) {
            (b'\r', Some(b'\n')) if self.line.is_empty() => self.judge(&rest[..end])?,
            (b'\r', Some(b'\n')) => {
                self.keep(&rest[..end])?;
                self.judge_kept()?;
            }
            (b'\r', None) => {
                self.keep(&rest[..end])?;
                self.after_return = true;
                return Ok(end + 1);
            }
            (b'\r' | b'\n', _) => return Err(Violation::BareLineEnd),
            _ => return Err(Violation::ControlCharacter),
        }
        Ok(end + 2)
    }

    fn keep(&mut self, part: &[u8]) -> Result<(), Violation> {
        let (limit, violation) = match self.place {
            Place::ChunkSize => (MAX_CHUNK_LINE, Violation::Chunk),
            Place::ChunkEnd => (0, Violation::Chunk),
            _ => (MAX_LINE, Violation::LongLine),
        };
        if self.line.len() + part.len() > limit {
            return Err(violation);
        }
        self.line.extend_from_slice(part);
        Ok(())
    }

    fn judge_kept(&mut self) -> Result<(), Violation> {
        let line = std::mem::take(&mut self.line);
        self.judge(&line)
    }

    /// Judges a whole line, without its end, and decides what comes next.
    fn judge(&mut self, line: &[u8]) -> Result<(), Violation> {
        self.place = match self.place {
            Place::RequestLine { empty_lines } if line.is_empty() => {
                if empty_lines == MAX_EMPTY_LINES {
                    return Err(Violation::RequestLine);
                }
                Place::RequestLine { empty_lines: empty_lines + 1 }
            }
            Place::RequestLine { .. } => {
                self.head = Head { is_old: is_of_http_1_0(line)?, ..Head::default() };
                Place::Field
            }
            Place::Field if line.is_empty() => self.head.end()?,
            Place::Field => {
                self.head.read(line)?;
                Place::Field
            }
            Place::ChunkSize => match chunk_size(line)? {
                0 => Place::Trailer,
                left => Place::ChunkData { left },
            },
            Place::ChunkEnd if line.is_empty() => Place::ChunkSize,
            Place::ChunkEnd => return Err(Violation::Chunk),
            Place::Trailer if line.is_empty() => Place::default(),
            Place::Trailer => {
                let (name, _) = field(line)?;
                if decides_boundaries(name) {
                    return Err(Violation::Trailer);
                }
                Place::Trailer
            }
            Place::Body { .. } | Place::ChunkData { .. } => unreachable!("bodies have no lines"),
        };
        Ok(())
    }
}

impl Head {
    fn read(&mut self, line: &[u8]) -> Result<(), Violation> {
        let (name, value) = field(line)?;
        if name.eq_ignore_ascii_case(b"content-length") {
            if self.is_chunked {
                return Err(Violation::TwoLengths);
            }
            // Also one that says the same again: who takes the first and who the last would differ as soon as they may.
            if self.length.replace(length(value)?).is_some() {
                return Err(Violation::ContentLength);
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if self.length.is_some() {
                return Err(Violation::TwoLengths);
            }
            if self.is_old || self.is_chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Violation::TransferEncoding);
            }
            self.is_chunked = true;
        } else if name.eq_ignore_ascii_case(b"host") {
            self.hosts += 1;
            if self.hosts > 1 || !value.iter().all(|byte| is_of_host(*byte)) {
                return Err(Violation::Host);
            }
        }
        Ok(())
    }

    /// What follows the head.
    fn end(&self) -> Result<Place, Violation> {
        if self.hosts == 0 && !self.is_old {
            return Err(Violation::Host);
        }
        Ok(match (self.is_chunked, self.length) {
            (true, _) => Place::ChunkSize,
            (false, Some(left)) if left > 0 => Place::Body { left },
            (false, _) => Place::default(),
        })
    }
}

/// Fields that say where a request ends or whom it is for, which must not come after its body.
fn decides_boundaries(name: &[u8]) -> bool {
    let names: [&[u8]; 4] = [b"content-length", b"transfer-encoding", b"host", b"trailer"];
    names.iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// Whether a request line is one of HTTP/1.0 rather than 1.1.
fn is_of_http_1_0(line: &[u8]) -> Result<bool, Violation> {
    let mut parts = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Violation::RequestLine);
    };
    let is_method = !method.is_empty() && method.iter().all(|byte| is_of_token(*byte));
    // What follows CONNECT is no request any more, to a proxy.
    if !is_method || method == b"CONNECT" || target.is_empty() || target.contains(&b'\t') {
        return Err(Violation::RequestLine);
    }
    match version {
        b"HTTP/1.1" => Ok(false),
        b"HTTP/1.0" => Ok(true),
        _ => Err(Violation::RequestLine),
    }
}

/// A field's name and its value without the space around it.
fn field(line: &[u8]) -> Result<(&[u8], &[u8]), Violation> {
    let stray = line.iter().position(|byte| !is_of_token(*byte)).ok_or(Violation::FieldName)?;
    match (stray, line[stray]) {
        (0, b' ' | b'\t') => Err(Violation::FoldedField),
        (1.., b':') => Ok((&line[..stray], line[stray + 1..].trim_ascii())),
        _ => Err(Violation::FieldName),
    }
}

/// Digits and nothing else, and no more of them than a length has.
fn length(value: &[u8]) -> Result<u64, Violation> {
    let digits = value.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(value).ok().filter(|text| digits && (1..=18).contains(&text.len()));
    text.and_then(|text| text.parse().ok()).ok_or(Violation::ContentLength)
}

/// Hexadecimal digits at the line's very beginning; extensions are let pass within bounds.
fn chunk_size(line: &[u8]) -> Result<u64, Violation> {
    let read = line.iter().try_fold((0_u64, 0_usize), |(size, digits), byte| match char::from(*byte).to_digit(16) {
        Some(digit) => ControlFlow::Continue((size.wrapping_mul(16).wrapping_add(u64::from(digit)), digits + 1)),
        None => ControlFlow::Break((size, digits)),
    });
    let (ControlFlow::Continue((size, digits)) | ControlFlow::Break((size, digits))) = read;
    let fits = (1..=15).contains(&digits) && line.len() <= MAX_CHUNK_LINE;
    let ends = line.get(digits).is_none_or(|next| *next == b';');
    if fits && ends { Ok(size) } else { Err(Violation::Chunk) }
}

/// The first byte that no line holds, which should be the return at its end. Looks at eight bytes at a time.
fn first_control(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::MAX / 255;
    const HIGHS: u64 = ONES * 0x80;
    let is_control = |byte: &u8| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f;
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let number = u64::from_le_bytes(*word);
        let deleted = number ^ (ONES * 0x7f);
        let below_space = number.wrapping_sub(ONES * 0x20) & !number;
        let is_deleted = deleted.wrapping_sub(ONES) & !deleted;
        // Some byte of the eight may be one: a tab is not, so each is looked at.
        if (below_space | is_deleted) & HIGHS != 0
            && let Some(at) = word.iter().position(is_control)
        {
            return Some(index * 8 + at);
        }
    }
    rest.iter().position(is_control).map(|at| words.len() * 8 + at)
}

/// Which bytes a field's name or a method is made of.
const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 0x80 {
        table[byte as usize] = byte.is_ascii_alphanumeric();
        byte += 1;
    }
    let others = b"!#$%&'*+-.^_`|~";
    let mut at = 0;
    while at < others.len() {
        table[others[at] as usize] = true;
        at += 1;
    }
    table
};

fn is_of_token(byte: u8) -> bool {
    TOKEN[usize::from(byte)]
}

/// What names, addresses and ports are made of.
fn is_of_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b".-_~:[]%!$&'()*+;=".contains(&byte)
}

#[cfg(test)]
mod tests;
