//! What the kernel tells about this process, read from `/proc/self` when asked.

use std::{fs, fs::DirEntry, io};

/// How finely the kernel counts CPU time for user space: 100 a second on every architecture Rust's std supports.
const TICKS_PER_SECOND: f64 = 100.0;

/// A process's use of the machine; `None` where `/proc` does not say.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    pub(super) cpu_seconds: Option<f64>,
    pub(super) resident_bytes: Option<u64>,
    pub(super) open_fds: Option<u64>,
}

impl Usage {
    /// Of this process, now.
    pub(super) fn of_this_process() -> Self {
        Self {
            cpu_seconds: fs::read_to_string("/proc/self/stat").ok().and_then(|stat| cpu_seconds(&stat)),
            resident_bytes: fs::read_to_string("/proc/self/status").ok().and_then(|status| resident_bytes(&status)),
            open_fds: fs::read_dir("/proc/self/fd").ok().map(count),
        }
    }
}

/// Minus the one that the directory itself is read through.
fn count(entries: impl Iterator<Item = io::Result<DirEntry>>) -> u64 {
    (entries.count() as u64).saturating_sub(1)
}

/// Fields 14 and 15, counted after the command's name, which may itself hold blanks and brackets.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let after_name = stat.rsplit_once(')')?.1;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_names_with_brackets_do_not_confuse() {
        let stat = "12 (a) b) S 1 2 3 4 5 6 7 8 9 10 250 150 0 0 20";
        assert_eq!(cpu_seconds(stat), Some(4.0));
    }

    #[test]
    fn usage_of_this_process_is_plausible() {
        let usage = Usage::of_this_process();
        assert!(usage.cpu_seconds.is_some());
        assert!(usage.resident_bytes.unwrap() > 500_000);
        assert!(usage.open_fds.unwrap() >= 3);
    }
}
