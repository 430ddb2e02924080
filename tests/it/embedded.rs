//! Private servers when the process that started them is killed.

use std::{
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use churnd::embedded::{
    ServerError,
    nats::{NatsOptions, NatsServer},
    postgres::{PgOptions, Postgres},
};

use crate::support::{Scratch, cluster::tools, eventually};

/// Names the directory to the process that is going to be killed.
const DIR: &str = "CHURND_TEST_DIR";

fn start(dir: &Path) -> Result<(NatsServer, Postgres), ServerError> {
    let nats = NatsServer::start(&tools(), NatsOptions::new(dir.join("nats")))?;
    let postgres = Postgres::start(&tools(), PgOptions::new(dir.join("postgres")))?;
    Ok((nats, postgres))
}

#[tokio::test]
async fn servers_die_with_who_started_them_and_their_data_can_be_used_at_once() {
    let scratch = Scratch::new();
    let mut holder = holder_of(scratch.path());
    let ports = ports_said_by(&mut holder);
    holder.kill().unwrap();
    holder.wait().unwrap();
    // No wait between: the new servers themselves wait for the old ones to leave the directories.
    let (_nats, postgres) = start(scratch.path()).unwrap();
    assert_eq!(postgres.databases().await.unwrap(), ["kept", "postgres"]);
    for port in ports {
        eventually(Duration::from_secs(10), async || match TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
            Ok(_) => Err("a server outlived the process that started it"),
            Err(_) => Ok(()),
        })
        .await;
    }
}

fn holder_of(dir: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["embedded::holds_servers_until_it_is_killed", "--exact", "--ignored", "--nocapture"]);
    command.env(DIR, dir).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
}

fn ports_said_by(holder: &mut Child) -> Vec<u16> {
    let said = BufReader::new(holder.stdout.take().unwrap()).lines().map(Result::unwrap);
    let line = said.into_iter().find_map(|line| line.split_once("ports: ").map(|(_, ports)| ports.to_owned()));
    line.expect("it says its ports").split(' ').map(|port| port.parse().unwrap()).collect()
}

#[tokio::test]
#[ignore = "the test above runs it in a process of its own"]
async fn holds_servers_until_it_is_killed() {
    let dir = PathBuf::from(std::env::var_os(DIR).unwrap());
    let (nats, postgres) = start(&dir).unwrap();
    postgres.create_database("kept", None).await.unwrap();
    println!("ports: {} {}", nats.port(), postgres.port());
    std::io::stdout().flush().unwrap();
    // Ends only if the test above is gone without killing it.
    std::io::stdin().lines().for_each(drop);
}
