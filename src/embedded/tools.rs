//! Finds the binaries of the private servers and checks that they are new enough.
//!
//! Looks at the place that was named, in `.tools/` of the current directory and of the executable's (and their
//! parents), on the PATH, and where Debian keeps Postgres. `scripts/tools` fills `.tools/` or installs the package.

use std::{
    env,
    ffi::OsString,
    fmt, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Why a binary cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ToolError {
    /// It is nowhere.
    #[error("{tool} not found in .tools/, on the PATH or beside it: run scripts/tools")]
    Missing {
        /// What was looked for.
        tool: &'static str,
    },
    /// The place that was named does not hold it.
    #[error("{} is no usable {tool}: correct the setting or remove it", path.display())]
    NotThere {
        /// What was looked for.
        tool: &'static str,
        /// Where.
        path: PathBuf,
    },
    /// Only too old ones are there.
    #[error("{} is {tool} {found}, but {needed} or newer is needed: run scripts/tools", path.display())]
    TooOld {
        /// What was found.
        tool: &'static str,
        /// Where.
        path: PathBuf,
        /// Its version.
        found: Version,
        /// The oldest that will do.
        needed: Version,
    },
}

/// A server's version: the first two numbers say all that we need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The first number.
    pub major: u32,
    /// The second number.
    pub minor: u32,
}

impl Version {
    /// Reads the first number with a dot out of a line such as `nats-server: v2.15.1` or `postgres (PostgreSQL) 15.18`.
    pub fn find_in(line: &str) -> Option<Self> {
        let words = line.split(|c: char| !(c.is_ascii_digit() || c == '.'));
        words.filter(|word| word.starts_with(|c: char| c.is_ascii_digit())).find_map(|word| {
            let mut numbers = word.split('.');
            let major = numbers.next()?.parse().ok()?;
            let minor = numbers.next()?.parse().ok()?;
            Some(Self { major, minor })
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.major, self.minor)
    }
}

/// Where to look for the binaries.
#[derive(Clone, Debug, Default)]
pub struct Tools {
    /// The `nats-server` binary, if it was named.
    pub nats_server: Option<PathBuf>,
    /// The directory with `postgres` and `initdb`, if it was named.
    pub postgres_bin: Option<PathBuf>,
}

const NATS: &str = "nats-server";
const POSTGRES: &str = "postgres";
/// The first with subject transforms, discard per subject, consumer reset and group commit.
const OLDEST_NATS: Version = Version { major: 2, minor: 15 };
const OLDEST_POSTGRES: Version = Version { major: 15, minor: 0 };

impl Tools {
    /// Takes named places from the given environment variables; an empty one counts as absent.
    pub fn from_env(nats_server: &str, postgres_bin: &str) -> Self {
        let path = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        Self { nats_server: path(nats_server), postgres_bin: path(postgres_bin) }
    }

    /// The `nats-server` to run.
    pub fn find_nats_server(&self) -> Result<PathBuf, ToolError> {
        if let Some(path) = &self.nats_server {
            return named(NATS, path.clone(), "-v", OLDEST_NATS);
        }
        let candidates = own_tools("bin").chain(search_path()).map(|dir| dir.join(NATS));
        newest_enough(NATS, candidates, "-v", OLDEST_NATS)
    }

    /// The directory of the Postgres binaries to run.
    pub fn find_postgres(&self) -> Result<PathBuf, ToolError> {
        let found = if let Some(dir) = &self.postgres_bin {
            named(POSTGRES, dir.join(POSTGRES), "--version", OLDEST_POSTGRES)?
        } else {
            let dirs = own_tools("postgres/bin").chain(search_path()).chain(debian_postgres());
            newest_enough(POSTGRES, dirs.filter_map(postgres_in), "--version", OLDEST_POSTGRES)?
        };
        let missing = ToolError::NotThere { tool: POSTGRES, path: found.clone() };
        let real = postgres_in(found.parent().ok_or_else(|| missing.clone())?.to_owned()).ok_or(missing)?;
        Ok(real.parent().expect("a file has a directory").to_owned())
    }
}

/// The binary behind `dir/postgres`, links followed, if `initdb` is beside it.
fn postgres_in(dir: PathBuf) -> Option<PathBuf> {
    let real = fs::canonicalize(dir.join(POSTGRES)).ok()?;
    real.with_file_name("initdb").is_file().then_some(real)
}

fn named(tool: &'static str, path: PathBuf, flag: &str, needed: Version) -> Result<PathBuf, ToolError> {
    match version_of(&path, flag) {
        Some(found) if found >= needed => Ok(path),
        Some(found) => Err(ToolError::TooOld { tool, path, found, needed }),
        None => Err(ToolError::NotThere { tool, path }),
    }
}

/// The first candidate that is new enough, else an error that names the newest of the old ones.
fn newest_enough(
    tool: &'static str,
    candidates: impl Iterator<Item = PathBuf>,
    flag: &str,
    needed: Version,
) -> Result<PathBuf, ToolError> {
    let mut old: Option<(Version, PathBuf)> = None;
    for path in candidates.filter(|path| path.is_file()) {
        match version_of(&path, flag) {
            Some(version) if version >= needed => return Ok(path),
            Some(version) if old.as_ref().is_none_or(|(best, _)| version > *best) => old = Some((version, path)),
            Some(_) | None => {}
        }
    }
    Err(match old {
        Some((found, path)) => ToolError::TooOld { tool, path, found, needed },
        None => ToolError::Missing { tool },
    })
}

fn version_of(path: &Path, flag: &str) -> Option<Version> {
    let output = Command::new(path).arg(flag).current_dir("/").output().ok()?;
    Version::find_in(&String::from_utf8_lossy(&output.stdout))
}

/// `.tools/<inside>` of the current directory, of the executable's directory, and of all their parents.
fn own_tools(inside: &str) -> impl Iterator<Item = PathBuf> + '_ {
    let starts = [env::current_dir().ok(), env::current_exe().ok()];
    starts.into_iter().flatten().flat_map(move |start| {
        let parents: Vec<PathBuf> = start.ancestors().map(|dir| dir.join(".tools").join(inside)).collect();
        parents
    })
}

fn search_path() -> impl Iterator<Item = PathBuf> {
    let path: OsString = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).filter(|dir| dir.is_absolute()).collect::<Vec<_>>().into_iter()
}

/// Debian's and its relatives' places, the newest version first.
fn debian_postgres() -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<(u32, PathBuf)> = entries
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    versions.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    versions.into_iter().map(|(_, dir)| dir)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn fake(dir: &Path, name: &str, says: &str) -> PathBuf {
        fs::create_dir_all(dir).unwrap();
        let path = dir.join(name);
        fs::write(&path, format!("#!/bin/sh\necho '{says}'\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn versions_are_read_out_of_what_servers_say() {
        let check = |line, major, minor| assert_eq!(Version::find_in(line), Some(Version { major, minor }), "{line}");
        check("nats-server: v2.15.1", 2, 15);
        check("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", 15, 18);
        check("postgres (PostgreSQL) 18.6", 18, 6);
        assert_eq!(Version::find_in("postgres (PostgreSQL) 19devel"), None);
    }

    #[test]
    fn too_old_a_server_is_named_with_its_version() {
        let dir = tempfile::tempdir().unwrap();
        let path = fake(dir.path(), "nats-server", "nats-server: v2.9.10");
        let tools = Tools { nats_server: Some(path), postgres_bin: None };
        let error = tools.find_nats_server().unwrap_err().to_string();
        assert!(error.contains("2.9, but 2.15 or newer is needed: run scripts/tools"), "{error}");
    }

    #[test]
    fn the_first_that_is_new_enough_wins_over_older_ones_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let old = fake(&dir.path().join("a"), NATS, "nats-server: v2.12.0");
        let new = fake(&dir.path().join("b"), NATS, "nats-server: v2.16.0");
        let found = newest_enough(NATS, [old, new.clone()].into_iter(), "-v", OLDEST_NATS);
        assert_eq!(found, Ok(new));
    }

    #[test]
    fn a_link_to_postgres_leads_to_the_directory_that_holds_initdb() {
        let dir = tempfile::tempdir().unwrap();
        let real = fs::canonicalize(dir.path()).unwrap().join("real");
        let postgres = fake(&real, POSTGRES, "postgres (PostgreSQL) 17.2");
        fake(&real, "initdb", "initdb (PostgreSQL) 17.2");
        let links = dir.path().join("links");
        fs::create_dir(&links).unwrap();
        std::os::unix::fs::symlink(postgres, links.join(POSTGRES)).unwrap();
        let tools = Tools { nats_server: None, postgres_bin: Some(links) };
        assert_eq!(tools.find_postgres(), Ok(real));
    }

    #[test]
    fn nothing_at_all_says_what_to_run() {
        let error = newest_enough(NATS, std::iter::empty(), "-v", OLDEST_NATS).unwrap_err().to_string();
        assert!(error.ends_with("run scripts/tools"), "{error}");
    }
}
