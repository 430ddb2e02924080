//! What operators ask: does the process live, is it ready for work, what does it count.
//!
//! `/livez` asks nothing but the process itself: a server that is away must not make systemd or Kubernetes restart us.
//! `/readyz` asks the checks that it was given and names the ones that fail.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use futures_util::future::{BoxFuture, FutureExt, join_all};
use serde::Serialize;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::telemetry::metrics::{CONTENT_TYPE, Metrics};

/// A check that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(2);

type Ask = dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync;

/// One thing that must be so for the daemon to be ready.
#[derive(Clone)]
pub struct Check {
    name: &'static str,
    ask: Arc<Ask>,
}

impl Check {
    /// A check that may ask a server; the error is the reason why it fails.
    pub fn new<F, Answer>(name: &'static str, ask: F) -> Self
    where
        F: Fn() -> Answer + Send + Sync + 'static,
        Answer: Future<Output = Result<(), String>> + Send + 'static,
    {
        Self { name, ask: Arc::new(move || ask().boxed()) }
    }

    /// A check that is known at once.
    pub fn immediate(name: &'static str, ask: impl Fn() -> Result<(), String> + Send + Sync + 'static) -> Self {
        Self { name, ask: Arc::new(move || std::future::ready(ask()).boxed()) }
    }

    /// Fails from the moment the daemon begins to stop.
    pub fn not_stopping(soft: CancellationToken) -> Self {
        Self::immediate("lifecycle", move || if soft.is_cancelled() { Err("stopping".to_owned()) } else { Ok(()) })
    }

    async fn answer(&self) -> CheckAnswer {
        let late = || Err(format!("no answer within {} s", PATIENCE.as_secs()));
        let reason = timeout(PATIENCE, (self.ask)()).await.unwrap_or_else(|_| late()).err();
        CheckAnswer { name: self.name, ok: reason.is_none(), reason }
    }
}

#[derive(Serialize)]
struct CheckAnswer {
    name: &'static str,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

#[derive(Serialize)]
struct Readiness {
    status: &'static str,
    checks: Vec<CheckAnswer>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Health {
    status: &'static str,
    version: &'static str,
    uptime_seconds: u64,
}

/// What the routes for operators need.
#[derive(Clone)]
pub struct Operations(Arc<Inner>);

struct Inner {
    checks: Vec<Check>,
    metrics: Metrics,
    started: Instant,
}

impl Operations {
    /// The checks that `/readyz` asks, and the metrics that `/metrics` shows.
    pub fn new(metrics: Metrics, checks: Vec<Check>) -> Self {
        Self(Arc::new(Inner { checks, metrics, started: Instant::now() }))
    }

    /// `/livez`, `/readyz`, `/health`, `/metrics`.
    pub fn routes(self) -> Router {
        Router::new()
            .route("/livez", get(livez))
            .route("/readyz", get(readyz))
            .route("/health", get(health))
            .route("/metrics", get(metrics))
            .with_state(self)
    }
}

async fn livez() -> &'static str {
    "ok\n"
}

async fn readyz(State(operations): State<Operations>) -> Response {
    let checks = join_all(operations.0.checks.iter().map(Check::answer)).await;
    let ready = checks.iter().all(|check| check.ok);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = Readiness { status: if ready { "ready" } else { "not ready" }, checks };
    (status, [(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

async fn health(State(operations): State<Operations>) -> Json<Health> {
    let uptime_seconds = operations.0.started.elapsed().as_secs();
    Json(Health { status: "ok", version: env!("CARGO_PKG_VERSION"), uptime_seconds })
}

async fn metrics(State(operations): State<Operations>) -> Response {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], operations.0.metrics.encode()).into_response()
}
