//! What arrived without our knowing: messages that were sent before a crash and confirmed after it, or confirmed without
//! progress being remembered. The stream's duplicate window forgets them after minutes, so the stream itself is read.

use std::collections::HashSet;

use anyhow::Context as _;
use async_nats::jetstream::Context;
use uuid::Uuid;

use super::{
    WINDOW, connect,
    message::id_of,
    progress::{Progress, SAVE_EVERY},
};
use crate::{
    cli::lines::Input,
    event::ids::{AccountId, StreamSequence},
    stream::{
        EVENTS,
        reader::{Reader, ReaderConfig},
    },
};

/// How many lines behind the remembered place may have been sent.
const IN_DOUBT: usize = 2 * WINDOW + SAVE_EVERY;

/// The ids of messages behind the remembered place that the stream holds.
pub(super) async fn arrived(
    context: &Context,
    events: &Input,
    account: &AccountId,
    begun: &Progress,
) -> anyhow::Result<HashSet<String>> {
    let sent = ids_in_doubt(events, account, begun)?;
    let last = connect::last_sequence(context, EVENTS).await?;
    let mut arrived = HashSet::new();
    let name = format!("churnd-publish-{}", Uuid::new_v4().simple());
    let mut config = ReaderConfig::new(name, StreamSequence(begun.sequence.min(last)));
    config.filter = Some(format!("churn.p.*.{account}.*"));
    let mut reader = Reader::open(context, EVENTS, config);
    while reader.position().0 < last && arrived.len() < sent.len() {
        let batch = reader.next_batch().await.context("cannot find out what the last run has published")?;
        let ids = batch.messages.iter().filter_map(|message| message.message_id());
        arrived.extend(ids.filter(|id| sent.contains(*id)).map(str::to_owned));
        if batch.caught_up_to.is_some_and(|sequence| sequence.0 >= last) {
            break;
        }
    }
    reader.close().await;
    Ok(arrived)
}

fn ids_in_doubt(events: &Input, account: &AccountId, begun: &Progress) -> anyhow::Result<HashSet<String>> {
    let mut lines = events.open_at(begun.offset, begun.line)?;
    let mut ids = HashSet::new();
    for _ in 0..IN_DOUBT {
        let Some(line) = lines.next_line().with_context(|| format!("cannot read {events}"))? else { break };
        ids.extend(id_of(line, account));
    }
    Ok(ids)
}
