//! How many events wait to be scored, and whether some were lost before.

use std::time::Duration;

use anyhow::Context as _;
use async_nats::jetstream::{
    Context,
    consumer::{AckPolicy, DeliverPolicy, pull},
    stream::Stream,
};

use super::Finding;
use crate::{
    cli::output,
    event::ids::StreamSequence,
    store::{leases::Owner, partitioning::Layout},
    stream::EVENTS,
};

/// A backlog that deserves a word.
const MUCH: u64 = 10_000;

/// What waits behind the watermarks.
#[derive(Default)]
struct Backlog {
    waiting: u64,
    /// Messages that the stream dropped before they were scored, at most.
    missed: u64,
    /// Partitions cannot be told apart, so what is counted is the most that it can be.
    is_bound: bool,
    /// The partitions with most, beginning with the worst.
    worst: Vec<String>,
}

/// Counts what waits.
pub(super) async fn look(context: &Context, layout: &Layout, engine: &[&Owner]) -> Finding {
    let backlog = match count(context, layout, engine).await {
        Ok(backlog) => backlog,
        Err(error) => {
            let text = format!("cannot be found out: {error:#}");
            return Finding::fault("lag", text, "run `churnd doctor` again; look at NATS' log");
        }
    };
    let Backlog { waiting, missed, is_bound, worst } = backlog;
    if missed > 0 && is_bound {
        let text = format!("{EVENTS} begins up to {missed} messages after the place where scoring stands");
        let next =
            "run `churnd doctor` again when the doubling of partitions is over: it says then whether events were lost";
        return Finding::note("lag", text).with_next(next);
    }
    if missed > 0 {
        let text =
            format!("{EVENTS} begins {missed} messages after the place where scoring stands: what was between is lost");
        let next = "raise max_age and max_bytes of the stream, and keep churnd running; import the lost events again";
        return Finding::fault("lag", text, next);
    }
    let events = output::counted(waiting, "event");
    let place = if is_bound {
        "at most, while partitions are doubled".to_owned()
    } else {
        format!("most in {}", worst.join(", "))
    };
    match waiting {
        0 => Finding::fine("lag", "every event has been scored"),
        1..=MUCH => Finding::fine("lag", format!("{events} on the way ({place})")),
        _ => Finding::note("lag", format!("{waiting} events wait to be scored ({place})"))
            .with_next("run `churnd doctor` again: if the number does not fall, look at churnd's log"),
    }
}

async fn count(context: &Context, layout: &Layout, engine: &[&Owner]) -> anyhow::Result<Backlog> {
    let stream = context.get_stream(EVENTS).await.context("looking at the stream")?;
    let first = stream.cached_info().state.first_sequence;
    let missed = |after: StreamSequence| first.saturating_sub(after.0 + 1);
    if !engine.iter().all(|owner| layout.may_filter_after(owner.watermark)) {
        // Messages still carry numbers of before: only the least watermark says what has been scored for certain.
        let least = engine.iter().map(|owner| owner.watermark).min().unwrap_or_default();
        let waiting = pending(&stream, "churn.p.>".to_owned(), least).await?;
        let missed = if waiting > 0 { missed(least) } else { 0 };
        return Ok(Backlog { waiting, missed, is_bound: true, worst: Vec::new() });
    }
    let (mut backlog, mut behind) = (Backlog::default(), Vec::new());
    for owner in engine {
        let waiting = pending(&stream, format!("churn.p.{}.>", owner.partition.0), owner.watermark).await?;
        if waiting > 0 {
            behind.push((waiting, owner.partition));
            backlog.waiting += waiting;
            backlog.missed = backlog.missed.max(missed(owner.watermark));
        }
    }
    behind.sort_unstable_by(|left, right| right.cmp(left));
    backlog.worst = behind.iter().take(3).map(|(waiting, partition)| format!("{partition}: {waiting}")).collect();
    Ok(backlog)
}

/// The messages of a subject behind a place, counted by the server for a consumer that nobody reads.
async fn pending(stream: &Stream, filter_subject: String, after: StreamSequence) -> anyhow::Result<u64> {
    let config = pull::Config {
        deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: after.0 + 1 },
        filter_subject,
        ack_policy: AckPolicy::None,
        memory_storage: true,
        num_replicas: 1,
        inactive_threshold: Duration::from_secs(5),
        ..pull::Config::default()
    };
    let consumer = stream.create_consumer(config).await.context("counting with a consumer")?;
    let info = consumer.cached_info();
    let (waiting, name) = (info.num_pending, info.name.clone());
    if let Err(error) = stream.delete_consumer(&name).await {
        tracing::debug!("a consumer for counting is left to the server: {error}");
    }
    Ok(waiting)
}
