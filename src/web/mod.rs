//! Asking others over HTTP: one request, one whole answer, within bounds of time and size.
//!
//! Redirects are answers like any other and are not followed: whoever is asked must be whom we were told to ask. Plain HTTP goes
//! to this machine only. Knows nothing of what is asked. Whom operators name is asked by [`Web`]; whom customers name, by
//! [`guard::GuardedWeb`].

pub mod addresses; // which of them are public
pub mod guard; // asking whom customers name

use std::{fmt, io, net::IpAddr, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::{Request, Response, Uri, body::Body as _};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{
        Client,
        connect::{Connect, HttpConnector},
    },
    rt::{TokioExecutor, TokioTimer},
};

/// How long a connection may take to stand.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an idle connection is kept.
const IDLE: Duration = Duration::from_secs(30);

/// What bounds an exchange.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long it may take, to the end of the answer.
    pub time: Duration,
    /// How large the answer's body may be.
    pub body_bytes: usize,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// The certificates of the system cannot be read.
    #[error("the system's certificates cannot be read")]
    Certificates(#[source] io::Error),
    /// The address is none that may be asked.
    #[error("`{0}` cannot be asked: https:// is needed, or http:// on this machine")]
    Address(String),
    /// Nobody is reached, or the connection breaks.
    #[error("{host} cannot be asked: {}", innermost(source))]
    Unreachable {
        /// Who.
        host: String,
        /// Why.
        source: BoxError,
    },
    /// The answer does not come.
    #[error("{host} did not answer within {} s", after.as_secs())]
    Late {
        /// Who.
        host: String,
        /// How long was waited.
        after: Duration,
    },
    /// The answer is larger than allowed.
    #[error("the answer of {host} has more than {limit} bytes")]
    TooLarge {
        /// Who.
        host: String,
        /// What is allowed.
        limit: usize,
    },
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl WebError {
    /// Whether asking again may help.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Late { .. })
    }
}

/// Asks; clones share their connections.
#[derive(Clone)]
pub struct Web {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    limits: Limits,
}

impl Web {
    /// A client that trusts the system's certificates.
    pub fn new(limits: Limits) -> Result<Self, WebError> {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(CONNECT_TIMEOUT));
        Ok(Self { client: client_over(secured(http)?), limits })
    }

    /// Sends a request and reads the whole answer, whatever its status.
    pub async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, WebError> {
        let host = host_of(request.uri())?;
        exchange_within(&self.client, self.limits, &host, request).await
    }
}

/// TLS by the system's certificates around a connector.
fn secured<C>(connector: C) -> Result<HttpsConnector<C>, WebError> {
    let builder = HttpsConnectorBuilder::new()
        .with_provider_and_native_roots(rustls::crypto::ring::default_provider())
        .map_err(WebError::Certificates)?;
    Ok(builder.https_or_http().enable_http1().wrap_connector(connector))
}

fn client_over<C: Connect + Clone>(connector: C) -> Client<C, Full<Bytes>> {
    let mut builder = Client::builder(TokioExecutor::new());
    builder.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE).build(connector)
}

/// Sends a request and reads the whole answer within the limits.
async fn exchange_within<C: Connect + Clone + Send + Sync + 'static>(
    client: &Client<C, Full<Bytes>>,
    limits: Limits,
    host: &str,
    request: Request<Full<Bytes>>,
) -> Result<Response<Bytes>, WebError> {
    let late = |_| WebError::Late { host: host.to_owned(), after: limits.time };
    tokio::time::timeout(limits.time, exchange(client, limits.body_bytes, host, request)).await.map_err(late)?
}

async fn exchange<C: Connect + Clone + Send + Sync + 'static>(
    client: &Client<C, Full<Bytes>>,
    limit: usize,
    host: &str,
    request: Request<Full<Bytes>>,
) -> Result<Response<Bytes>, WebError> {
    let unreachable = |source: BoxError| WebError::Unreachable { host: host.to_owned(), source };
    let too_large = || WebError::TooLarge { host: host.to_owned(), limit };
    let answer = client.request(request).await.map_err(|error| unreachable(error.into()))?;
    let (head, body) = answer.into_parts();
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    let whole = Limited::new(body, limit).collect().await;
    let whole = whole.map_err(|error| if error.is::<LengthLimitError>() { too_large() } else { unreachable(error) })?;
    Ok(Response::from_parts(head, whole.to_bytes()))
}

impl fmt::Debug for Web {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Web").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// Who is asked, if it may be: for messages, so without path and query, which may hold secrets.
fn host_of(uri: &Uri) -> Result<String, WebError> {
    let refused = || WebError::Address(uri.authority().map(|at| at.as_str().to_owned()).unwrap_or_default());
    let authority = uri.authority().filter(|authority| !authority.as_str().contains('@')).ok_or_else(refused)?;
    match uri.scheme_str() {
        Some("https") => Ok(authority.to_string()),
        Some("http") if is_this_machine(authority.host()) => Ok(authority.to_string()),
        _ => Err(refused()),
    }
}

fn is_this_machine(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// The last of the causes: those before it say little more than that there is one.
fn innermost(error: &BoxError) -> String {
    let mut cause: &dyn std::error::Error = error.as_ref();
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };
    use tokio_util::task::TaskTracker;

    use super::*;

    fn web() -> Web {
        Web::new(Limits { time: Duration::from_secs(2), body_bytes: 100 }).unwrap()
    }

    /// Answers one request with these bytes; `None` says nothing.
    async fn ask(answer: Option<&'static str>) -> Result<Response<Bytes>, WebError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}/path?secret=1", listener.local_addr().unwrap());
        TaskTracker::new().spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
            match answer {
                Some(answer) => stream.write_all(answer.as_bytes()).await.unwrap(),
                None => std::future::pending().await,
            }
        });
        web().send(Request::get(uri).body(Full::default()).unwrap()).await
    }

    #[tokio::test]
    async fn any_status_is_an_answer_and_redirects_are_not_followed() {
        let answer = ask(Some("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi")).await.unwrap();
        assert_eq!((answer.status().as_u16(), &answer.body()[..]), (200, &b"hi"[..]));
        let moved = "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(ask(Some(moved)).await.unwrap().status().as_u16(), 302);
    }

    #[tokio::test]
    async fn answers_are_bounded_in_size_and_time() {
        let declared = ask(Some("HTTP/1.1 200 OK\r\ncontent-length: 101\r\n\r\n")).await.unwrap_err();
        let endless = "HTTP/1.1 200 OK\r\n\r\n0123456789012345678901234567890123456789012345678901234567890123456789\
                       0123456789012345678901234567890123456789";
        for error in [declared, ask(Some(endless)).await.unwrap_err()] {
            assert!(matches!(error, WebError::TooLarge { .. }) && !error.is_transient(), "{error}");
        }
        let torn = ask(Some("HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nhi")).await.unwrap_err();
        assert!(matches!(torn, WebError::Unreachable { .. }), "{torn}");
        let late = ask(None).await.unwrap_err();
        assert!(late.is_transient() && late.to_string().ends_with("did not answer within 2 s"), "{late}");
        assert!(!late.to_string().contains("secret"));
    }

    #[tokio::test]
    async fn only_encrypted_and_local_addresses_are_asked() {
        for uri in [
            "http://example.com/",
            "http://127.0.0.1.example.com/",
            "ftp://127.0.0.1/",
            "/path",
            "http://me@127.0.0.1/",
        ] {
            let error = web().send(Request::get(uri).body(Full::default()).unwrap()).await.unwrap_err();
            assert!(matches!(error, WebError::Address(_)), "{uri}: {error}");
        }
        for uri in ["https://example.com/", "http://127.0.0.9:80/", "http://[::1]/", "http://localhost:1/"] {
            assert!(host_of(&uri.parse().unwrap()).is_ok(), "{uri}");
        }
        let refused = web().send(Request::get("http://127.0.0.1:1/").body(Full::default()).unwrap()).await.unwrap_err();
        assert!(refused.is_transient() && refused.to_string().contains("127.0.0.1:1 cannot be asked"), "{refused}");
    }
}
