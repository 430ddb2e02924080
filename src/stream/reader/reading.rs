//! Reading without knowing the source: what the pipeline holds, so that a simulation can hand it another.
//!
//! Calls go through it once per batch, never per message.

use std::sync::Arc;

use futures_util::{FutureExt as _, future::BoxFuture};

use super::{
    Accounted, Guard, RawMessage, ReadBatch, Reader, ReaderConfig, ReaderCounters, ReaderError, Source, check_rollback,
    last_before,
};
use crate::{
    event::{ids::StreamSequence, time::Timestamp},
    stream::StreamError,
};

/// Streams that can be read.
pub trait Reading: Send + Sync {
    /// Prepares a reader, see [`Reader::open`].
    fn open(&self, stream: &str, config: ReaderConfig, counters: Arc<ReaderCounters>) -> Box<dyn Batches>;
    /// Compares a stream with what was accounted for, see [`check_rollback`].
    fn check_rollback<'a>(&'a self, stream: &'a str, accounted: Accounted)
    -> BoxFuture<'a, Result<Guard, StreamError>>;
    /// The last sequence whose message was stored before an instant, see [`last_before`].
    fn last_before<'a>(
        &'a self,
        stream: &'a str,
        instant: Timestamp,
    ) -> BoxFuture<'a, Result<StreamSequence, StreamError>>;
}

/// A stream's messages, batch by batch: a [`Reader`] of some source.
pub trait Batches: Send {
    /// See [`Reader::next_batch`].
    fn next_batch(&mut self) -> BoxFuture<'_, Result<ReadBatch, ReaderError>>;
    /// See [`Reader::recycle`].
    fn recycle(&mut self, messages: Vec<RawMessage>);
    /// See [`Reader::close`].
    fn close(self: Box<Self>) -> BoxFuture<'static, ()>;
}

impl<S: Source> Reading for S {
    fn open(&self, stream: &str, config: ReaderConfig, counters: Arc<ReaderCounters>) -> Box<dyn Batches> {
        Box::new(Reader::open(self, stream, config).with_counters(counters))
    }

    fn check_rollback<'a>(
        &'a self,
        stream: &'a str,
        accounted: Accounted,
    ) -> BoxFuture<'a, Result<Guard, StreamError>> {
        check_rollback(self, stream, accounted).boxed()
    }

    fn last_before<'a>(
        &'a self,
        stream: &'a str,
        instant: Timestamp,
    ) -> BoxFuture<'a, Result<StreamSequence, StreamError>> {
        last_before(self, stream, instant).boxed()
    }
}

impl<S: Source> Batches for Reader<S> {
    fn next_batch(&mut self) -> BoxFuture<'_, Result<ReadBatch, ReaderError>> {
        Reader::next_batch(self).boxed()
    }

    fn recycle(&mut self, messages: Vec<RawMessage>) {
        Reader::recycle(self, messages);
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Reader::close(*self).boxed()
    }
}
