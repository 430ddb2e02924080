//! Checks of a JSON text as a whole, before it is read: how deep it nests and what its escapes spell.

use super::Reject;

/// Refuses what nests deeper than `limit`, NUL characters and halves of surrogate pairs.
///
/// Trusts the text to be JSON: of other texts it may name one fault or another, but never accepts more.
pub(super) fn check(json: &str, limit: usize) -> Result<(), Reject> {
    let bytes = json.as_bytes();
    // Few texts have as many brackets as the limit: only those are walked through.
    if opening_brackets(bytes) > limit && depth(bytes) > limit {
        return Err(Reject::TooDeep { limit });
    }
    match json.find('\\') {
        Some(first) => check_escapes(bytes, first),
        None => Ok(()),
    }
}

/// How many `[` and `{` there are, in texts too; they differ in one bit.
fn opening_brackets(bytes: &[u8]) -> usize {
    // Counted by bytes within pieces that cannot overflow one, which the compiler makes into wide instructions.
    let pieces = bytes.chunks(128);
    pieces.map(|piece| usize::from(piece.iter().map(|&byte| u8::from(byte | 0x20 == b'{')).sum::<u8>())).sum()
}

/// The most levels of arrays and objects that are open at once.
fn depth(bytes: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let mut bytes = bytes.iter();
    let mut in_text = false;
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => in_text = !in_text,
            b'\\' if in_text => {
                bytes.next();
            }
            b'[' | b'{' if !in_text => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

fn check_escapes(bytes: &[u8], first: usize) -> Result<(), Reject> {
    let mut position = first;
    while position < bytes.len() {
        if bytes[position] != b'\\' {
            position += 1;
            continue;
        }
        match escaped_unit(bytes, position) {
            Some(0) => return Err(Reject::NulCharacter { position }),
            Some(0xd800..=0xdbff) => match escaped_unit(bytes, position + 6) {
                Some(0xdc00..=0xdfff) => position += 12,
                _ => return Err(Reject::LoneSurrogate { position }),
            },
            Some(0xdc00..=0xdfff) => return Err(Reject::LoneSurrogate { position }),
            Some(_) => position += 6,
            None => position += 2,
        }
    }
    Ok(())
}

/// The UTF-16 unit of the `\uXXXX` that begins at `position`.
fn escaped_unit(bytes: &[u8], position: usize) -> Option<u32> {
    let escape = bytes.get(position..position + 6)?.strip_prefix(b"\\u")?;
    escape.iter().try_fold(0, |unit, &digit| Some(unit * 16 + char::from(digit).to_digit(16)?))
}
