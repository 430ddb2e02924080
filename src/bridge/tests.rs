//! The server and the routes for operators, over real sockets.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, extract::ConnectInfo, routing::get};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Notify,
    task::JoinHandle,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Config,
    client_address::{ClientAddress, TrustedProxies},
    health::{Check, Operations},
    router,
    server::Server,
};
use crate::{event::time::Timestamp, telemetry::metrics::Metrics};

struct Running {
    address: SocketAddr,
    stop: CancellationToken,
    hard: CancellationToken,
    serving: JoinHandle<()>,
}

fn config() -> Config {
    Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        header_read_timeout_seconds: 1,
        body_read_timeout_seconds: 1,
        max_connections: 8,
        max_connections_per_client: 8,
        max_head_bytes: 8_192,
        max_headers: 100,
        trusted_proxies: TrustedProxies::default(),
        public_url: None,
        tls_certificate_file: None,
        tls_key_file: None,
    }
}

async fn serve(routes: Router) -> Running {
    serve_as(config(), routes).await
}

async fn serve_as(config: Config, routes: Router) -> Running {
    let certificates = config.certificates().unwrap();
    let server = Server::bind(config, certificates, Metrics::new(Timestamp::from_seconds(0))).await.unwrap();
    let (stop, hard) = (CancellationToken::new(), CancellationToken::new());
    let address = server.address();
    let serving = TaskTracker::new().spawn(server.serve(
        router::complete(routes, &Metrics::new(Timestamp::from_seconds(0))),
        stop.clone(),
        hard.clone(),
    ));
    Running { address, stop, hard, serving }
}

fn operations(checks: Vec<Check>) -> Router {
    Operations::new(Metrics::new(Timestamp::from_seconds(0)), checks).routes()
}

async fn exchange(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn get_path(address: SocketAddr, path: &str) -> String {
    exchange(address, &format!("GET {path} HTTP/1.1\r\nhost: churnd\r\nconnection: close\r\n\r\n")).await
}

#[tokio::test]
async fn operators_routes_answer() {
    let running = serve(operations(Vec::new())).await;
    assert!(get_path(running.address, "/livez").await.starts_with("HTTP/1.1 200 OK\r\n"));
    let health = get_path(running.address, "/health").await;
    assert!(health.contains(r#"{"status":"ok","version":""#) && health.contains(r#","uptimeSeconds":0}"#), "{health}");
    let metrics = get_path(running.address, "/metrics").await;
    assert!(metrics.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"));
    assert!(metrics.ends_with("# EOF\n"));
}

#[tokio::test]
async fn readiness_names_the_failing_check_and_its_reason() {
    let soft = CancellationToken::new();
    let checks = vec![
        Check::not_stopping(soft.clone()),
        Check::new("nats", || async { Err("no connection to 127.0.0.1:4222".to_owned()) }),
        Check::immediate("restore", || Ok(())),
    ];
    let running = serve(operations(checks)).await;
    let answer = get_path(running.address, "/readyz").await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    let expected =
        r#"{"name":"nats","ok":false,"reason":"no connection to 127.0.0.1:4222"},{"name":"restore","ok":true}"#;
    assert!(answer.contains(expected), "{answer}");
    assert!(answer.contains(r#"{"name":"lifecycle","ok":true}"#), "{answer}");
    soft.cancel();
    assert!(
        get_path(running.address, "/readyz").await.contains(r#"{"name":"lifecycle","ok":false,"reason":"stopping"}"#)
    );
}

#[tokio::test(start_paused = true)]
async fn check_that_hangs_has_failed() {
    let running = serve(operations(vec![Check::new("postgres", std::future::pending)])).await;
    assert!(get_path(running.address, "/readyz").await.contains("no answer within 2 s"));
}

#[tokio::test]
async fn unknown_paths_and_methods_are_problems() {
    let running = serve(operations(Vec::new())).await;
    let answer = get_path(running.address, "/nowhere").await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    assert!(answer.contains("content-type: application/problem+json\r\n"), "{answer}");
    let body = r#"{"type":"about:blank","title":"Not Found","status":404,"code":"not_found","detail":"there is nothing at /nowhere"}"#;
    assert!(answer.ends_with(body), "{answer}");
    let request = "POST /livez HTTP/1.1\r\nhost: churnd\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    let answer = exchange(running.address, request).await;
    assert!(answer.starts_with("HTTP/1.1 405 ") && answer.contains(r#""code":"method_not_allowed""#), "{answer}");
    assert!(answer.contains("allow: GET,HEAD\r\n"), "{answer}");
}

#[tokio::test]
async fn requests_carry_the_peers_address() {
    let routes = Router::new()
        .route("/", get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.ip().to_string() }));
    let running = serve(routes).await;
    assert!(get_path(running.address, "/").await.ends_with("127.0.0.1"));
}

#[tokio::test]
async fn slow_heads_and_idle_connections_are_cut_off() {
    let running = serve(operations(Vec::new())).await;
    let cut = |request: &'static str| async move {
        let answer = timeout(Duration::from_secs(10), exchange(running.address, request)).await;
        answer.expect("the server must close the connection by itself")
    };
    cut("GET /livez HTTP/1.1\r\nhost: chur").await;
    cut("").await;
    assert!(cut("GET /livez HTTP/1.1\r\nhost: churnd\r\n\r\n").await.ends_with("ok\n"));
}

#[tokio::test]
async fn stop_finishes_the_request_in_hand_and_closes_idle_connections() {
    let (arrived, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (arriving, waiting) = (Arc::clone(&arrived), Arc::clone(&go_on));
    let slow = move || async move {
        arriving.notify_one();
        waiting.notified().await;
        "done"
    };
    let running = serve(Router::new().route("/slow", get(slow))).await;
    let mut idle = TcpStream::connect(running.address).await.unwrap();
    let asking = TaskTracker::new().spawn(async move { get_path(running.address, "/slow").await });
    arrived.notified().await;
    running.stop.cancel();
    idle.read_to_end(&mut Vec::new()).await.unwrap();
    assert!(!running.serving.is_finished());
    go_on.notify_one();
    assert!(asking.await.unwrap().ends_with("done"));
    running.serving.await.unwrap();
    assert!(TcpStream::connect(running.address).await.is_err());
}

#[tokio::test]
async fn hard_stop_does_not_wait() {
    let arrived = Arc::new(Notify::new());
    let arriving = Arc::clone(&arrived);
    let stuck = move || async move {
        arriving.notify_one();
        std::future::pending::<&'static str>().await
    };
    let running = serve(Router::new().route("/stuck", get(stuck))).await;
    let asking = TaskTracker::new().spawn(async move { get_path(running.address, "/stuck").await });
    arrived.notified().await;
    running.stop.cancel();
    running.hard.cancel();
    running.serving.await.unwrap();
    asking.abort();
}

#[tokio::test]
async fn ambiguous_requests_get_400_after_earlier_answers_and_nothing_behind_them() {
    let running = serve(operations(Vec::new())).await;
    let good = "GET /livez HTTP/1.1\r\nhost: churnd\r\n\r\n";
    for bad in [
        "POST /livez HTTP/1.1\r\nhost: churnd\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /livez HTTP/1.1\r\nhost: churnd\r\ntransfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n",
        "GET /livez HTTP/1.1\r\n\r\n",
        "GET /livez HTTP/1.1\r\nhost: churnd\r\nx : y\r\n\r\n",
        "GET /livez HTTP/1.1\nhost: churnd\n\n",
        "GET /livez\r\n\r\n",
        "\0",
    ] {
        let answer = exchange(running.address, &format!("{good}{bad}{good}")).await;
        let lines: Vec<&str> = answer.lines().filter(|line| line.starts_with("HTTP/1.1 ")).collect();
        assert_eq!(lines, ["HTTP/1.1 200 OK", "HTTP/1.1 400 Bad Request"], "{bad:?}: {answer}");
    }
}

#[tokio::test]
async fn chunks_that_cannot_be_read_end_the_connection() {
    let take = |body: axum::body::Bytes| async move { body.len().to_string() };
    let running = serve(Router::new().route("/", axum::routing::post(take))).await;
    let head = "POST / HTTP/1.1\r\nhost: churnd\r\ntransfer-encoding: chunked\r\n\r\n";
    let next = "POST / HTTP/1.1\r\nhost: churnd\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    let answer = exchange(running.address, &format!("{head}5\r\nhello\r\n0\r\n\r\n{next}")).await;
    assert!(answer.matches("HTTP/1.1 200 OK").count() == 2 && answer.ends_with('0'), "{answer}");
    for body in ["5\r\nhello0\r\n\r\n", "+5\r\nhello\r\n0\r\n\r\n", "5\nhello\r\n0\r\n\r\n", "0\r\nhost: b\r\n\r\n"] {
        let answer = exchange(running.address, &format!("{head}{body}{next}")).await;
        assert!(!answer.contains("200 OK") && answer.matches("HTTP/1.1 ").count() <= 1, "{body:?}: {answer}");
    }
}

#[tokio::test]
async fn heads_that_are_too_large_or_have_too_many_headers_are_told_so() {
    let running = serve_as(Config { max_headers: 20, ..config() }, operations(Vec::new())).await;
    let large = format!("x: {}\r\n", "y".repeat(8_192));
    let many = "x: y\r\n".repeat(20);
    for lines in [large, many] {
        let answer = exchange(running.address, &format!("GET /livez HTTP/1.1\r\nhost: churnd\r\n{lines}\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }
}

#[tokio::test]
async fn a_client_gets_so_many_connections_and_no_more() {
    let running = serve_as(Config { max_connections_per_client: 2, ..config() }, operations(Vec::new())).await;
    let mut one = TcpStream::connect(running.address).await.unwrap();
    let two = TcpStream::connect(running.address).await.unwrap();
    let mut told = String::new();
    TcpStream::connect(running.address).await.unwrap().read_to_string(&mut told).await.unwrap();
    let (head, body) = told.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 429 ") && head.contains("retry-after: 1"), "{told}");
    assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{told}");
    let problem: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(problem["code"], "too_many_connections");
    one.write_all(b"GET /livez HTTP/1.1\r\nhost: churnd\r\n\r\n").await.unwrap();
    one.read_exact(&mut [0; 16]).await.unwrap();
    drop((one, two));
    let free = async {
        while !get_path(running.address, "/livez").await.starts_with("HTTP/1.1 200 ") {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(10), free).await.unwrap();
}

#[tokio::test]
async fn the_clients_address_comes_through_trusted_proxies_only() {
    let told = |client: axum::Extension<ClientAddress>| async move { client.0.0.to_string() };
    let request = "GET / HTTP/1.1\r\nhost: churnd\r\nx-forwarded-for: 198.51.100.7\r\nconnection: close\r\n\r\n";
    let trusting: TrustedProxies = serde_json::from_str(r#"["127.0.0.0/8"]"#).unwrap();
    for (trusted_proxies, client) in [(TrustedProxies::default(), "127.0.0.1"), (trusting, "198.51.100.7")] {
        let running = serve_as(Config { trusted_proxies, ..config() }, Router::new().route("/", get(told))).await;
        assert!(exchange(running.address, request).await.ends_with(client));
    }
}

mod tls {
    //! The same server, spoken to over TLS.

    use std::{path::Path, sync::Arc};

    use rustls::{ClientConfig, RootCertStore, pki_types::CertificateDer};
    use tokio_rustls::{TlsConnector, client::TlsStream};

    use super::*;

    fn write_pair(dir: &Path) -> CertificateDer<'static> {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(dir.join("cert.pem"), made.cert.pem()).unwrap();
        std::fs::write(dir.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        made.cert.der().clone()
    }

    fn tls_config(dir: &Path) -> Config {
        Config { tls_certificate_file: Some(dir.join("cert.pem")), tls_key_file: Some(dir.join("key.pem")), ..config() }
    }

    async fn connect(address: SocketAddr, root: &CertificateDer<'static>) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(root.clone()).unwrap();
        let mut client = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let stream = TcpStream::connect(address).await.unwrap();
        TlsConnector::from(Arc::new(client)).connect("localhost".try_into().unwrap(), stream).await
    }

    async fn ask(stream: &mut TlsStream<TcpStream>, request: &str) -> String {
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    const LIVEZ: &str = "GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

    #[tokio::test]
    async fn requests_are_answered_guarded_and_drained() {
        let dir = tempfile::tempdir().unwrap();
        let root = write_pair(dir.path());
        let running = serve_as(tls_config(dir.path()), operations(Vec::new())).await;
        let mut stream = connect(running.address, &root).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        assert!(ask(&mut stream, LIVEZ).await.ends_with("ok\n"));
        let bad = "GET /livez HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n";
        let answer = ask(&mut connect(running.address, &root).await.unwrap(), &format!("{bad}{LIVEZ}")).await;
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.matches("HTTP/1.1").count() == 1, "{answer}");
        // One connection that is idle, one in the middle of its handshake, one that does not speak TLS.
        let mut idle = connect(running.address, &root).await.unwrap();
        let mut silent = TcpStream::connect(running.address).await.unwrap();
        let plain = TcpStream::connect(running.address).await.unwrap();
        plain.try_write(LIVEZ.as_bytes()).unwrap();
        running.stop.cancel();
        timeout(Duration::from_secs(5), running.serving).await.unwrap().unwrap();
        idle.read_to_end(&mut Vec::new()).await.unwrap();
        assert_eq!(silent.read(&mut [0; 1]).await.unwrap_or(0), 0);
    }

    #[tokio::test]
    async fn slow_handshakes_are_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        write_pair(dir.path());
        let running = serve_as(tls_config(dir.path()), operations(Vec::new())).await;
        let mut silent = TcpStream::connect(running.address).await.unwrap();
        silent.write_all(&[0x16, 0x03, 0x01]).await.unwrap();
        let end = timeout(Duration::from_secs(10), silent.read(&mut [0; 1])).await.expect("the server must close");
        assert_eq!(end.unwrap_or(0), 0);
    }

    #[tokio::test]
    async fn a_new_certificate_serves_new_connections() {
        let dir = tempfile::tempdir().unwrap();
        let old = write_pair(dir.path());
        let config = tls_config(dir.path());
        let certificates = config.certificates().unwrap();
        let server =
            Server::bind(config, certificates.clone(), Metrics::new(Timestamp::from_seconds(0))).await.unwrap();
        let (address, stop, hard) = (server.address(), CancellationToken::new(), CancellationToken::new());
        TaskTracker::new().spawn(server.serve(operations(Vec::new()), stop.clone(), hard));
        let mut before = connect(address, &old).await.unwrap();
        let new = write_pair(dir.path());
        certificates.unwrap().reload().unwrap();
        assert!(connect(address, &old).await.is_err(), "the old certificate is gone");
        assert!(ask(&mut connect(address, &new).await.unwrap(), LIVEZ).await.ends_with("ok\n"));
        assert!(ask(&mut before, LIVEZ).await.ends_with("ok\n"), "connections that stand go on");
        stop.cancel();
    }
}
