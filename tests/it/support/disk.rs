//! Disks that fail: one that is full, and one that cannot sync. What this user may not do is left out, and said.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use nix::{
    sys::{
        signal::{self, Signal},
        statvfs::statvfs,
    },
    unistd::Pid,
};

/// As large as it is when nothing is wrong.
const ROOM: &str = "size=4g";

/// A file system of its own, in memory.
pub(crate) struct Disk {
    dir: PathBuf,
}

impl Disk {
    /// Mounts one; `None` where this user may not.
    pub(crate) fn mount(dir: &Path) -> Option<Self> {
        fs::create_dir_all(dir).unwrap();
        let mounted = run("mount", &["-t", "tmpfs", "-o", ROOM, "churnd-test"], dir);
        mounted.then(|| Self { dir: dir.to_owned() })
    }

    /// Leaves no room for another byte.
    pub(crate) fn fill(&self) {
        // It may grow between the look and the mount, which then refuses to cut off what is there.
        for _ in 0..20 {
            let room = statvfs(&self.dir).unwrap();
            let used = (room.blocks() - room.blocks_free()) * room.fragment_size();
            if run("mount", &["-o", &format!("remount,size={used}")], &self.dir) {
                return;
            }
        }
        eprintln!("{} could not be filled", self.dir.display());
    }

    /// Makes room again.
    pub(crate) fn free(&self) {
        assert!(run("mount", &["-o", &format!("remount,{ROOM}")], &self.dir), "no room in {}", self.dir.display());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        run("umount", &["--lazy"], &self.dir);
    }
}

fn run(program: &str, arguments: &[&str], dir: &Path) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).arg(dir).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// While it lives a server's syncs to disk fail.
pub(crate) struct BrokenSync {
    strace: Child,
}

impl BrokenSync {
    /// Breaks the syncs of a process and of those it forked; `None` where strace is missing or may not.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        let mut command = Command::new("strace");
        command.args(["-f", "-qqq", "-o", "/dev/null", "-e", "trace=fsync,fdatasync"]);
        command.args(["-e", "inject=fsync,fdatasync:error=EIO"]);
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        for pid in [pid.to_string().as_str()].into_iter().chain(children.split_whitespace()) {
            command.args(["-p", pid]);
        }
        let strace = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
        Some(Self { strace })
    }

    /// It could not attach.
    pub(crate) fn has_failed(&mut self) -> bool {
        self.strace.try_wait().is_ok_and(|status| status.is_some_and(|status| status.code() == Some(1)))
    }
}

impl Drop for BrokenSync {
    fn drop(&mut self) {
        // It lets go of the server before it ends. A server that died took strace with it.
        let pid = Pid::from_raw(i32::try_from(self.strace.id()).unwrap());
        if self.strace.try_wait().is_ok_and(|status| status.is_none())
            && let Err(error) = signal::kill(pid, Signal::SIGTERM).map(|()| self.strace.wait())
        {
            eprintln!("strace could not be ended: {error}");
        }
    }
}
