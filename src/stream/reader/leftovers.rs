//! Consumers that readers before us left behind: found by their names, and deleted.
//!
//! Should one of them be in use after all, its reader notices and creates another.

use async_nats::jetstream::Context;
use serde::Deserialize;
use serde_json::json;
use tracing::{debug, warn};

use super::super::api;

/// What a consumer's name says: whose it is, and under which epoch it was created.
#[derive(Debug, PartialEq, Eq)]
struct Named<'a> {
    part: &'a str,
    epoch: u64,
}

impl<'a> Named<'a> {
    /// Reads `churnd-<part>-e<epoch>-…`.
    fn read(name: &'a str) -> Option<Self> {
        let (part, rest) = name.strip_prefix("churnd-")?.split_once("-e")?;
        let epoch = rest.split('-').next()?.parse().ok()?;
        Some(Self { part, epoch })
    }
}

/// A reader of the same messages created it, under a lease before ours, or we ourselves did, earlier.
fn is_left_behind(name: &str, ours: &str) -> bool {
    match (Named::read(name), Named::read(ours)) {
        (Some(theirs), Some(our)) => name != ours && theirs.part == our.part && theirs.epoch <= our.epoch,
        _ => false,
    }
}

/// Deletes the consumers that were left behind where the consumer `ours` is to be.
pub(super) async fn delete(context: &Context, stream: &str, ours: &str) {
    #[derive(Deserialize)]
    struct Page {
        total: usize,
        #[serde(default)]
        consumers: Option<Vec<String>>,
    }
    let (mut names, mut total) = (Vec::new(), 1);
    while names.len() < total {
        let subject = format!("CONSUMER.NAMES.{stream}");
        match api::request::<_, Page>(context, &subject, stream, &json!({ "offset": names.len() })).await {
            Ok(Page { total: all, consumers: Some(more) }) if !more.is_empty() => {
                total = all;
                names.extend(more);
            }
            Ok(_) => break,
            Err(error) => {
                debug!("cannot list the consumers of {stream}: {error}");
                break;
            }
        }
    }
    names.retain(|name| is_left_behind(name, ours));
    let mut deleted = 0_usize;
    for name in &names {
        deleted += usize::from(context.delete_consumer_from_stream(name, stream).await.is_ok());
    }
    warn!(consumer = ours, deleted, "the server takes no more consumers; deleted {deleted} that were left behind");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_readers_of_the_same_messages_under_our_epoch_or_an_earlier_one_are_succeeded() {
        let ours = "churnd-p012-e193-two_80-r4";
        let left = ["churnd-p012-e192-one-r1", "churnd-p012-e5-an-instance-r1", "churnd-p012-e193-two_80-r3"];
        let others = [
            ours,
            "churnd-p012-e194-one-r1",
            "churnd-p013-e192-one-r1",
            "churnd-all-e5-one-r1",
            "churnd-archive-e5-r1",
            "churnd-stripe",
            "alerts-p012-e1-x",
            "churnd-p012-ex-one-r1",
        ];
        assert!(left.iter().all(|name| is_left_behind(name, ours)));
        assert!(others.iter().all(|name| !is_left_behind(name, ours)));
        assert!(is_left_behind("churnd-archive-e5-r1", "churnd-archive-e6-r1"));
    }
}
