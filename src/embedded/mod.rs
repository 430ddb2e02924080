//! Private servers: a `nats-server` and a Postgres as child processes in directories of their own, for `churnd dev` and
//! for the tests.
//!
//! Owns finding the binaries, starting, killing and restarting them. Knows nothing of streams, schemas or accounts.
//! All calls block (a start takes a tenth of a second, the first start of a Postgres about one): from async code call
//! them in `spawn_blocking` where that matters.
//!
//! Invariants: servers listen on loopback only. A directory is used by one server at a time, also across a crash of
//! this process. A server does not outlive this process, however it ends. Signals go only to processes started here.

pub mod tools; // finds the binaries and checks their versions
pub mod nats; // one nats-server with JetStream
pub mod postgres; // one Postgres with one superuser
mod process; // a child process that dies with us, and whose end is an event
mod port; // a loopback port that stays ours across a restart

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    process::ExitStatus,
    time::{Duration, Instant},
};

/// Why a private server cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A binary is missing or too old.
    #[error(transparent)]
    Tool(#[from] tools::ToolError),
    /// A file or directory resists.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Another server uses the directory.
    #[error("{} is in use by another server: stop it or choose another directory", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The server ended before it was ready.
    #[error("{server} ended at its start with {status}; its log ends with:\n{log}")]
    Ended {
        /// Which server.
        server: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// The end of its log.
        log: String,
    },
    /// The server was not ready, or not gone, in time.
    #[error("{server} did not {what} within {} s; its log ends with:\n{log}", within.as_secs())]
    TimedOut {
        /// Which server.
        server: &'static str,
        /// What was waited for.
        what: &'static str,
        /// For how long.
        within: Duration,
        /// The end of its log.
        log: String,
    },
    /// Postgres refused a statement.
    #[error("postgres refused `{statement}`")]
    Refused {
        /// What was asked.
        statement: String,
        /// Why not.
        source: tokio_postgres::Error,
    },
}

/// Adds what was tried on which path to an I/O error.
fn failed_to(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ServerError {
    let path = path.to_owned();
    move |source| ServerError::File { action, path, source }
}

/// Creates a directory with its parents and gives its absolute path.
fn prepare_dir(path: &Path) -> Result<PathBuf, ServerError> {
    fs::create_dir_all(path).map_err(failed_to("create", path))?;
    fs::canonicalize(path).map_err(failed_to("open", path))
}

/// Locks a directory for one server. The server inherits the open directory, and with it the lock: it is free again
/// when the last process of the server is gone, whether or not this process still lives.
fn lock_dir(path: &Path) -> Result<File, ServerError> {
    /// How long the server of a crashed predecessor may take to go.
    const PATIENCE: Duration = Duration::from_secs(15);
    let dir = File::open(path).map_err(failed_to("open", path))?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match dir.try_lock() {
            Ok(()) => return Ok(dir),
            Err(TryLockError::Error(source)) => return Err(failed_to("lock", path)(source)),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                return Err(ServerError::InUse { path: path.to_owned() });
            }
            Err(TryLockError::WouldBlock) => pause_for_stranger(),
        }
    }
}

/// One step of waiting for a process that is not our child and so tells us nothing.
#[expect(clippy::disallowed_methods, reason = "a lock held by a stranger cannot be waited for with a deadline")]
fn pause_for_stranger() {
    std::thread::sleep(Duration::from_millis(10));
}

/// Opens a server's log to append to it.
fn open_log(path: &Path) -> Result<File, ServerError> {
    File::options().append(true).create(true).open(path).map_err(failed_to("open", path))
}

/// The last lines of a log, for an error message.
fn tail_of(path: &Path) -> String {
    /// About twenty lines.
    const TAIL: u64 = 2048;
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match read() {
        Ok(bytes) if bytes.is_empty() => "(nothing)".to_owned(),
        Ok(bytes) => String::from_utf8_lossy(&bytes).trim_end().to_owned(),
        Err(error) => format!("({}: {error})", path.display()),
    }
}
