//! Partitions: who owns them since when, whether they are shared evenly, and whether the stream is still the one that was read.

use std::collections::{BTreeMap, BTreeSet};

use async_nats::jetstream::Context;

use super::{Finding, lag};
use crate::{
    cli::output,
    event::time::Timestamp,
    pipeline::rollback::accounted,
    store::{
        Store, StoreError,
        leases::{Owner, Role},
    },
    stream::{
        EVENTS,
        reader::{Guard, check_rollback},
    },
};

/// Looks at all partitions; without NATS only at their owners.
pub(super) async fn look(store: &Store, context: Option<&Context>) -> Vec<Finding> {
    let owners = match store.owners().await {
        Ok(owners) => owners,
        Err(error) => return vec![unknown(error)],
    };
    let engine: Vec<&Owner> = owners.iter().filter(|owner| owner.role == Role::Engine).collect();
    if engine.is_empty() {
        let next = "start `churnd run` with the role engine";
        return vec![Finding::fault("partitions", "no churnd has scored anything with this database yet", next)];
    }
    let layout = match store.layout().await {
        Ok(layout) => layout.unwrap_or_default(),
        Err(error) => return vec![unknown(error)],
    };
    let living = match store.living(Role::Engine).await {
        Ok(living) => living,
        Err(error) => return vec![unknown(error)],
    };
    let mut findings = vec![ownership(&engine, &living)];
    if layout.is_changing() {
        let text = if layout.labelled == layout.number {
            format!("that the stream numbers by {} partitions is not certain yet", layout.number)
        } else {
            format!("doubling to {} partitions is not over", layout.number)
        };
        let next =
            format!("see that `churnd partitions {0}` runs, or run it again: it goes on where it was", layout.number);
        findings.push(Finding::note("partitions", text).with_next(next));
    }
    findings.extend(archive(&owners));
    if let Some(context) = context {
        findings.extend(watermarks(context, &owners).await);
        findings.push(lag::look(context, &layout, &engine).await);
    }
    findings
}

fn unknown(error: StoreError) -> Finding {
    Finding::fault("partitions", format!("{:#}", anyhow::Error::new(error)), "look at Postgres' log")
}

/// Who has what, and whether instances that are up have as many as the others.
fn ownership(engine: &[&Owner], living: &[String]) -> Finding {
    let mut shares: BTreeMap<&str, Vec<&Owner>> = living.iter().map(|owner| (owner.as_str(), Vec::new())).collect();
    let (free, owned): (Vec<&Owner>, Vec<&Owner>) = engine.iter().copied().partition(|owner| owner.expired);
    for owner in owned {
        shares.entry(owner.owner.as_deref().unwrap_or("nobody")).or_default().push(owner);
    }
    let is_twice = |name: &str| shares.keys().filter(|owner| instance(owner) == name).count() > 1;
    let name = |owner: &str| if is_twice(instance(owner)) { owner.to_owned() } else { instance(owner).to_owned() };
    let details = shares.iter().map(|(owner, share)| share_of(&name(owner), share)).collect();
    if !free.is_empty() {
        let names: Vec<String> = free.iter().map(|owner| owner.partition.to_string()).collect();
        let text = format!("{} of {} have no owner: {}", free.len(), engine.len(), names.join(", "));
        let next = "start `churnd run` with the role engine, or look at its log; what is free is taken within seconds";
        return Finding::fault("partitions", text, next).with_details(details);
    }
    let most = shares.values().map(Vec::len).max().unwrap_or_default();
    let least = shares.values().map(Vec::len).min().unwrap_or_default();
    let instances = output::counted(shares.len() as u64, "instance");
    let text = format!("all {} owned, by {instances}", engine.len());
    if most - least > 1 {
        let next = "run `churnd doctor` again: within a lease they are shared evenly; if not, look at the log of who has least";
        return Finding::note("partitions", format!("{text}, unevenly")).with_next(next).with_details(details);
    }
    Finding::fine("partitions", text).with_details(details)
}

/// `<instance>/<session>`
fn instance(owner: &str) -> &str {
    owner.split_once('/').map_or(owner, |(instance, _)| instance)
}

/// What an instance has, since when, and how often it changed hands.
fn share_of(instance: &str, share: &[&Owner]) -> String {
    let since = share.iter().filter_map(|owner| owner.since).min();
    let epochs = share.iter().map(|owner| owner.epoch.0);
    let (Some(first), Some(last)) = (epochs.clone().min(), epochs.max()) else {
        return format!("{instance}: none");
    };
    let epochs = if first == last { format!("epoch {first}") } else { format!("epochs {first} to {last}") };
    let since = since.map(|since| format!(", since {}", output::to_the_second(since))).unwrap_or_default();
    let names: Vec<String> = share.iter().map(|owner| owner.partition.to_string()).collect();
    format!("{instance}: {} ({}){since}, {epochs}", share.len(), names.join(" "))
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
async fn watermarks(context: &Context, owners: &[Owner]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let creations: BTreeSet<Option<Timestamp>> = owners.iter().map(|owner| owner.stream_created).collect();
    for created in creations {
        let accounted = accounted(owners, created);
        let watermark = accounted.watermark;
        let wrong = match check_rollback(context, EVENTS, accounted).await {
            Ok(Guard::Fine { .. } | Guard::StreamRecreated { .. }) => continue,
            Ok(Guard::Truncated { last, .. }) => {
                format!("{watermark} is accounted for, but {EVENTS} ends at {last}")
            }
            Ok(Guard::Rewritten { found, expected }) => {
                format!(
                    "the last message that is accounted for was stored at {expected}; {EVENTS} holds one of {found} there"
                )
            }
            Err(error) => format!("what is accounted for cannot be compared with {EVENTS}: {error}"),
        };
        let next = "the stream was restored or lost messages: restart churnd, which reads what is left again by time";
        findings.push(Finding::fault("watermark", wrong, next));
    }
    if findings.is_empty() {
        let newest = owners.iter().filter(|owner| owner.role == Role::Engine).map(|owner| owner.watermark.0).max();
        let newest = newest.unwrap_or_default();
        findings.push(Finding::fine("watermark", format!("up to {newest}, and the stream agrees")));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        engine::checkpoint::Counters,
        event::{
            ids::{Epoch, PartitionId, StreamSequence},
            time::Timestamp,
        },
    };

    /// Partition for partition who owns it, `-` where nobody does, and who is up.
    fn told(owners: &str, living: &str) -> Finding {
        let owner = |(name, id): (char, u16)| Owner {
            role: Role::Engine,
            partition: PartitionId(id),
            owner: (name != '-').then(|| format!("{name}/1")),
            epoch: Epoch(u64::from(id) + 2),
            since: Some(Timestamp::from_seconds(i64::from(id))),
            lease_until: None,
            expired: name == '-',
            watermark: StreamSequence(0),
            watermark_time: None,
            stream_created: None,
            rules_hash: None,
            counters: Counters::default(),
        };
        let owners: Vec<Owner> = owners.chars().zip(0..).map(owner).collect();
        let living: Vec<String> = living.chars().map(|name| format!("{name}/1")).collect();
        ownership(&owners.iter().collect::<Vec<_>>(), &living)
    }

    fn details(lines: [&str; 2]) -> Vec<String> {
        lines.map(str::to_owned).to_vec()
    }

    #[test]
    fn who_owns_what_since_when() {
        let shares = [
            "a: 2 (p000 p001), since 1970-01-01T00:00:00Z, epochs 2 to 3",
            "b: 1 (p002), since 1970-01-01T00:00:02Z, epoch 4",
        ];
        assert_eq!(
            told("aab", "ab"),
            Finding::fine("partitions", "all 3 owned, by 2 instances").with_details(details(shares))
        );
    }

    #[test]
    fn shares_that_are_not_even_are_told() {
        let uneven = |told: &Finding| format!("{told:?}").contains("all 3 owned, by 2 instances, unevenly");
        let idle = told("aaa", "ab");
        assert!(uneven(&idle) && format!("{idle:?}").contains("b: none"), "{idle:?}");
        assert!(!uneven(&told("aab", "ab")));
        // Who died and was not succeeded yet still has its share.
        assert!(!uneven(&told("aab", "a")));
    }

    #[test]
    fn partitions_that_nobody_owns_are_a_fault() {
        let told = format!("{:?}", told("a--", "a"));
        assert!(told.contains("Fault") && told.contains("2 of 3 have no owner: p001, p002"), "{told}");
    }
}
