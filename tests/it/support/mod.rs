//! What the tests stand on: real servers, the real binary, and waits for events instead of for time.

#![expect(dead_code, reason = "each test takes what it needs")]

pub(crate) mod cluster; // a NATS and a database for one test
pub(crate) mod daemon; // the churnd binary: as a command, and as a daemon to be killed
pub(crate) mod http; // one HTTP request over one connection
pub(crate) mod raw; // HTTP by hand
pub(crate) mod feed; // events into the stream, each confirmed
pub(crate) mod observer; // what streams, bucket, tables and answers show
pub(crate) mod invariants; // the promises, checked from outside
pub(crate) mod webhooks; // as Stripe sends them
pub(crate) mod receivers; // whom messages are sent to over HTTP
pub(crate) mod mailbox; // a mail server
pub(crate) mod manager; // whom a daemon reports to as to systemd
pub(crate) mod storm; // everything is killed while events flow
pub(crate) mod proxy; // ways between the parts, to be cut, halved and slowed
pub(crate) mod disk; // a disk that can be filled, and one that cannot write
pub(crate) mod nodes; // three NATS servers and the ways between them
pub(crate) mod faults; // what can go wrong in a torture run, and how often
pub(crate) mod torture; // everything goes wrong at once, for as long as wanted
pub(crate) mod outcome; // what a torture run came to
pub(crate) mod instance; // one of the instances, by whatever launch
mod watch; // how far the work got, and how long it stood
mod frames; // Postgres' messages, as far as a COMMIT
mod poll; // looks again until it holds

use std::path::{Path, PathBuf};

pub(crate) use cluster::Cluster;
pub(crate) use feed::Feed;
pub(crate) use observer::Observer;
pub(crate) use poll::eventually;

/// The time in milliseconds since 1970.
#[expect(clippy::disallowed_methods, reason = "events of a test happen now")]
pub(crate) fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

/// A directory that goes with the test, or stays for a look if `CHURND_TEST_KEEP` is set and the test failed.
pub(crate) struct Scratch {
    dir: Option<tempfile::TempDir>,
}

impl Scratch {
    /// An empty directory.
    pub(crate) fn new() -> Self {
        Self { dir: Some(tempfile::Builder::new().prefix("churnd-test-").tempdir().unwrap()) }
    }

    /// An empty directory in memory, where syncing to disk costs nothing; on disk where there is too little of it. What is
    /// there outlives killed processes just as well.
    pub(crate) fn in_memory() -> Self {
        const ENOUGH: u64 = 2 << 30;
        let memory = Path::new("/dev/shm");
        let room = nix::sys::statvfs::statvfs(memory).map_or(0, |room| room.blocks_available() * room.fragment_size());
        let place = if room >= ENOUGH { memory.to_owned() } else { std::env::temp_dir() };
        Self { dir: Some(tempfile::Builder::new().prefix("churnd-test-").tempdir_in(place).unwrap()) }
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        self.dir.as_ref().expect("the directory lives until the drop").path()
    }

    /// A path inside.
    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// A file inside with the given content.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.join(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if std::thread::panicking()
            && std::env::var_os("CHURND_TEST_KEEP").is_some()
            && let Some(dir) = self.dir.take()
        {
            eprintln!("kept for a look: {}", dir.keep().display());
        }
    }
}
