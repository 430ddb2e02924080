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

async fn serve(routes: Router) -> Running {
    let listen = "127.0.0.1:0".parse().unwrap();
    let server = Server::bind(Config {
        listen,
        header_read_timeout_seconds: 1,
        body_read_timeout_seconds: 1,
        max_connections: 8,
    })
    .await
    .unwrap();
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
