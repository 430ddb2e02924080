//! Asking whom customers name: a client that reaches nothing but the internet, whatever it is told.
//!
//! Targets are URLs of https, read as browsers read them, so that an address in any notation is that address. Each name is
//! resolved once for each connection, and it is the addresses of that answer that are checked and connected to: a name that
//! answers otherwise the next time gains nothing. Redirects are answers, and no proxy is asked.
//!
//! Receivers inside the own network are named one by one, by the operator.

use std::{
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    str::FromStr,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, Uri};
use hyper_rustls::HttpsConnector;
use hyper_util::{client::legacy::Client, rt::TokioIo};
use tokio::net::{TcpStream, lookup_host};
use tower::Service;
use url::{Host, Url};

use super::{CONNECT_TIMEOUT, Limits, WebError, addresses::is_public, client_over, exchange_within, secured};

/// A receiver in the operator's own network: a host and a port, exactly as in URLs.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(try_from = "String")]
pub struct Receiver {
    host: String,
    port: u16,
}

/// Why a text names no receiver.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a host and a port such as alerts.internal:8443")]
pub struct InvalidReceiver(String);

impl FromStr for Receiver {
    type Err = InvalidReceiver;

    fn from_str(text: &str) -> Result<Self, InvalidReceiver> {
        let invalid = || InvalidReceiver(text.to_owned());
        let (_, port) = text.rsplit_once(':').ok_or_else(invalid)?;
        let port = port.parse().map_err(|_| invalid())?;
        let url = Url::parse(&format!("https://{text}/")).map_err(|_| invalid())?;
        let plain = !text.contains('*')
            && url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty();
        let host = url.host_str().filter(|_| plain && url.password().is_none()).ok_or_else(invalid)?;
        Ok(Self { host: host.to_owned(), port })
    }
}

impl TryFrom<String> for Receiver {
    type Error = InvalidReceiver;

    fn try_from(text: String) -> Result<Self, InvalidReceiver> {
        text.parse()
    }
}

/// Why a target may not be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    /// It cannot be read.
    #[error("this is not a URL: {0}")]
    NoUrl(String),
    /// It would be sent in the clear, or is no HTTP at all.
    #[error("the URL must begin with https://")]
    NotEncrypted,
    /// It holds a user's name or password.
    #[error("the URL must not hold a user or a password")]
    Credentials,
    /// It leads into a network that is not public.
    #[error("{0} is not an address of the public internet")]
    Inside(String),
}

/// Asks targets that customers name; clones share their connections.
#[derive(Clone)]
pub struct GuardedWeb {
    client: Client<HttpsConnector<GuardedConnector>, Full<Bytes>>,
    limits: Limits,
    inside: Arc<[Receiver]>,
}

impl GuardedWeb {
    /// A client that reaches the internet, and the receivers named here.
    pub fn new(limits: Limits, inside: Vec<Receiver>) -> Result<Self, WebError> {
        Self::over(limits, inside, Arc::new(System))
    }

    fn over(limits: Limits, inside: Vec<Receiver>, network: Arc<dyn Network>) -> Result<Self, WebError> {
        let inside: Arc<[Receiver]> = inside.into();
        let connector = GuardedConnector { inside: Arc::clone(&inside), network };
        Ok(Self { client: client_over(secured(connector)?), limits, inside })
    }

    /// Reads a target as it will be asked, if it may be. That a name leads inside shows only when it is asked.
    pub fn target(&self, text: &str) -> Result<Url, Forbidden> {
        target(text, &self.inside)
    }

    /// Sends a request and reads the whole answer, whatever its status. Its URI is replaced by the target.
    pub async fn send(&self, target: &Url, mut request: Request<Full<Bytes>>) -> Result<Response<Bytes>, WebError> {
        let host = target.host_str().unwrap_or_default().to_owned();
        *request.uri_mut() = target.as_str().parse().map_err(|_| WebError::Address(host.clone()))?;
        exchange_within(&self.client, self.limits, &host, request).await
    }
}

impl fmt::Debug for GuardedWeb {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limits, inside, .. } = self;
        formatter.debug_struct("GuardedWeb").field("limits", limits).field("inside", inside).finish_non_exhaustive()
    }
}

/// Reads a target as it will be asked, if it may be.
pub fn target(text: &str, inside: &[Receiver]) -> Result<Url, Forbidden> {
    let mut url = Url::parse(text).map_err(|error| Forbidden::NoUrl(error.to_string()))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Forbidden::Credentials);
    }
    url.set_fragment(None);
    let host = url.host().ok_or(Forbidden::NotEncrypted)?.to_owned();
    let port = url.port_or_known_default().ok_or(Forbidden::NotEncrypted)?;
    if matches!(url.scheme(), "http" | "https") && is_inside(inside, &host.to_string(), port) {
        return Ok(url);
    }
    if url.scheme() != "https" {
        return Err(Forbidden::NotEncrypted);
    }
    let closed = match &host {
        Host::Ipv4(address) => !is_public((*address).into()),
        Host::Ipv6(address) => !is_public((*address).into()),
        Host::Domain(name) => is_local_name(name),
    };
    if closed { Err(Forbidden::Inside(host.to_string())) } else { Ok(url) }
}

fn is_inside(inside: &[Receiver], host: &str, port: u16) -> bool {
    inside.iter().any(|receiver| receiver.host == host && receiver.port == port)
}

/// Names that can only mean this machine or network; all others are judged by their addresses.
fn is_local_name(name: &str) -> bool {
    let name = name.trim_end_matches('.');
    let last = name.rsplit('.').next().unwrap_or(name);
    !name.contains('.') || matches!(last, "localhost" | "local" | "internal" | "localdomain")
}

type Boxed<T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send>>;

/// Names and connections, so that tests can have others.
trait Network: Send + Sync {
    fn resolve(&self, host: String, port: u16) -> Boxed<Vec<SocketAddr>>;
    fn connect(&self, address: SocketAddr) -> Boxed<TcpStream>;
}

struct System;

impl Network for System {
    fn resolve(&self, host: String, port: u16) -> Boxed<Vec<SocketAddr>> {
        Box::pin(async move { Ok(lookup_host((host, port)).await?.collect()) })
    }

    fn connect(&self, address: SocketAddr) -> Boxed<TcpStream> {
        Box::pin(TcpStream::connect(address))
    }
}

/// Connects to checked addresses only.
#[derive(Clone)]
struct GuardedConnector {
    inside: Arc<[Receiver]>,
    network: Arc<dyn Network>,
}

impl Service<Uri> for GuardedConnector {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = Boxed<TokioIo<TcpStream>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move {
            let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no connection in time");
            let stream = tokio::time::timeout(CONNECT_TIMEOUT, connector.connect(&uri)).await.map_err(late)??;
            stream.set_nodelay(true)?;
            Ok(TokioIo::new(stream))
        })
    }
}

impl GuardedConnector {
    async fn connect(&self, uri: &Uri) -> io::Result<TcpStream> {
        // Checked once more: whatever made this URI, it is here that a connection comes of it.
        let url = target(&uri.to_string(), &self.inside).map_err(refused)?;
        let host = url.host().ok_or_else(|| refused(Forbidden::NotEncrypted))?.to_owned();
        let port = url.port_or_known_default().unwrap_or(443);
        let addresses = match &host {
            Host::Ipv4(address) => vec![SocketAddr::from((*address, port))],
            Host::Ipv6(address) => vec![SocketAddr::from((*address, port))],
            Host::Domain(name) => self.network.resolve(name.clone(), port).await?,
        };
        let own = is_inside(&self.inside, &host.to_string(), port);
        let allowed = if own { addresses } else { permitted(&host, addresses)? };
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in allowed {
            match self.network.connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// The public ones of a name's addresses; a name that has none leads inside.
fn permitted(host: &Host<String>, addresses: Vec<SocketAddr>) -> io::Result<Vec<SocketAddr>> {
    let known = !addresses.is_empty();
    let open: Vec<SocketAddr> = addresses.into_iter().filter(|address| is_public(address.ip())).collect();
    if known && open.is_empty() { Err(refused(Forbidden::Inside(host.to_string()))) } else { Ok(open) }
}

fn refused(why: Forbidden) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, why)
}

/// Whether a failure is one of the guard, and not of the network.
pub fn is_forbidden(error: &WebError) -> bool {
    let WebError::Unreachable { source, .. } = error else { return matches!(error, WebError::Address(_)) };
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(source.as_ref());
    while let Some(error) = cause {
        if error.is::<Forbidden>() || error.downcast_ref::<io::Error>().is_some_and(holds_forbidden) {
            return true;
        }
        cause = error.source();
    }
    false
}

fn holds_forbidden(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Forbidden>() || inner.downcast_ref().is_some_and(holds_forbidden))
}

#[cfg(test)]
mod tests;
