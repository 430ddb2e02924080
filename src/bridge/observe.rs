//! What is noted of each request: an id, a line in the log, metrics.
//!
//! Routes are noted as they are declared, never paths or queries: those hold customers and keys.

use std::{
    collections::HashSet,
    sync::{Arc, PoisonError, RwLock},
};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderValue, Method, StatusCode},
    middleware::Next,
    response::Response,
};
use tokio::time::Instant;
use tracing::{debug, info};

use super::context::{REQUEST_ID, RequestContext};
use crate::telemetry::metrics::{Metrics, RequestLabels, RouteLabel, Whole};

/// Access lines have a target of their own: `log.level = "info,churnd::access=debug"` shows those of successes too.
const ACCESS: &str = "churnd::access";
/// What answers where there is no route.
const NO_ROUTE: &str = "none";

/// Notes requests.
#[derive(Clone, Debug)]
pub struct Observer {
    metrics: Metrics,
    /// The routes met so far, each kept for good: there are as many as are declared.
    routes: Arc<RwLock<HashSet<&'static str>>>,
}

impl Observer {
    /// Counts on `metrics`.
    pub fn new(metrics: Metrics) -> Self {
        Self { metrics, routes: Arc::default() }
    }

    fn route(&self, request: &Request) -> &'static str {
        let Some(path) = request.extensions().get::<MatchedPath>() else { return NO_ROUTE };
        if let Some(known) = self.routes.read().unwrap_or_else(PoisonError::into_inner).get(path.as_str()) {
            return known;
        }
        let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        match routes.get(path.as_str()) {
            Some(known) => known,
            None => {
                let kept: &'static str = Box::leak(path.as_str().into());
                routes.insert(kept);
                kept
            }
        }
    }

    fn note(&self, labels: RequestLabels, begun: Instant, context: &RequestContext) {
        let took = begun.elapsed();
        let RequestLabels { route, method, code } = labels.clone();
        let (duration_ms, id) = (took.as_secs_f64() * 1_000.0, context.id.simple());
        if code < 400 {
            debug!(target: ACCESS, route, method, status = code, duration_ms, request.id = %id, "{method} {route} {code}");
        } else {
            info!(target: ACCESS, route, method, status = code, duration_ms, request.id = %id, "{method} {route} {code}");
        }
        self.metrics.http_request_duration_seconds.get_or_create(&RouteLabel { route }).observe(took.as_secs_f64());
        self.metrics.http_requests.get_or_create(&labels).inc();
    }
}

/// Gives each request its id and notes how it was answered.
pub async fn observe(State(observer): State<Observer>, mut request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let context = RequestContext::of(request.headers());
    let (route, method) = (observer.route(&request), name_of(request.method()));
    request.extensions_mut().insert(context);
    let in_flight = InFlight::begin(&observer.metrics.http_in_flight);
    let mut response = next.run(request).await;
    drop(in_flight);
    let id = HeaderValue::from_str(&context.id.simple().to_string()).expect("a UUID is hexadecimal digits");
    response.headers_mut().insert(REQUEST_ID.clone(), id);
    let status: StatusCode = response.status();
    observer.note(RequestLabels { route, method, code: status.as_u16() }, begun, &context);
    response
}

fn name_of(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        Method::HEAD => "HEAD",
        _ => "other",
    }
}

/// Counts a request for as long as it is worked on, also when the client goes away meanwhile.
struct InFlight<'a>(&'a Whole);

impl<'a> InFlight<'a> {
    fn begin(gauge: &'a Whole) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}
