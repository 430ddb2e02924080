//! The data directory: one process at a time, and a file with what a second start must find again.
//!
//! Keys cannot be read back from Postgres, which holds their hashes only; so the demo account's are kept here, in a file
//! that only the owner may read.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    net::{Ipv4Addr, TcpListener},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

/// The directory, locked.
pub(super) struct DataDir {
    path: PathBuf,
    remembered: Remembered,
    _lock: File,
}

/// What is kept for the next start.
#[derive(Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Remembered {
    #[serde(skip_serializing_if = "Option::is_none")]
    nats_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    postgres_port: Option<u16>,
    accounts: std::collections::BTreeMap<String, Keys>,
}

/// The demo account's keys, in clear.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Keys {
    /// `pk_…`
    pub(super) publishable: String,
    /// `sk_…`
    pub(super) secret: String,
    /// `whsec_…`
    pub(super) stripe: String,
}

/// The ports that the servers should have; a free one where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ports {
    pub(super) nats: Option<u16>,
    pub(super) postgres: Option<u16>,
}

impl DataDir {
    /// Creates the directory if need be, and makes it ours.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(path).with_context(|| format!("cannot create {}", path.display()))?;
        let path = fs::canonicalize(path).with_context(|| format!("cannot open {}", path.display()))?;
        let lock = lock(&path)?;
        let mut dir = Self { path, remembered: Remembered::default(), _lock: lock };
        let file = dir.memory();
        match fs::read(&file) {
            Ok(text) => {
                dir.remembered = serde_json::from_slice(&text)
                    .with_context(|| format!("{} is damaged: remove it, and new keys will be made", file.display()))?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
        }
        Ok(dir)
    }

    /// Its absolute path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The ports to take: those that are asked for, else those of the last run where they are free.
    pub(super) fn ports(&self, nats: Option<u16>, postgres: Option<u16>) -> Ports {
        let free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
        Ports {
            nats: nats.or_else(|| self.remembered.nats_port.filter(free)),
            postgres: postgres.or_else(|| self.remembered.postgres_port.filter(free)),
        }
    }

    /// Keeps the ports for the next start.
    pub(super) fn remember_ports(&mut self, ports: Ports) -> anyhow::Result<()> {
        (self.remembered.nats_port, self.remembered.postgres_port) = (ports.nats, ports.postgres);
        self.save()
    }

    /// The keys that an account had in the last run.
    pub(super) fn keys_of(&self, account: &str) -> Keys {
        self.remembered.accounts.get(account).cloned().unwrap_or_default()
    }

    /// Keeps an account's keys for the next start.
    pub(super) fn remember_keys(&mut self, account: &str, keys: &Keys) -> anyhow::Result<()> {
        self.remembered.accounts.insert(account.to_owned(), keys.clone());
        self.save()
    }

    fn memory(&self) -> PathBuf {
        self.path.join("dev.json")
    }

    /// Written aside and renamed: there is the old file or the whole new one.
    fn save(&self) -> anyhow::Result<()> {
        let file = self.memory();
        let fresh = self.path.join("dev.json.new");
        let write = || -> io::Result<()> {
            if fresh.exists() {
                fs::remove_file(&fresh)?;
            }
            let mut out = File::options().write(true).create_new(true).mode(0o600).open(&fresh)?;
            out.write_all(&serde_json::to_vec_pretty(&self.remembered)?)?;
            out.sync_all()?;
            fs::rename(&fresh, &file)
        };
        write().with_context(|| format!("cannot write {}", file.display()))
    }
}

fn lock(dir: &Path) -> anyhow::Result<File> {
    let path = dir.join("dev.lock");
    let open =
        || -> io::Result<File> { File::options().read(true).write(true).create(true).truncate(false).open(&path) };
    let mut file = open().with_context(|| format!("cannot open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let known = file.read_to_string(&mut holder).is_ok() && !holder.trim().is_empty();
            let holder = if known { format!(" (process {})", holder.trim()) } else { String::new() };
            bail!(
                "another `churnd dev`{holder} uses {}: stop it, or choose another directory with --data",
                dir.display()
            );
        }
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("cannot lock {}", path.display()));
        }
    }
    let mut say_who = || -> io::Result<()> {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    };
    say_who().with_context(|| format!("cannot write {}", path.display()))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn keys_are_found_again_and_nobody_else_may_read_them() {
        let temp = tempfile::tempdir().unwrap();
        let keys = Keys { publishable: "pk".into(), secret: "sk".into(), stripe: "wh".into() };
        let mut dir = DataDir::open(temp.path()).unwrap();
        dir.remember_keys("demo", &keys).unwrap();
        drop(dir);
        let dir = DataDir::open(temp.path()).unwrap();
        assert!(dir.keys_of("demo") == keys);
        assert!(dir.keys_of("other") == Keys::default());
        assert_eq!(fs::metadata(dir.memory()).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_second_process_is_told_who_holds_the_directory() {
        let temp = tempfile::tempdir().unwrap();
        let first = DataDir::open(temp.path()).unwrap();
        let error = DataDir::open(temp.path()).err().unwrap().to_string();
        assert!(error.contains(&format!("process {}", std::process::id())) && error.contains("--data"), "{error}");
        drop(first);
        DataDir::open(temp.path()).unwrap();
    }
}
