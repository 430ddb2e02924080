//! The churnd binary: as a command that ends, and as a daemon to be watched, halted and killed.

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader},
    net::SocketAddr,
    panic::Location,
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use nix::{
    sys::signal::{self, Signal},
    unistd::Pid,
};
use serde_json::Value;

use super::{Cluster, eventually, http};

/// How long a daemon may take until it is ready: it may have to wait for the lease of one that was killed.
const READY: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(30);

/// A churnd that does not start yet.
pub(crate) struct Builder {
    command: Command,
}

/// A running churnd. Dropping it kills it; what it logged is printed when the test fails.
pub(crate) struct Daemon {
    child: Child,
    log: Log,
    address: Option<SocketAddr>,
}

/// The last lines that a daemon logged.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<VecDeque<String>>>);

impl Daemon {
    /// Starts a daemon with all roles on the cluster and waits until it is ready.
    pub(crate) async fn start(cluster: &Cluster, instance: &str) -> Self {
        Self::builder(cluster, instance).start().await
    }

    /// A daemon on the cluster that still takes settings.
    pub(crate) fn builder(cluster: &Cluster, instance: &str) -> Builder {
        Self::builder_of(env!("CARGO_BIN_EXE_churnd"), &["run"], cluster, instance)
    }

    /// A daemon that some other program starts.
    pub(crate) fn builder_of(program: &str, arguments: &[&str], cluster: &Cluster, instance: &str) -> Builder {
        let mut command = Command::new(program);
        command.args(arguments).envs(cluster.settings()).env("CHURND__HTTP__LISTEN", "127.0.0.1:0");
        command.stdin(Stdio::null());
        command.env("CHURND__INSTANCE", instance).env("CHURND__LOG__FORMAT", "json");
        Builder { command }
    }

    /// Where it listens for HTTP.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address.expect("a daemon that is ready listens")
    }

    /// What it logged lately.
    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it says that it listens.
    pub(crate) async fn wait_listening(&mut self) -> SocketAddr {
        let log = self.log.clone();
        let address = eventually(READY, async || {
            if let Some(status) = self.child.try_wait().expect("the child is ours") {
                panic!("churnd ended at its start with {status}");
            }
            let line = log.find("listening").ok_or("it does not listen yet")?;
            line["http"].as_str().and_then(|text| text.parse().ok()).ok_or("its line holds no address")
        })
        .await;
        self.address = Some(address);
        address
    }

    /// Waits until it says that it listens and is ready.
    pub(crate) async fn wait_ready(&mut self) {
        let address = self.wait_listening().await;
        eventually(READY, async || {
            let answer = http::get(address, "/readyz").await.map_err(|error| error.to_string())?;
            if answer.status == 200 { Ok(()) } else { Err(format!("not ready: {} {}", answer.status, answer.text())) }
        })
        .await;
    }

    /// Ends it at once, as a crash would.
    pub(crate) fn kill(&mut self) -> ExitStatus {
        self.child.kill().expect("the child is ours");
        self.child.wait().expect("the child is ours")
    }

    /// Asks it to drain and waits until it ended.
    pub(crate) async fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.ended(STOP).await
    }

    /// How it ended, if it did.
    pub(crate) fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the child is ours")
    }

    /// Waits until it ended by itself.
    pub(crate) async fn ended(&mut self, within: Duration) -> ExitStatus {
        eventually(within, async || self.child.try_wait().expect("the child is ours").ok_or("it still runs")).await
    }

    /// Halts it: its connections stay open, its leases run out.
    pub(crate) fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets a frozen daemon go on.
    pub(crate) fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Sends any signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        signal::kill(pid, signal).expect("the daemon runs");
    }
}

impl Builder {
    /// Adds a setting: `CHURND__SECTION__KEY`, or any other variable.
    pub(crate) fn setting(mut self, name: &str, value: impl AsRef<str>) -> Self {
        self.command.env(name, value.as_ref());
        self
    }

    /// Gives it something else than nothing as its standard input.
    pub(crate) fn with_input(mut self, input: impl Into<Stdio>) -> Self {
        self.command.stdin(input);
        self
    }

    /// Starts it and waits until it is ready.
    pub(crate) async fn start(self) -> Daemon {
        let mut daemon = self.spawn();
        daemon.wait_ready().await;
        daemon
    }

    /// Starts it and waits for nothing.
    pub(crate) fn spawn(mut self) -> Daemon {
        self.command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = self.command.spawn().expect("the binary is there");
        let log = Log::default();
        log.follow(child.stderr.take().expect("stderr is piped"));
        Daemon { child, log, address: None }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.child.kill().is_ok() && self.child.wait().is_err() {
            eprintln!("churnd {} could not be waited for", self.child.id());
        }
        if thread::panicking() {
            eprintln!("--- the last lines of churnd {}:\n{}", self.child.id(), self.log.text());
        }
    }
}

impl Log {
    /// How many lines are kept.
    const LINES: usize = 20_000;

    fn follow(&self, stderr: ChildStderr) {
        let log = self.clone();
        thread::spawn(move || {
            for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
                let mut lines = log.0.lock().unwrap();
                if lines.len() == Self::LINES {
                    lines.pop_front();
                }
                lines.push_back(String::from_utf8_lossy(&line).into_owned());
            }
        });
    }

    /// The newest line with that message.
    pub(crate) fn find(&self, message: &str) -> Option<Value> {
        self.all(message).pop()
    }

    /// All lines with that message, the oldest first.
    pub(crate) fn all(&self, message: &str) -> Vec<Value> {
        let lines = self.0.lock().unwrap();
        let parsed = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        parsed.filter(|line| line["message"] == message).collect()
    }

    /// All lines as they came.
    pub(crate) fn text(&self) -> String {
        let lines = self.0.lock().unwrap();
        lines.iter().map(|line| format!("{line}\n")).collect()
    }
}

/// Runs a churnd command to its end and gives what it printed; it must succeed.
#[track_caller]
pub(crate) fn command(arguments: &[&str], settings: Vec<(String, String)>) -> impl Future<Output = String> {
    let caller = Location::caller();
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_churnd"));
    command.args(arguments).envs(settings).stdin(Stdio::null()).kill_on_drop(true);
    let shown = arguments.join(" ");
    async move {
        let output = tokio::time::timeout(Duration::from_secs(120), command.output());
        let output = output.await.expect("churnd ends in time").expect("the binary is there");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "`churnd {shown}` ({caller}) ended with {}:\n{said}", output.status);
        String::from_utf8(output.stdout).expect("churnd prints text")
    }
}

/// Drives a connection until its client is dropped.
#[expect(clippy::disallowed_methods, reason = "it ends with the client; the test's runtime ends what is left")]
pub(crate) fn in_background<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) {
    drop(tokio::spawn(work));
}
