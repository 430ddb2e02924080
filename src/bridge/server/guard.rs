//! A connection whose incoming bytes are followed: what is ambiguous never reaches the parser.
//!
//! From the offending line on, the bytes are replaced by one that no head and no chunk's size may hold, and by the end of the
//! stream. The parser then answers 400 in its turn, after the answers to earlier requests, and closes. A peer that does not
//! take what it asked for is cut off as well.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

use super::framing::{Framing, Violation};

/// No part of a message may hold it where a violation can be found.
const POISON: u8 = 0;
/// How long a peer may take none of an answer.
const STALL: Duration = Duration::from_secs(30);

/// A connection between the network and the parser.
pub(super) struct Guarded<S, F> {
    stream: S,
    framing: Framing,
    /// Told once, when the connection is refused.
    on_violation: Option<F>,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S, F: FnOnce(Violation)> Guarded<S, F> {
    pub(super) fn new(stream: S, on_violation: F) -> Self {
        Self { stream, framing: Framing::default(), on_violation: Some(on_violation), stalled: None }
    }

    /// A write that makes no progress for too long is an error.
    fn bound<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + STALL)));
        ready!(stalled.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer takes no answer")))
    }
}

impl<S: AsyncRead + Unpin, F: FnOnce(Violation) + Unpin> AsyncRead for Guarded<S, F> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.on_violation.is_none() {
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let Err(refusal) = self.framing.follow(&buffer.filled()[before..]) else { return Poll::Ready(Ok(())) };
        buffer.set_filled(before + refusal.at);
        buffer.put_slice(&[POISON]);
        if let Some(tell) = self.on_violation.take() {
            tell(refusal.violation);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin, F: FnOnce(Violation) + Unpin> AsyncWrite for Guarded<S, F> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.bound(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.bound(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.bound(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(context);
        self.bound(context, shut)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn what_is_behind_a_violation_is_never_read() {
        let (mut client, server) = tokio::io::duplex(1024);
        let told = Cell::new(None);
        let mut guarded = Guarded::new(server, |violation| told.set(Some(violation)));
        let good = "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n";
        let bad = "Content-Length: 1, 2\r\n\r\nGET /3 HTTP/1.1\r\nHost: a\r\n\r\n";
        client.write_all(good.as_bytes()).await.unwrap();
        client.write_all(bad.as_bytes()).await.unwrap();
        let mut read = Vec::new();
        guarded.read_to_end(&mut read).await.unwrap();
        assert_eq!(read.pop(), Some(POISON));
        assert!(read.starts_with(good.as_bytes()) && format!("{good}{bad}").as_bytes().starts_with(&read));
        assert!(!read.ends_with(b"\n\r\n"), "the head that is refused never ends");
        assert_eq!(guarded.read(&mut [0; 8]).await.unwrap(), 0);
        drop(guarded);
        assert_eq!(told.get(), Some(Violation::ContentLength));
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_cut_off() {
        let (mut client, server) = tokio::io::duplex(16);
        let mut guarded = Guarded::new(server, |_| {});
        let began = Instant::now();
        let error = guarded.write_all(&[0; 64]).await.unwrap_err();
        assert_eq!((error.kind(), began.elapsed().as_secs()), (io::ErrorKind::TimedOut, STALL.as_secs()));
        client.read_exact(&mut [0; 16]).await.unwrap();
        guarded.write_all(&[0; 16]).await.unwrap();
    }
}
