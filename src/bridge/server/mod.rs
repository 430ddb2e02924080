//! Carries HTTP: listens, bounds connections and slow clients, refuses ambiguous requests, speaks TLS, drains.
//!
//! Each request carries the peer's address as [`ConnectInfo`] and the client's as [`ClientAddress`]. What is answered is the
//! router's business.
//!
//! [`ClientAddress`]: super::client_address::ClientAddress

mod certificates; // what TLS is spoken with
mod framing; // where requests begin and end
mod guard; // framing on a connection
mod places; // connections of one client
#[cfg(test)]
mod tests;
mod validity; // when a certificate ends

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, extract::ConnectInfo, response::Response};
use hyper::{
    Request,
    body::Incoming,
    header::{CONNECTION, HeaderValue},
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::{GracefulShutdown, Watcher},
    service::TowerToHyperService,
};
use listenfd::ListenFd;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, info, warn};

pub use self::certificates::{CertificateError, Certificates};
use self::{
    framing::Violation,
    guard::Guarded,
    places::{Place, Places},
};
use super::{
    client_address::{OverTls, TrustedProxies},
    config::Config,
};
use crate::telemetry::metrics::{Metrics, ReasonLabel};

/// How long to wait when the system cannot give us another connection (out of descriptors or memory).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What a client hears that holds as many connections as it may.
const TOO_MANY: &[u8] =
    b"HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/problem+json\r\ncontent-length: 152\r\n\
    connection: close\r\nretry-after: 1\r\n\r\n\
    {\"type\":\"about:blank\",\"title\":\"Too Many Requests\",\"status\":429,\"code\":\"too_many_connections\",\
    \"detail\":\"you hold too many connections: use fewer, again\"}";
/// How many of those are heard out at once, and how long.
const HEARD_OUT: usize = 64;
const HEARING: Duration = Duration::from_millis(500);
/// How long connections that are kept alive are still answered at the stop, each with a word that this is the last time.
/// Closing them at once would cut off the request that is on its way.
const LAST_CALL: Duration = Duration::from_millis(500);

/// A bound socket that is not served yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    config: Config,
    certificates: Option<Certificates>,
    metrics: Metrics,
}

impl Server {
    /// Takes the socket that systemd passes, or binds the configured address. To be called once in a process: a passed
    /// socket can be taken only once. With certificates nothing but TLS is spoken.
    pub async fn bind(config: Config, certificates: Option<Certificates>, metrics: Metrics) -> io::Result<Self> {
        let listener = match ListenFd::from_env().take_tcp_listener(0)? {
            Some(passed) => {
                passed.set_nonblocking(true)?;
                TcpListener::from_std(passed)?
            }
            None => TcpListener::bind(config.listen).await?,
        };
        let address = listener.local_addr()?;
        Ok(Self { listener, address, config, certificates, metrics })
    }

    /// The address that is listened on, with the real port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop`, then takes no new connections, answers those kept alive once more and finishes the requests in
    /// hand, at most until `hard`.
    pub async fn serve(self, router: Router, stop: CancellationToken, hard: CancellationToken) {
        info!(http = %self.address, tls = self.certificates.is_some(), "listening");
        let connections = TaskTracker::new();
        let graceful = GracefulShutdown::new();
        let permits = Arc::new(Semaphore::new(self.config.max_connections));
        let turned_away = Arc::new(Semaphore::new(HEARD_OUT));
        let trusted = Arc::new(self.config.trusted_proxies.clone());
        let places = Places::new(self.config.max_connections_per_client, Arc::clone(&trusted));
        let carrier = Carrier {
            http: self.http(),
            header_read_timeout: self.config.header_read_timeout(),
            router,
            trusted,
            certificates: self.certificates,
            metrics: self.metrics,
        };
        loop {
            let (stream, peer, permit) = tokio::select! {
                () = stop.cancelled() => break,
                accepted = accept(&self.listener, &permits) => accepted,
            };
            let Some(place) = places.take(peer.ip()) else {
                carrier.count_refused("too_many_connections");
                // Over TLS nothing can be said without a handshake.
                if let (None, Ok(turn)) = (&carrier.certificates, Arc::clone(&turned_away).try_acquire_owned()) {
                    connections.spawn(turn_away(stream, peer, turn));
                }
                continue;
            };
            let (carrier, watcher, stop) = (carrier.clone(), graceful.watcher(), stop.clone());
            connections.spawn(carrier.carry(stream, peer, watcher, stop, (permit, place)));
        }
        drop(self.listener);
        connections.close();
        tokio::select! {
            _ = timeout(LAST_CALL, connections.wait()) => {}
            () = hard.cancelled() => {}
        }
        tokio::select! {
            () = graceful.shutdown() => debug!("all connections ended"),
            () = hard.cancelled() => warn!(connections = connections.len(), "connections were dropped"),
        }
    }

    fn http(&self) -> http1::Builder {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(self.config.header_read_timeout());
        http.max_header_size(self.config.max_head_bytes).max_buf_size(self.config.max_head_bytes);
        http.max_headers(self.config.max_headers);
        http
    }
}

/// What each connection is carried with.
#[derive(Clone)]
struct Carrier {
    http: http1::Builder,
    header_read_timeout: Duration,
    router: Router,
    trusted: Arc<TrustedProxies>,
    certificates: Option<Certificates>,
    metrics: Metrics,
}

impl Carrier {
    /// Serves one connection to its end; it holds its places that long.
    async fn carry(
        self,
        stream: TcpStream,
        peer: SocketAddr,
        watcher: Watcher,
        stop: CancellationToken,
        _places: (OwnedSemaphorePermit, Place),
    ) {
        match self.certificates.as_ref().map(|certificates| TlsAcceptor::from(certificates.config())) {
            None => self.answer(stream, peer, watcher, stop).await,
            Some(acceptor) => {
                let shaken = tokio::select! {
                    () = stop.cancelled() => return,
                    shaken = self.shake_hands(acceptor, stream, peer) => shaken,
                };
                if let Some(stream) = shaken {
                    self.answer(stream, peer, watcher, stop).await;
                }
            }
        }
    }

    /// Agrees on TLS, within the time for a head.
    async fn shake_hands(
        &self,
        acceptor: TlsAcceptor,
        stream: TcpStream,
        peer: SocketAddr,
    ) -> Option<TlsStream<TcpStream>> {
        let late = |_| Err(io::Error::new(io::ErrorKind::TimedOut, "the handshake took too long"));
        match timeout(self.header_read_timeout, acceptor.accept(stream)).await.unwrap_or_else(late) {
            Ok(stream) => Some(stream),
            Err(error) => {
                debug!(%peer, "no TLS with this client: {error}");
                self.count_refused("handshake");
                None
            }
        }
    }

    /// Answers the requests of one connection.
    async fn answer(
        self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        peer: SocketAddr,
        watcher: Watcher,
        stop: CancellationToken,
    ) {
        let metrics = self.metrics.clone();
        let guarded = Guarded::new(stream, move |violation: Violation| {
            debug!(%peer, reason = violation.as_str(), "refusing ambiguous bytes: {}", violation.as_str());
            count_refused(&metrics, violation.as_str());
        });
        let service = with_addresses(self.router, self.trusted, peer, self.certificates.is_some(), stop);
        let connection = watcher.watch(self.http.serve_connection(TokioIo::new(guarded), service));
        if let Err(error) = connection.await {
            debug!(%peer, "connection ended early: {error}");
        }
    }

    fn count_refused(&self, reason: &'static str) {
        count_refused(&self.metrics, reason);
    }
}

/// Tells a client that it has connections enough, and hears it out for a moment: closing while something is unread would
/// take the answer back.
async fn turn_away(mut stream: TcpStream, peer: SocketAddr, _turn: OwnedSemaphorePermit) {
    let telling = async {
        stream.write_all(TOO_MANY).await?;
        stream.shutdown().await?;
        let mut unheard = [0; 1024];
        while stream.read(&mut unheard).await? > 0 {}
        io::Result::Ok(())
    };
    if let Ok(Err(error)) = timeout(HEARING, telling).await {
        debug!(%peer, "turned away unheard: {error}");
    }
}

fn count_refused(metrics: &Metrics, reason: &'static str) {
    metrics.http_connections_refused.get_or_create(&ReasonLabel { reason }).inc();
}

/// The next connection, once there is room for one.
async fn accept(listener: &TcpListener, permits: &Arc<Semaphore>) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
    let permit = Arc::clone(permits).acquire_owned().await.expect("the semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                if let Err(error) = stream.set_nodelay(true) {
                    debug!(%peer, "cannot send small answers at once: {error}");
                }
                return (stream, peer, permit);
            }
            Err(error) if is_of_the_connection(&error) => debug!("connection ended before it began: {error}"),
            Err(error) => {
                warn!("cannot accept connections: {error}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn is_of_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// The router as hyper calls it, with the peer's and the client's address and whether it speaks TLS added to each request.
/// From `stop` on each answer says that the connection ends with it.
fn with_addresses(
    router: Router,
    trusted: Arc<TrustedProxies>,
    peer: SocketAddr,
    tls: bool,
    stop: CancellationToken,
) -> impl Service<Request<Incoming>, Response = Response, Error = Infallible, Future: Send> {
    let router = TowerToHyperService::new(router);
    service_fn(move |mut request: Request<Incoming>| {
        let client = trusted.client_of(peer.ip(), request.headers());
        request.extensions_mut().insert(ConnectInfo(peer));
        request.extensions_mut().insert(client);
        let tls = tls || trusted.vouches_for_tls(peer.ip(), request.headers());
        request.extensions_mut().insert(OverTls(tls));
        let (answering, stop) = (router.call(request), stop.clone());
        async move {
            let mut answer = answering.await?;
            if stop.is_cancelled() {
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(answer)
        }
    })
}
