//! Carries HTTP: listens, bounds connections and slow clients, drains.
//!
//! Each request carries the peer's address as [`ConnectInfo`]. What is answered is the router's business.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, extract::ConnectInfo};
use hyper::{
    Request,
    body::Incoming,
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use listenfd::ListenFd;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, info, warn};

use super::config::Config;

/// How long to wait when the system cannot give us another connection (out of descriptors or memory).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound socket that is not served yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    config: Config,
}

impl Server {
    /// Takes the socket that systemd passes, or binds the configured address. To be called once in a process: a passed
    /// socket can be taken only once.
    pub async fn bind(config: Config) -> io::Result<Self> {
        let listener = match ListenFd::from_env().take_tcp_listener(0)? {
            Some(passed) => {
                passed.set_nonblocking(true)?;
                TcpListener::from_std(passed)?
            }
            None => TcpListener::bind(config.listen).await?,
        };
        let address = listener.local_addr()?;
        Ok(Self { listener, address, config })
    }

    /// The address that is listened on, with the real port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop`, then finishes the requests in hand, at most until `hard`.
    pub async fn serve(self, router: Router, stop: CancellationToken, hard: CancellationToken) {
        info!(http = %self.address, "listening");
        let connections = TaskTracker::new();
        let graceful = GracefulShutdown::new();
        let permits = Arc::new(Semaphore::new(self.config.max_connections));
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(self.config.header_read_timeout());
        loop {
            let (stream, peer, permit) = tokio::select! {
                () = stop.cancelled() => break,
                accepted = accept(&self.listener, &permits) => accepted,
            };
            let answer = with_peer(router.clone(), peer);
            let connection = graceful.watch(http.serve_connection(TokioIo::new(stream), answer));
            connections.spawn(async move {
                if let Err(error) = connection.await {
                    debug!(%peer, "connection ended early: {error}");
                }
                drop(permit);
            });
        }
        drop(self.listener);
        tokio::select! {
            () = graceful.shutdown() => debug!("all connections ended"),
            () = hard.cancelled() => warn!(connections = connections.len(), "connections were dropped"),
        }
    }
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

/// The router as hyper calls it, with the peer's address added to each request.
fn with_peer(
    router: Router,
    peer: SocketAddr,
) -> impl Service<Request<Incoming>, Response = axum::response::Response, Error = std::convert::Infallible, Future: Send>
{
    let router = TowerToHyperService::new(router);
    service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        router.call(request)
    })
}
