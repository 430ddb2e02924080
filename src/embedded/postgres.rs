//! A private Postgres: one superuser with a random password, TCP on loopback only, small memory.
//!
//! Postgres refuses to run as root, so root starts it as user `postgres` or `nobody`. That user need not be able to
//! reach the directory by its path (it may lie below `/root`): the server inherits the open directory as descriptor 3
//! and reaches everything through it. The lock on that descriptor makes a `postmaster.pid` found at the start stale.

use std::{
    fs,
    io::{self, Write},
    net::Ipv4Addr,
    os::unix::{
        fs::{OpenOptionsExt, PermissionsExt},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use nix::{
    sys::signal::Signal,
    unistd::{Gid, Uid, User},
};

use super::{
    ServerError, failed_to, lock_dir, open_log, port, prepare_dir,
    process::{self, Missed, Process},
    tail_of,
    tools::Tools,
};

const SERVER: &str = "postgres";
const SUPERUSER: &str = "churnd";
/// The data directory as the server sees it.
const DIR_INSIDE: &str = "/proc/self/fd/3";
/// Recovery after a crash takes its time.
const START: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(20);
/// How long an end without a checkpoint may take.
const QUIT: Duration = Duration::from_secs(5);

/// How a private Postgres is to run.
#[derive(Clone, Debug)]
pub struct PgOptions {
    /// Its own directory: cluster, log and password. Created if absent; root gives it to the server's user.
    pub data_dir: PathBuf,
    /// The port; without one a free port is chosen and kept across restarts.
    pub port: Option<u16>,
    /// Sync to disk at each commit, so that what was committed survives a power loss.
    pub durable: bool,
}

impl PgOptions {
    /// A durable server on a free port.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self { data_dir: data_dir.into(), port: None, durable: true }
    }
}

/// A private Postgres. Dropping it ends it at once; the cluster stays.
pub struct Postgres {
    bin: PathBuf,
    dir: PathBuf,
    user: Option<ServerUser>,
    options: PgOptions,
    port: u16,
    password: String,
    process: Mutex<Option<Process>>,
}

/// A killed server leaves its shared memory to the system, which has room for some thousands of such pieces; so it is asked
/// to end at once, and killed only if it does not.
impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(process) = self.lock().take() {
            process.signal_all(Signal::SIGCONT);
            process.signal(Signal::SIGQUIT);
            process.wait(QUIT);
        }
    }
}

/// The user that root runs Postgres as.
#[derive(Clone, Copy)]
struct ServerUser {
    uid: Uid,
    gid: Gid,
}

impl Postgres {
    /// Starts a server and waits until it takes connections; makes the cluster first where there is none.
    pub fn start(tools: &Tools, options: PgOptions) -> Result<Self, ServerError> {
        /// Each time on another port.
        const TRIES: u32 = 5;
        let bin = tools.find_postgres()?;
        let dir = prepare_dir(&options.data_dir)?;
        let user = server_user();
        let (port, process) = (options.port.unwrap_or_default(), Mutex::new(None));
        let mut server = Self { bin, dir, user, options, port, password: String::new(), process };
        server.make_cluster()?;
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

    /// Where clients connect, as the superuser, to the database `postgres`.
    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    /// Where clients connect, as the superuser, to the given database.
    pub fn url_of(&self, database: &str) -> String {
        format!("postgres://{SUPERUSER}:{}@127.0.0.1:{}/{database}", self.password, self.port)
    }

    /// The port that clients connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process id of the postmaster, if it runs.
    pub fn pid(&self) -> Option<i32> {
        self.lock().as_ref().map(|process| process.pid().as_raw())
    }

    /// The server's log.
    pub fn log_path(&self) -> PathBuf {
        self.dir.join("postgres.log")
    }

    /// Ends all of the server's processes at once, as a crash would, and waits until they are gone.
    pub fn kill(&self) {
        drop(self.lock().take());
    }

    /// Shuts down, cutting connections off; kills the server if that takes too long.
    pub fn stop(&self) {
        if let Some(process) = self.lock().take() {
            process.signal_all(Signal::SIGCONT);
            process.signal(Signal::SIGINT);
            process.wait(STOP);
        }
    }

    /// Starts the server again on the same port and cluster, stopping it first if it runs.
    pub fn restart(&self) -> Result<(), ServerError> {
        self.stop();
        self.run()
    }

    /// Halts all of the server's processes: connections stay open, nothing is answered.
    pub fn freeze(&self) {
        if let Some(process) = self.lock().as_ref() {
            process.signal_all(Signal::SIGSTOP);
        }
    }

    /// Lets a frozen server go on.
    pub fn thaw(&self) {
        if let Some(process) = self.lock().as_ref() {
            process.signal_all(Signal::SIGCONT);
        }
    }

    /// Creates a database, empty or as a copy of `template`, to which nobody may be connected.
    pub async fn create_database(&self, name: &str, template: Option<&str>) -> Result<(), ServerError> {
        let copied = template.unwrap_or("template1");
        self.execute(&format!("CREATE DATABASE {} TEMPLATE {}", quoted(name), quoted(copied))).await
    }

    /// The databases there are, templates left out.
    pub async fn databases(&self) -> Result<Vec<String>, ServerError> {
        let statement = "SELECT datname FROM pg_database WHERE NOT datistemplate ORDER BY datname";
        let names = self.ask(statement).await.map_err(|source| refused(statement, source))?;
        Ok(names)
    }

    /// Runs one statement as the superuser, in the database `postgres`.
    pub async fn execute(&self, statement: &str) -> Result<(), ServerError> {
        self.ask(statement).await.map(drop).map_err(|source| refused(statement, source))
    }

    /// Asks one question; the answer is the first column of its rows.
    async fn ask(&self, statement: &str) -> Result<Vec<String>, tokio_postgres::Error> {
        let (client, connection) = tokio_postgres::connect(&self.url(), tokio_postgres::NoTls).await?;
        let question = async move {
            let answer = client.simple_query(statement).await?;
            let rows = answer.iter().filter_map(|message| match message {
                tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
                _ => None,
            });
            Ok(rows.collect())
        };
        // The client lives inside the question, so the connection ends right after it.
        let (answer, _) = futures_util::future::join(question, connection).await;
        answer
    }

    fn lock(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cluster(&self) -> PathBuf {
        self.dir.join("cluster")
    }

    /// Makes the cluster if there is none, aside and renamed at the end, so that there is a whole one or none.
    fn make_cluster(&mut self) -> Result<(), ServerError> {
        self.give_to_server(&self.dir)?;
        let held = lock_dir(&self.dir)?;
        let password_file = self.dir.join("password");
        if self.cluster().is_dir() {
            let text = fs::read_to_string(&password_file).map_err(failed_to("read", &password_file))?;
            text.trim().clone_into(&mut self.password);
            return Ok(());
        }
        self.password = uuid::Uuid::new_v4().simple().to_string();
        write_secret(&password_file, &self.password).map_err(failed_to("write", &password_file))?;
        self.give_to_server(&password_file)?;
        let unfinished = self.dir.join("cluster.new");
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished).map_err(failed_to("remove", &unfinished))?;
        }
        self.run_initdb(held)?;
        fs::rename(&unfinished, self.cluster()).map_err(failed_to("rename", &unfinished))
    }

    fn run_initdb(&self, dir: fs::File) -> Result<(), ServerError> {
        let initdb = self.bin.join("initdb");
        let mut command = self.inside(Command::new("/bin/sh"), &initdb, dir);
        command.args(["--encoding=UTF8", "--locale=C", "--auth=scram-sha-256", "--no-instructions"]);
        command.arg(format!("--username={SUPERUSER}"));
        command.arg(format!("--pgdata={DIR_INSIDE}/cluster.new")).arg(format!("--pwfile={DIR_INSIDE}/password"));
        if !self.options.durable {
            command.arg("--no-sync");
        }
        let log = self.log_path();
        command.stdout(open_log(&log)?).stderr(open_log(&log)?);
        let status = command.status().map_err(failed_to("run", &initdb))?;
        if status.success() {
            return Ok(());
        }
        Err(ServerError::Ended { server: "initdb", status, log: tail_of(&log) })
    }

    fn run(&self) -> Result<(), ServerError> {
        let held = lock_dir(&self.dir)?;
        let stale = self.cluster().join("postmaster.pid");
        if stale.exists() {
            fs::remove_file(&stale).map_err(failed_to("remove", &stale))?;
        }
        let binary = self.bin.join(SERVER);
        let mut command = self.inside(process::mortal(Path::new("/bin/sh"), "INT"), &binary, held);
        command.arg("-D").arg(format!("{DIR_INSIDE}/cluster"));
        for setting in self.settings() {
            command.arg("-c").arg(setting);
        }
        command.stderr(open_log(&self.log_path())?);
        let process = Process::start(command).map_err(failed_to("run", &binary))?;
        self.wait_until_ready(&process)?;
        *self.lock() = Some(process);
        Ok(())
    }

    /// Makes `shell` run `program` as the server's user, with `dir` open as descriptor 3.
    fn inside(&self, mut shell: Command, program: &Path, dir: fs::File) -> Command {
        shell.args(["-c", r#"exec "$@" 3<&0 </dev/null"#, "sh"]).arg(program).current_dir("/");
        shell.stdin(Stdio::from(dir)).env_remove("PGDATA").env("LC_ALL", "C");
        if let Some(user) = self.user {
            shell.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        shell
    }

    fn settings(&self) -> Vec<String> {
        let durable = if self.options.durable { "on" } else { "off" };
        vec![
            format!("port={}", self.port),
            format!("listen_addresses={}", Ipv4Addr::LOCALHOST),
            "unix_socket_directories=".to_owned(),
            "max_connections=100".to_owned(),
            "shared_buffers=64MB".to_owned(),
            "max_wal_size=512MB".to_owned(),
            "huge_pages=off".to_owned(),
            "jit=off".to_owned(),
            "timezone=UTC".to_owned(),
            "log_timezone=UTC".to_owned(),
            format!("fsync={durable}"),
            format!("synchronous_commit={durable}"),
            format!("full_page_writes={durable}"),
        ]
    }

    fn wait_until_ready(&self, process: &Process) -> Result<(), ServerError> {
        let status_file = self.cluster().join("postmaster.pid");
        let ready = || says_ready(&status_file, process.pid().as_raw()).then_some(());
        process.wait_for(START, ready).map_err(|missed| {
            let log = tail_of(&self.log_path());
            match missed {
                Missed::Ended(status) => ServerError::Ended { server: SERVER, status, log },
                Missed::Deadline => ServerError::TimedOut { server: SERVER, what: "answer", within: START, log },
            }
        })
    }

    /// As root: makes the server's user the owner, and nobody else a reader.
    fn give_to_server(&self, path: &Path) -> Result<(), ServerError> {
        let Some(user) = self.user else { return Ok(()) };
        let mode = if path.is_dir() { 0o700 } else { 0o600 };
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed_to("protect", path))?;
        std::os::unix::fs::chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
            .map_err(failed_to("change the owner of", path))
    }
}

/// Whom root runs Postgres as; nobody else can choose.
fn server_user() -> Option<ServerUser> {
    if !Uid::effective().is_root() {
        return None;
    }
    let user = ["postgres", "nobody"].into_iter().find_map(|name| User::from_name(name).ok().flatten())?;
    Some(ServerUser { uid: user.uid, gid: user.gid })
}

/// The status line that `pg_ctl` reads too: the eighth of the file that begins with the process id.
fn says_ready(status_file: &Path, pid: i32) -> bool {
    let Ok(text) = fs::read_to_string(status_file) else { return false };
    let mut lines = text.lines().map(str::trim);
    lines.next() == Some(pid.to_string().as_str()) && lines.nth(6) == Some("ready")
}

fn write_secret(path: &Path, secret: &str) -> io::Result<()> {
    let mut file = fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(secret.as_bytes())
}

/// A name as a quoted SQL identifier.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn refused(statement: &str, source: tokio_postgres::Error) -> ServerError {
    ServerError::Refused { statement: statement.to_owned(), source }
}

fn lost_its_port(error: &ServerError) -> bool {
    matches!(error, ServerError::Ended { log, .. } if log.contains("could not bind"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(dir: &tempfile::TempDir) -> Postgres {
        let tools = Tools::from_env("CHURND_NATS_SERVER", "CHURND_PG_BIN");
        let options = PgOptions { durable: false, ..PgOptions::new(dir.path().join("postgres")) };
        Postgres::start(&tools, options).unwrap()
    }

    #[tokio::test]
    async fn a_killed_server_comes_back_on_its_port_with_what_was_committed() {
        let dir = tempfile::tempdir().unwrap();
        let server = server(&dir);
        server.create_database("kept \"as\" it is", None).await.unwrap();
        let url = server.url();
        server.kill();
        assert_eq!(server.pid(), None);
        assert!(server.cluster().join("postmaster.pid").exists(), "a crash leaves its file");
        server.restart().unwrap();
        assert_eq!(server.url(), url);
        assert_eq!(server.databases().await.unwrap(), ["kept \"as\" it is", "postgres"]);
    }

    #[tokio::test]
    async fn a_dropped_server_leaves_nothing_in_the_system() {
        let dir = tempfile::tempdir().unwrap();
        let server = server(&dir);
        let file = server.cluster().join("postmaster.pid");
        assert!(file.exists());
        server.freeze();
        drop(server);
        assert!(!file.exists(), "it goes last, after the shared memory");
    }

    #[tokio::test]
    async fn another_start_on_the_directory_finds_the_cluster_and_its_password() {
        let dir = tempfile::tempdir().unwrap();
        let first = server(&dir);
        first.create_database("kept", None).await.unwrap();
        first.stop();
        assert!(fs::read_to_string(first.log_path()).unwrap().contains("database system is shut down"));
        let second = server(&dir);
        second.create_database("copied", Some("kept")).await.unwrap();
        assert_eq!(second.databases().await.unwrap(), ["copied", "kept", "postgres"]);
        assert_eq!(second.password, first.password);
    }

    #[tokio::test]
    async fn a_frozen_server_answers_when_thawed() {
        let dir = tempfile::tempdir().unwrap();
        let server = server(&dir);
        server.freeze();
        let mut question = std::pin::pin!(server.databases());
        assert!(tokio::time::timeout(Duration::from_millis(100), &mut question).await.is_err());
        server.thaw();
        assert_eq!(question.await.unwrap(), ["postgres"]);
    }

    #[tokio::test]
    async fn a_wrong_password_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let server = server(&dir);
        let url = server.url().replace(&server.password, "guessed");
        let error = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.err().unwrap();
        assert_eq!(error.code(), Some(&tokio_postgres::error::SqlState::INVALID_PASSWORD));
    }
}
