//! Partitions: who owns them, how far each is behind the stream, and whether the stream is still the one that was read.

use std::{collections::BTreeSet, time::Duration};

use anyhow::Context as _;
use async_nats::jetstream::{
    Context,
    consumer::{AckPolicy, DeliverPolicy, pull},
    stream::Stream,
};

use super::Finding;
use crate::{
    cli::output,
    store::{
        Store,
        leases::{Owner, Role},
    },
    stream::{
        EVENTS,
        reader::{Guard, check_rollback},
    },
};

/// A backlog that deserves a word.
const MUCH: u64 = 10_000;

/// Looks at all partitions; without NATS only at their owners.
pub(super) async fn look(store: &Store, context: Option<&Context>) -> Vec<Finding> {
    let owners = match store.owners().await {
        Ok(owners) => owners,
        Err(error) => {
            let text = format!("{:#}", anyhow::Error::new(error));
            return vec![Finding::fault("partitions", text, "look at Postgres' log")];
        }
    };
    let engine: Vec<&Owner> = owners.iter().filter(|owner| owner.role == Role::Engine).collect();
    if engine.is_empty() {
        let next = "start `churnd run` with the role engine";
        return vec![Finding::fault("partitions", "no churnd has scored anything with this database yet", next)];
    }
    let mut findings = vec![ownership(&engine)];
    findings.extend(archive(&owners));
    if let Some(context) = context {
        findings.extend(watermarks(context, &engine).await);
        findings.push(lag(context, &engine).await.unwrap_or_else(|error| {
            Finding::fault(
                "lag",
                format!("cannot be found out: {error:#}"),
                "run `churnd doctor` again; look at NATS' log",
            )
        }));
    }
    findings
}

fn ownership(engine: &[&Owner]) -> Finding {
    let free: Vec<String> =
        engine.iter().filter(|owner| owner.expired).map(|owner| owner.partition.0.to_string()).collect();
    if free.is_empty() {
        let instances: BTreeSet<&str> =
            engine.iter().filter_map(|owner| owner.owner.as_deref()).map(instance).collect();
        let names: Vec<&str> = instances.into_iter().collect();
        return Finding::fine("partitions", format!("all {} owned, by {}", engine.len(), names.join(", ")));
    }
    let text = format!("{} of {} partitions have no owner: {}", free.len(), engine.len(), free.join(", "));
    Finding::fault(
        "partitions",
        text,
        "start `churnd run` with the role engine, or look at its log; what is free is taken within seconds",
    )
}

/// `<instance>/<session>`
fn instance(owner: &str) -> &str {
    owner.split_once('/').map_or(owner, |(instance, _)| instance)
}

fn archive(owners: &[Owner]) -> Option<Finding> {
    let archive = owners.iter().find(|owner| owner.role == Role::Archive)?;
    Some(if archive.expired {
        Finding::note("archive", "nobody archives events")
            .with_next("start `churnd run` with the role archive, or ignore this")
    } else {
        Finding::fine("archive", format!("events up to {} are in Postgres", archive.watermark))
    })
}

/// Whether the stream still is what the watermarks count in.
async fn watermarks(context: &Context, engine: &[&Owner]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for owner in engine {
        let guard = check_rollback(context, EVENTS, owner.watermark, owner.watermark_time, None).await;
        let partition = owner.partition;
        let wrong = match guard {
            Ok(Guard::Fine { .. } | Guard::StreamRecreated { .. }) => continue,
            Ok(Guard::Truncated { last }) => {
                format!("partition {partition} stands at {}, but {EVENTS} ends at {last}", owner.watermark)
            }
            Ok(Guard::Rewritten { found, expected }) => format!(
                "at the place where partition {partition} stands, {EVENTS} holds a message of {found} instead of {expected}"
            ),
            Err(error) => format!("partition {partition} cannot be compared with {EVENTS}: {error}"),
        };
        let next = "the stream was restored or lost messages: restart churnd, which reads what is left again by time";
        findings.push(Finding::fault("watermark", wrong, next));
    }
    if findings.is_empty() {
        let newest = engine.iter().map(|owner| owner.watermark.0).max().unwrap_or_default();
        findings.push(Finding::fine("watermark", format!("up to {newest}, and the stream agrees")));
    }
    findings
}

async fn lag(context: &Context, engine: &[&Owner]) -> anyhow::Result<Finding> {
    let stream = context.get_stream(EVENTS).await.context("looking at the stream")?;
    let first = stream.cached_info().state.first_sequence;
    let (mut behind, mut missed) = (Vec::new(), 0);
    for owner in engine {
        let waiting = pending(&stream, owner).await?;
        if waiting > 0 {
            behind.push((waiting, owner.partition));
            missed = missed.max(first.saturating_sub(owner.watermark.0 + 1));
        }
    }
    let total: u64 = behind.iter().map(|(waiting, _)| waiting).sum();
    if missed > 0 {
        let text =
            format!("{EVENTS} begins {missed} messages after the place where scoring stands: what was between is lost");
        let next = "raise max_age and max_bytes of the stream, and keep churnd running; import the lost events again";
        return Ok(Finding::fault("lag", text, next));
    }
    behind.sort_unstable_by(|left, right| right.cmp(left));
    let worst: Vec<String> =
        behind.iter().take(3).map(|(waiting, partition)| format!("{partition}: {waiting}")).collect();
    Ok(match total {
        0 => Finding::fine("lag", "every event has been scored"),
        1..=MUCH => {
            Finding::fine("lag", format!("{} on the way ({})", output::counted(total, "event"), worst.join(", ")))
        }
        _ => Finding::note("lag", format!("{total} events wait to be scored (most in {})", worst.join(", ")))
            .with_next("run `churnd doctor` again: if the number does not fall, look at churnd's log"),
    })
}

/// The events of a partition behind its watermark, counted by the server for a consumer that nobody reads.
async fn pending(stream: &Stream, owner: &Owner) -> anyhow::Result<u64> {
    let config = pull::Config {
        deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: owner.watermark.0 + 1 },
        filter_subject: format!("churn.p.{}.>", owner.partition.0),
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
