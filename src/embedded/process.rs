//! A child process that dies with us, and whose end is an event.
//!
//! The child is the first of a process group of its own, so that the terminal's Ctrl-C reaches only us. Where `setpriv`
//! is found, the kernel signals the child when we die. The child's standard output is a pipe that nobody writes to: it
//! closes when the last process of the server is gone, also those that the server forked.

use std::{
    fs,
    io::{self, Read},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::{
        signal::{self, Signal},
        wait::{Id, WaitPidFlag, waitid},
    },
    unistd::Pid,
};

/// A running or ended child with all it forked.
pub(super) struct Process {
    pid: Pid,
    end: Arc<End>,
}

/// How the process ended, once it did.
#[derive(Default)]
struct End {
    status: Mutex<Option<ExitStatus>>,
    came: Condvar,
}

/// Why a wait ended without what was waited for.
pub(super) enum Missed {
    /// The process is gone.
    Ended(ExitStatus),
    /// The deadline passed.
    Deadline,
}

impl Process {
    /// Starts `command`, whose standard output must not be of any use.
    pub(super) fn start(mut command: Command) -> io::Result<Self> {
        command.stdout(Stdio::piped()).process_group(0);
        let child = spawn_on_lasting_thread(command)?;
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("a process id fits i32"));
        let end = Arc::new(End::default());
        let watched = Arc::clone(&end);
        thread::Builder::new().name("server-watch".to_owned()).spawn(move || watched.watch(child, pid))?;
        Ok(Self { pid, end })
    }

    /// The process id.
    pub(super) fn pid(&self) -> Pid {
        self.pid
    }

    /// Sends a signal; a process that has ended gets none.
    pub(super) fn signal(&self, signal: Signal) {
        let status = self.end.lock();
        if status.is_none() {
            // The watcher reaps under the same lock, so the id cannot have passed to another process.
            if let Err(error) = signal::kill(self.pid, signal) {
                tracing::warn!(pid = self.pid.as_raw(), "{signal} was not delivered: {error}");
            }
        }
    }

    /// Sends a signal to the process and to those it forked. The process is halted meanwhile, so that it neither forks
    /// nor reaps: the ids found are those of its children.
    pub(super) fn signal_all(&self, signal: Signal) {
        let status = self.end.lock();
        if status.is_some() {
            return;
        }
        let send = |pid, signal| match signal::kill(pid, signal) {
            Ok(()) | Err(nix::errno::Errno::ESRCH) => {}
            Err(error) => tracing::warn!(pid = pid.as_raw(), "{signal} was not delivered: {error}"),
        };
        send(self.pid, Signal::SIGSTOP);
        for child in children_of(self.pid) {
            send(child, signal);
        }
        send(self.pid, signal);
    }

    /// Halts the process and waits until none of its threads runs any more.
    pub(super) fn halt(&self) {
        const AT_MOST: Duration = Duration::from_secs(5);
        self.signal(Signal::SIGSTOP);
        let halted = self.wait_for(AT_MOST, || is_halted(self.pid).then_some(()));
        if halted.is_err() {
            tracing::warn!(pid = self.pid.as_raw(), "the process did not halt in time");
        }
    }

    /// Looks with `probe` again and again until it finds something, the process ends or the time is up.
    pub(super) fn wait_for<T>(&self, within: Duration, mut probe: impl FnMut() -> Option<T>) -> Result<T, Missed> {
        /// Between two looks.
        const TICK: Duration = Duration::from_millis(4);
        let deadline = Instant::now() + within;
        loop {
            if let Some(found) = probe() {
                return Ok(found);
            }
            let (status, _) = self.end.came.wait_timeout(self.end.lock(), TICK).unwrap_or_else(PoisonError::into_inner);
            if let Some(status) = *status {
                return Err(Missed::Ended(status));
            }
            if Instant::now() >= deadline {
                return Err(Missed::Deadline);
            }
        }
    }

    /// Waits until all processes of the server are gone.
    pub(super) fn wait(&self, within: Duration) -> Option<ExitStatus> {
        let (status, _) = self
            .end
            .came
            .wait_timeout_while(self.end.lock(), within, |status| status.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        *status
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal_all(Signal::SIGKILL);
        if self.wait(Duration::from_secs(10)).is_none() {
            tracing::warn!(pid = self.pid.as_raw(), "a killed server is still there");
        }
    }
}

impl End {
    fn lock(&self) -> MutexGuard<'_, Option<ExitStatus>> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watch(&self, mut child: Child, pid: Pid) {
        if let Some(mut output) = child.stdout.take()
            && let Err(error) = output.read_to_end(&mut Vec::new())
        {
            tracing::warn!(pid = pid.as_raw(), "the server's pipe broke: {error}");
        }
        if let Err(error) = waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) {
            tracing::warn!(pid = pid.as_raw(), "cannot wait for the server: {error}");
        }
        let mut status = self.lock();
        *status = Some(child.wait().unwrap_or_default());
        self.came.notify_all();
    }
}

/// The processes that `pid` forked and that have not ended. None where the system does not list them.
fn children_of(pid: Pid) -> Vec<Pid> {
    let listed = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    listed.split_whitespace().filter_map(|child| child.parse().ok()).map(Pid::from_raw).collect()
}

/// All threads of a process are stopped, or it is gone.
fn is_halted(pid: Pid) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return true };
    threads.flatten().all(|thread| {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        // The state follows the name, which may itself hold brackets.
        stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['T', 'Z', 'X']))
    })
}

/// Spawns on a thread that lives as long as this process. The kernel sends the signal of the parent's death when the
/// *thread* ends that spawned, and the threads of a runtime's blocking pool end after some idle seconds.
fn spawn_on_lasting_thread(mut command: Command) -> io::Result<Child> {
    type Job = (Command, mpsc::SyncSender<io::Result<Child>>);
    static SPAWNER: OnceLock<mpsc::SyncSender<Job>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (jobs, queue) = mpsc::sync_channel::<Job>(16);
        let serve = move || {
            for (mut command, reply) in queue {
                // Nobody waits for the answer any more: then nobody wants the child either, and its pipe is closed.
                drop(reply.send(command.spawn()));
            }
        };
        if let Err(error) = thread::Builder::new().name("server-spawn".to_owned()).spawn(serve) {
            tracing::warn!("no thread to spawn servers on: {error}");
        }
        jobs
    });
    command.stdout(Stdio::piped());
    let (reply, answer) = mpsc::sync_channel(1);
    let gone = || io::Error::other("the thread that spawns servers is gone");
    spawner.send((command, reply)).map_err(|_| gone())?;
    answer.recv().map_err(|_| gone())?
}

/// A command that runs `program` such that it gets `signal` when we die, where the system can do that.
pub(super) fn mortal(program: &Path, signal: &str) -> Command {
    match setpriv() {
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", signal, "--"]).arg(program);
            command
        }
        None => Command::new(program),
    }
}

/// util-linux' `setpriv`, if it is there and knows the signal of the parent's death (busybox' does not).
fn setpriv() -> Option<&'static Path> {
    static SETPRIV: OnceLock<Option<PathBuf>> = OnceLock::new();
    let find = || {
        let path = ["/usr/bin/setpriv", "/bin/setpriv"].map(Path::new).into_iter().find(|path| path.is_file())?;
        let mut trial = Command::new(path);
        trial.args(["--pdeathsig", "KILL", "--", "true"]).stdin(Stdio::null()).stdout(Stdio::null());
        trial.stderr(Stdio::null()).status().is_ok_and(|status| status.success()).then(|| path.to_owned())
    };
    SETPRIV.get_or_init(find).as_deref()
}
