//! Receivers of messages over HTTP, played as their documentation says: one that answers what it is told to, and remembers.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::daemon::in_background;

/// How a receiver behaves.
#[derive(Clone, Debug)]
pub(crate) enum Behavior {
    /// Answers: status, further headers as lines, body.
    Answer(u16, &'static str, String),
    /// Takes the request and never answers.
    Hang,
    /// Closes in the midst of its answer.
    Cut,
    /// Closes without an answer.
    Close,
}

impl Behavior {
    /// An answer without further headers.
    pub(crate) fn says(status: u16, body: impl Into<String>) -> Self {
        Self::Answer(status, "", body.into())
    }
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// Method and path.
    pub(crate) line: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value.as_str())
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {}", self.body))
    }
}

/// A server that answers by its list of behaviors, the last one again and again.
pub(crate) struct Receiver {
    address: SocketAddr,
    behaviors: Arc<Mutex<Vec<Behavior>>>,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Receiver {
    /// Starts with these behaviors.
    pub(crate) async fn start(behaviors: impl Into<Vec<Behavior>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let receiver = Self { address, behaviors: Arc::new(Mutex::new(behaviors.into())), requests: Arc::default() };
        let (behaviors, requests) = (Arc::clone(&receiver.behaviors), Arc::clone(&receiver.requests));
        in_background(async move {
            while let Ok((stream, _)) = listener.accept().await {
                in_background(serve(stream, Arc::clone(&behaviors), Arc::clone(&requests)));
            }
        });
        receiver
    }

    /// `127.0.0.1:port`.
    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    /// `http://127.0.0.1:port`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on it behaves like this.
    pub(crate) fn behave(&self, behaviors: impl Into<Vec<Behavior>>) {
        *self.behaviors.lock().unwrap() = behaviors.into();
    }

    /// All requests so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// The newest request.
    #[track_caller]
    pub(crate) fn last(&self) -> Request {
        self.requests().pop().expect("a request")
    }
}

async fn serve(mut stream: TcpStream, behaviors: Arc<Mutex<Vec<Behavior>>>, requests: Arc<Mutex<Vec<Request>>>) {
    while let Some(request) = read(&mut stream).await {
        requests.lock().unwrap().push(request);
        let behavior = {
            let mut list = behaviors.lock().unwrap();
            if list.len() > 1 { list.remove(0) } else { list[0].clone() }
        };
        let answer = match behavior {
            Behavior::Hang => return std::future::pending().await,
            Behavior::Close => return,
            Behavior::Cut => "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhal".to_owned(),
            Behavior::Answer(status, headers, ref body) => {
                format!("HTTP/1.1 {status} Status\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())
            }
        };
        let whole = stream.write_all(answer.as_bytes()).await;
        if whole.is_err() || matches!(behavior, Behavior::Cut) {
            return;
        }
    }
}

async fn read(stream: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let mut lines = head.split("\r\n");
            let line = lines.next()?.trim_end_matches(" HTTP/1.1").to_owned();
            let headers: Vec<(String, String)> = lines
                .filter_map(|line| line.split_once(": "))
                .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
                .collect();
            let length = headers.iter().find(|(name, _)| name == "content-length").map_or("0", |(_, value)| value);
            let whole = end + 4 + length.parse::<usize>().ok()?;
            if bytes.len() >= whole {
                let body = String::from_utf8_lossy(&bytes[end + 4..whole]).into_owned();
                return Some(Request { line, headers, body });
            }
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}
