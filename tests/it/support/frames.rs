//! As much of Postgres' wire protocol as it takes to see a COMMIT go by.

/// Where a COMMIT stands among bytes that were read at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Commit {
    /// Where its message begins; 0 if that was in bytes read earlier.
    pub(crate) begins: usize,
    /// Where the byte after its message is.
    pub(crate) ends: usize,
}

/// Follows what a client sends, message by message, however it is cut into pieces.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    /// The first message has no letter.
    greeted: bool,
    /// Of the message under way: what has come of its head, and of its body if that might be a COMMIT.
    held: Vec<u8>,
    /// Bytes of the message's body that are still to come and do not matter.
    skipped: usize,
}

const COMMIT: &[u8] = b"Q\0\0\0\x0bCOMMIT\0";

impl Frames {
    /// Reads on; gives the first COMMIT that ends in these bytes. What follows it is not looked at: a client waits for
    /// its answer.
    pub(crate) fn find_commit(&mut self, bytes: &[u8]) -> Option<Commit> {
        let (mut at, mut begins) = (0, 0);
        while at < bytes.len() {
            if self.skipped > 0 {
                let passed = self.skipped.min(bytes.len() - at);
                self.skipped -= passed;
                at += passed;
                begins = at;
                continue;
            }
            self.held.push(bytes[at]);
            at += 1;
            let (head, length) = match self.length() {
                Some(length) => length,
                None => continue,
            };
            if self.held == COMMIT {
                self.held.clear();
                return Some(Commit { begins, ends: at });
            }
            if !COMMIT.starts_with(&self.held) {
                self.skipped = (head + length).saturating_sub(self.held.len());
                self.held.clear();
                self.greeted = true;
                begins = at;
            }
        }
        None
    }

    /// How long the head of the message under way is, and what follows it, once that can be told.
    fn length(&self) -> Option<(usize, usize)> {
        let letter = usize::from(self.greeted);
        let number: [u8; 4] = self.held.get(letter..letter + 4)?.try_into().expect("four bytes were taken");
        let length = usize::try_from(u32::from_be_bytes(number)).expect("lengths are small");
        Some((letter + 4, length.saturating_sub(4)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(letter: &str, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap();
        [letter.as_bytes(), &length.to_be_bytes(), body].concat()
    }

    #[test]
    fn a_commit_is_seen_wherever_the_bytes_are_cut_and_nothing_else_is_taken_for_one() {
        let before = [
            message("", b"\0\x03\0\0user\0churnd\0\0"),
            message("Q", b"BEGIN\0"),
            message("P", b"a statement with COMMIT\0 in it, and Q\0\0\0\x0bCOMMIT\0 whole"),
            message("S", b""),
            message("Q", b"COMMENT ON TABLE t IS ''\0"),
        ]
        .concat();
        let all = [before.clone(), message("Q", b"COMMIT\0")].concat();
        for cut in 0..=all.len() {
            let mut frames = Frames::default();
            let first = frames.find_commit(&all[..cut]);
            let second = frames.find_commit(&all[cut..]);
            match (first, second) {
                (Some(commit), None) => assert_eq!((commit.begins, commit.ends), (before.len(), all.len())),
                (None, Some(commit)) => {
                    assert_eq!((cut + commit.ends, commit.begins), (all.len(), before.len().saturating_sub(cut)));
                }
                found => panic!("cut at {cut}: {found:?}"),
            }
        }
    }
}
