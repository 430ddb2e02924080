//! The way to Sentry: a bounded queue and a thread of its own, so that no work ever waits for it.
//!
//! What does not fit into the queue, what Sentry refuses and what it does not answer is gone: reports are a courtesy, the log
//! is the record.

use std::{
    io,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, StatusCode, header};
use sentry::{Envelope, Transport, types::Dsn};
use tokio::runtime::Runtime;
use tracing::debug;

use crate::web::{Limits, Web, WebError};

/// Reports that wait at the most.
const QUEUE: usize = 32;
/// How long one report may take.
const LIMITS: Limits = Limits { time: Duration::from_secs(5), body_bytes: 64 * 1024 };
/// How long Sentry is left alone when it says 429 and not how long.
const PAUSE: Duration = Duration::from_secs(60);
const LONGEST_PAUSE: Duration = Duration::from_secs(3_600);

/// Who we are, to Sentry.
pub(super) const AGENT: &str = concat!("churnd/", env!("CARGO_PKG_VERSION"));

/// Sends envelopes in the background.
pub(super) struct Post {
    queue: SyncSender<Vec<u8>>,
    waiting: Arc<Waiting>,
}

/// How many reports are on their way.
#[derive(Default)]
struct Waiting {
    count: Mutex<usize>,
    fewer: Condvar,
}

impl Post {
    /// Starts the thread.
    pub(super) fn start(dsn: &Dsn) -> io::Result<Self> {
        let (queue, reports) = sync_channel(QUEUE);
        let waiting = Arc::new(Waiting::default());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let office = Office {
            web: Web::new(LIMITS).map_err(io::Error::other)?,
            address: dsn.envelope_api_url().to_string(),
            auth: dsn.to_auth(Some(AGENT)).to_string(),
            quiet_until: None,
        };
        let counted = Arc::clone(&waiting);
        thread::Builder::new().name("sentry".to_owned()).spawn(move || office.work(&runtime, &reports, &counted))?;
        Ok(Self { queue, waiting })
    }
}

impl Transport for Post {
    fn send_envelope(&self, envelope: Envelope) {
        let mut bytes = Vec::new();
        if envelope.to_writer(&mut bytes).is_err() {
            return;
        }
        self.waiting.change(|count| count + 1);
        if self.queue.try_send(bytes).is_err() {
            self.waiting.change(|count| count - 1);
        }
    }

    fn flush(&self, timeout: Duration) -> bool {
        let count = self.waiting.count.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.waiting.fewer.wait_timeout_while(count, timeout, |count| *count > 0);
        let (count, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *count == 0
    }
}

impl Waiting {
    fn change(&self, change: impl FnOnce(usize) -> usize) {
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        *count = change(*count);
        self.fewer.notify_all();
    }
}

/// What the thread works with.
struct Office {
    web: Web,
    address: String,
    auth: String,
    quiet_until: Option<Instant>,
}

impl Office {
    fn work(mut self, runtime: &Runtime, reports: &Receiver<Vec<u8>>, waiting: &Waiting) {
        for report in reports {
            if self.quiet_until.is_none_or(|until| Instant::now() >= until) {
                self.quiet_until = match runtime.block_on(self.post(report)) {
                    Ok(answer) => pause_asked(&answer).map(|pause| Instant::now() + pause),
                    Err(error) => {
                        debug!("not reported: {error}");
                        None
                    }
                };
            }
            waiting.change(|count| count - 1);
        }
    }

    async fn post(&self, report: Vec<u8>) -> Result<Response<Bytes>, WebError> {
        let request = Request::post(&self.address)
            .header(header::CONTENT_TYPE, "application/x-sentry-envelope")
            .header(header::USER_AGENT, AGENT)
            .header("x-sentry-auth", &self.auth)
            .body(Full::from(report))
            .map_err(|_| WebError::Address(String::new()))?;
        self.web.send(request).await
    }
}

/// How long Sentry wants to hear nothing.
fn pause_asked(answer: &Response<Bytes>) -> Option<Duration> {
    if answer.status() != StatusCode::TOO_MANY_REQUESTS {
        return None;
    }
    let seconds = answer.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    Some(seconds.map_or(PAUSE, Duration::from_secs).min(LONGEST_PAUSE))
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::TcpListener,
    };

    use sentry::protocol::Event;

    use super::*;

    fn post_to(listener: &TcpListener) -> Post {
        Post::start(&format!("http://key@{}/42", listener.local_addr().unwrap()).parse().unwrap()).unwrap()
    }

    fn report() -> Envelope {
        Event { message: Some("nothing".to_owned()), ..Event::new() }.into()
    }

    #[test]
    fn nobody_waits_for_a_sentry_that_does_not_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let post = post_to(&listener);
        let begun = Instant::now();
        for _ in 0..10 * QUEUE {
            post.send_envelope(report());
        }
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        assert!(!post.flush(Duration::from_millis(50)));
        assert!(*post.waiting.count.lock().unwrap() <= QUEUE + 1);
    }

    #[test]
    fn sentry_is_left_alone_when_it_asks_for_that() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let post = post_to(&listener);
        post.send_envelope(report());
        let (mut connection, _) = listener.accept().unwrap();
        assert!(connection.read(&mut [0; 4096]).unwrap() > 0);
        post.send_envelope(report());
        connection.write_all(b"HTTP/1.1 429 Slower\r\nretry-after: 30\r\ncontent-length: 0\r\n\r\n").unwrap();
        assert!(post.flush(Duration::from_secs(5)));
        connection.set_nonblocking(true).unwrap();
        listener.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_err());
        assert!(connection.read(&mut [0; 1]).is_err(), "the second report was sent");
    }
}
