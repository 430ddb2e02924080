//! HTTP over TLS: a certificate is replaced without a restart, a bad one changes nothing, and the drain works as without.

use std::{path::Path, sync::Arc, time::Duration};

use nix::sys::signal::Signal;
use rustls::{ClientConfig, RootCertStore, pki_types::CertificateDer};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::support::{Cluster, daemon::Daemon, eventually};

const SOON: Duration = Duration::from_secs(30);

/// Makes a certificate and its key in a directory.
pub(crate) fn write_pair(dir: &Path) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(dir.join("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(dir.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    made.cert.der().clone()
}

async fn connect(daemon: &Daemon, root: &CertificateDer<'static>) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).unwrap();
    let client = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(daemon.address()).await?;
    TlsConnector::from(Arc::new(client)).connect("localhost".try_into().unwrap(), stream).await
}

pub(crate) async fn get(daemon: &Daemon, root: &CertificateDer<'static>, path: &str) -> Result<String, String> {
    let mut stream = connect(daemon, root).await.map_err(|error| error.to_string())?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.map_err(|error| error.to_string())?;
    Ok(answer)
}

async fn reload(daemon: &Daemon, said: &str) -> String {
    let lines =
        || daemon.log().text().lines().filter(|line| line.contains(said)).map(str::to_owned).collect::<Vec<_>>();
    let before = lines().len();
    daemon.signal(Signal::SIGHUP);
    eventually(SOON, async || lines().into_iter().nth(before).ok_or("no word yet")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_replaced_while_running() {
    let cluster = Cluster::start().await;
    let dir = cluster.dir();
    let first = write_pair(dir);
    let mut daemon = Daemon::builder(&cluster, "one")
        .setting("CHURND__ROLES", "bridge")
        .setting("CHURND__HTTP__TLS_CERTIFICATE_FILE", dir.join("cert.pem").to_str().unwrap())
        .setting("CHURND__HTTP__TLS_KEY_FILE", dir.join("key.pem").to_str().unwrap())
        .spawn();
    daemon.wait_listening().await;
    let ready = async || {
        get(&daemon, &first, "/readyz")
            .await
            .and_then(|answer| if answer.starts_with("HTTP/1.1 200 ") { Ok(()) } else { Err(answer) })
    };
    eventually(SOON, ready).await;
    let metrics = get(&daemon, &first, "/metrics").await.unwrap();
    assert!(metrics.contains("churnd_tls_certificate_expiry_timestamp_seconds{purpose=\"http\"} "), "{metrics}");

    std::fs::write(dir.join("cert.pem"), "nothing").unwrap();
    let said = reload(&daemon, "not reloaded").await;
    assert!(
        said.contains("http.tls_certificate_file is ") && said.contains("the certificate in force stays"),
        "{said}"
    );
    get(&daemon, &first, "/livez").await.unwrap();

    let mut standing = connect(&daemon, &first).await.unwrap();
    let second = write_pair(dir);
    reload(&daemon, "\"reloaded\"").await;
    assert!(get(&daemon, &first, "/livez").await.is_err(), "the first certificate is gone");
    assert!(get(&daemon, &second, "/livez").await.unwrap().starts_with("HTTP/1.1 200 "));

    daemon.signal(Signal::SIGTERM);
    standing.read_to_end(&mut Vec::new()).await.unwrap();
    assert!(daemon.ended(SOON).await.success());
}

/// A daemon on a socket that somebody else holds, as systemd does it.
fn on_socket(cluster: &Cluster, socket: &std::net::TcpListener) -> Daemon {
    let churnd = env!("CARGO_BIN_EXE_churnd");
    let script = format!("exec 3<&0 0</dev/null; exec env LISTEN_FDS=1 LISTEN_PID=$$ {churnd} run --roles bridge");
    let dir = cluster.dir();
    Daemon::builder_of("sh", &["-c", &script], cluster, "one")
        .setting("CHURND__HTTP__TLS_CERTIFICATE_FILE", dir.join("cert.pem").to_str().unwrap())
        .setting("CHURND__HTTP__TLS_KEY_FILE", dir.join("key.pem").to_str().unwrap())
        .with_input(std::os::fd::OwnedFd::from(socket.try_clone().unwrap()))
        .spawn()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_is_passed_in_refuses_nobody_over_a_restart() {
    let cluster = Cluster::start().await;
    let root = write_pair(cluster.dir());
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut daemon = on_socket(&cluster, &socket);
    assert_eq!(daemon.wait_listening().await, socket.local_addr().unwrap());
    eventually(SOON, async || get(&daemon, &root, "/livez").await.map(|_| ())).await;
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.ended(SOON).await.success());
    // Nobody serves now; who comes meanwhile waits for the next daemon.
    let waiting = get(&daemon, &root, "/livez");
    let next = async {
        let mut next = on_socket(&cluster, &socket);
        next.wait_listening().await;
        next
    };
    let (answer, _next) = tokio::join!(waiting, next);
    assert!(answer.unwrap().starts_with("HTTP/1.1 200 "));
}
