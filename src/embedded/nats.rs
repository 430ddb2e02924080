//! A private `nats-server`: loopback only, JetStream in files, no monitoring port.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use nix::sys::signal::Signal;

use super::{
    ServerError, failed_to, lock_dir, open_log, port, prepare_dir,
    process::{self, Missed, Process},
    tail_of,
    tools::Tools,
};

const SERVER: &str = "nats-server";
/// Streams reserve their limits when they are created; by default a server has no more than part of the free disk to give.
const MOST_STORED: &str = "16GB";
const START: Duration = Duration::from_secs(30);
const STOP: Duration = Duration::from_secs(15);

/// How a private `nats-server` is to run.
#[derive(Clone, Debug)]
pub struct NatsOptions {
    /// Its own directory: configuration, log and store. Created if absent.
    pub data_dir: PathBuf,
    /// The port; without one a free port is chosen and kept across restarts.
    pub port: Option<u16>,
    /// The server's name; without one it is made from the port. Must be unique in a cluster.
    pub name: Option<String>,
    /// Sync each write to disk before it is acknowledged: what is acknowledged survives a power loss.
    pub sync_always: bool,
    /// Further lines of configuration, such as users, limits or a cluster.
    pub extra: String,
}

impl NatsOptions {
    /// A server on a free port, without accounts, that syncs to disk now and then.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self { data_dir: data_dir.into(), port: None, name: None, sync_always: false, extra: String::new() }
    }
}

/// A private `nats-server`. Dropping it kills it; the store stays.
pub struct NatsServer {
    binary: PathBuf,
    dir: PathBuf,
    options: NatsOptions,
    port: u16,
    process: Mutex<Option<Process>>,
}

impl NatsServer {
    /// Starts a server and waits until it answers.
    pub fn start(tools: &Tools, options: NatsOptions) -> Result<Self, ServerError> {
        /// Each time on another port.
        const TRIES: u32 = 5;
        let binary = tools.find_nats_server()?;
        let dir = prepare_dir(&options.data_dir)?;
        let process = Mutex::new(None);
        let mut server = Self { binary, dir, port: options.port.unwrap_or_default(), options, process };
        for attempt in 1.. {
            if server.options.port.is_none() {
                server.port = port::free();
            }
            match server.run() {
                Ok(()) => break,
                Err(error) if attempt < TRIES && server.options.port.is_none() && lost_its_port(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(server)
    }

    /// Where clients connect.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// The port that clients connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The server's process, if it runs.
    pub fn pid(&self) -> Option<i32> {
        self.lock().as_ref().map(|process| process.pid().as_raw())
    }

    /// The server's log.
    pub fn log_path(&self) -> PathBuf {
        self.dir.join("nats.log")
    }

    /// The directory that holds the streams.
    pub fn store_dir(&self) -> PathBuf {
        self.dir.join("jetstream")
    }

    /// Ends the server at once, as a crash would, and waits until it is gone.
    pub fn kill(&self) {
        drop(self.lock().take());
    }

    /// Lets the server end by itself; kills it if that takes too long.
    pub fn stop(&self) {
        if let Some(process) = self.lock().take() {
            process.signal(Signal::SIGCONT);
            process.signal(Signal::SIGTERM);
            process.wait(STOP);
        }
    }

    /// Starts the server again on the same port and store, stopping it first if it runs.
    pub fn restart(&self) -> Result<(), ServerError> {
        self.stop();
        self.run()
    }

    /// Halts the server: it keeps its connections and answers nothing.
    pub fn freeze(&self) {
        if let Some(process) = self.lock().as_ref() {
            process.halt();
        }
    }

    /// Lets a frozen server go on.
    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Makes the server read its configuration again.
    pub fn reload(&self) {
        self.signal(Signal::SIGHUP);
    }

    fn signal(&self, signal: Signal) {
        if let Some(process) = self.lock().as_ref() {
            process.signal(signal);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn name(&self) -> String {
        self.options.name.clone().unwrap_or_else(|| format!("private-{}", self.port))
    }

    fn run(&self) -> Result<(), ServerError> {
        let held = lock_dir(&self.dir)?;
        let config = self.dir.join("nats.conf");
        fs::write(&config, self.configuration()).map_err(failed_to("write", &config))?;
        let mut command = process::mortal(&self.binary, "KILL");
        command.arg("--config").arg(&config).current_dir("/").stdin(held);
        command.stderr(open_log(&self.log_path())?);
        let process = Process::start(command).map_err(failed_to("run", &self.binary))?;
        self.wait_until_ready(&process)?;
        *self.lock() = Some(process);
        Ok(())
    }

    fn wait_until_ready(&self, process: &Process) -> Result<(), ServerError> {
        let name = self.name();
        process.wait_for(START, || greets_as(self.port, &name).then_some(())).map_err(|missed| match missed {
            Missed::Ended(status) => ServerError::Ended { server: SERVER, status, log: tail_of(&self.log_path()) },
            Missed::Deadline => {
                ServerError::TimedOut { server: SERVER, what: "answer", within: START, log: tail_of(&self.log_path()) }
            }
        })
    }

    fn configuration(&self) -> String {
        let sync = if self.options.sync_always { "always" } else { "2m" };
        format!(
            "server_name: {name}\nlisten: \"127.0.0.1:{port}\"\n\
             jetstream {{\n  store_dir: {store}\n  max_file_store: {MOST_STORED}\n  sync_interval: {sync}\n}}\n{extra}\n",
            name = quoted(&self.name()),
            port = self.port,
            store = quoted(&self.store_dir().display().to_string()),
            extra = self.options.extra,
        )
    }
}

/// A text as a double-quoted string of the server's configuration language.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The server sends its INFO by itself once it takes clients; JetStream is up by then. The name tells our server from a
/// stranger that took the port.
fn greets_as(port: u16, name: &str) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let Ok(connection) = TcpStream::connect_timeout(&address, Duration::from_secs(1)) else { return false };
    if connection.set_read_timeout(Some(Duration::from_secs(2))).is_err() {
        return false;
    }
    let mut line = String::new();
    if BufReader::new(connection).read_line(&mut line).is_err() {
        return false;
    }
    let Some(info) = line.strip_prefix("INFO ") else { return false };
    let Ok(info) = serde_json::from_str::<serde_json::Value>(info) else { return false };
    info["server_name"] == name && info["jetstream"] == true
}

fn lost_its_port(error: &ServerError) -> bool {
    matches!(error, ServerError::Ended { log, .. } if log.contains("address already in use"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::IntoFuture;

    use async_nats::jetstream;

    fn server(dir: &tempfile::TempDir) -> NatsServer {
        let tools = Tools::from_env("CHURND_NATS_SERVER", "CHURND_PG_BIN");
        NatsServer::start(&tools, NatsOptions::new(dir.path().join("nats"))).unwrap()
    }

    async fn stream(server: &NatsServer) -> (jetstream::Context, jetstream::stream::Stream) {
        let client = async_nats::connect(server.url()).await.unwrap();
        let jetstream = jetstream::new(client);
        let config = jetstream::stream::Config { name: "KEPT".into(), subjects: vec!["kept".into()], ..<_>::default() };
        let stream = jetstream.get_or_create_stream(config).await.unwrap();
        (jetstream, stream)
    }

    #[tokio::test]
    async fn a_killed_server_comes_back_on_its_port_with_its_messages() {
        let dir = tempfile::tempdir().unwrap();
        let server = server(&dir);
        let (jetstream, _) = stream(&server).await;
        jetstream.publish("kept", "one".into()).await.unwrap().await.unwrap();
        let port = server.port();
        server.kill();
        assert_eq!(server.pid(), None);
        assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err());
        server.restart().unwrap();
        assert_eq!(server.port(), port);
        let (_, mut stream) = stream(&server).await;
        assert_eq!(stream.info().await.unwrap().state.messages, 1);
    }

    #[tokio::test]
    async fn a_stopped_server_ends_by_itself_and_a_frozen_one_goes_on_when_thawed() {
        let dir = tempfile::tempdir().unwrap();
        let server = server(&dir);
        let (jetstream, _) = stream(&server).await;
        server.freeze();
        let answer = jetstream.publish("kept", "frozen".into()).await.unwrap().into_future();
        let mut answer = std::pin::pin!(answer);
        assert!(tokio::time::timeout(Duration::from_millis(100), &mut answer).await.is_err());
        server.thaw();
        assert_eq!(answer.await.unwrap().sequence, 1);
        server.stop();
        assert!(fs::read_to_string(server.log_path()).unwrap().contains("Server Exiting"));
    }

    #[test]
    fn a_second_server_waits_for_the_first_to_leave_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let first = server(&dir);
        let second = std::thread::scope(|scope| {
            let second = scope.spawn(|| server(&dir));
            first.kill();
            second.join().unwrap()
        });
        assert!(second.pid().is_some());
    }

    #[test]
    fn a_server_that_cannot_start_shows_the_end_of_its_log() {
        let dir = tempfile::tempdir().unwrap();
        let tools = Tools::from_env("CHURND_NATS_SERVER", "CHURND_PG_BIN");
        let options = NatsOptions { extra: "no_such_setting: 1".into(), ..NatsOptions::new(dir.path()) };
        let error = NatsServer::start(&tools, options).err().unwrap().to_string();
        assert!(error.contains("no_such_setting"), "{error}");
    }
}
