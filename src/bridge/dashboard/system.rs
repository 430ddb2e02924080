//! The system: who works on what and how far it is, and the account's dead letters with a second chance.
//!
//! Partitions and instances serve all accounts, so the setting `dashboard.system` decides whether they are shown. Letters are the
//! visitor's account's own: whatever is shown or replayed is looked for under its subjects.

use std::{collections::BTreeMap, time::Duration};

use askama::Template;
use axum::{
    extract::State,
    response::{IntoResponse, Redirect, Response},
};
use tokio::time::timeout;
use tracing::warn;

use super::{
    super::{error::ApiError, query::Checked, state::Bridge},
    error::PageError,
    form::Posted,
    layout::{Frame, Page, SYSTEM},
    session::Visitor,
    words::{When, count},
};
use crate::{
    event::{
        ids::{AccountId, StreamSequence},
        time::Timestamp,
    },
    pipeline::second_chance::verdict,
    store::{
        StoreError,
        leases::{Owner, Role},
    },
    stream::{
        EVENTS, StreamError,
        dead::{self, ReplayError, Selection, StoredLetter},
        erase,
    },
};

/// Letters of a page.
const LETTERS: usize = 25;
/// Letters that are replayed at once.
const AT_ONCE: usize = 500;
/// How long a page waits for NATS.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long replaying many may take.
const REPLAY_PATIENCE: Duration = Duration::from_secs(20);
/// The most characters of a body that are shown.
const PREVIEW: usize = 400;
/// An owner that has not shown for so long is worth a word.
const LATE_SECONDS: i64 = 20;

#[derive(Template)]
#[template(path = "dashboard/system.html")]
pub(super) struct SystemPage {
    frame: Frame,
    notice: Option<Notice>,
    system: Option<SystemState>,
    letters: Option<Letters>,
}

/// What was just done.
struct Notice {
    class: &'static str,
    text: String,
}

/// Who works on what.
struct SystemState {
    instances: Vec<Instance>,
    partitions: Vec<Partition>,
    free: usize,
    behind: Option<u64>,
    newest: Option<When>,
    archive: Option<Partition>,
}

struct Instance {
    name: String,
    partitions: usize,
    archives: bool,
}

struct Partition {
    number: u16,
    owner: Option<String>,
    is_late: bool,
    seen: String,
    watermark: String,
    newest: Option<When>,
    behind: Option<String>,
    dead: String,
}

/// A page of dead letters, the oldest first.
struct Letters {
    rows: Vec<Letter>,
    next: Option<u64>,
}

struct Letter {
    sequence: u64,
    stored_at: When,
    reason: String,
    detail: String,
    stage: String,
    subject: String,
    preview: String,
    size: String,
    /// Why it would be refused again.
    problem: Option<String>,
}

/// Which letters, and what was just done.
#[derive(Debug, serde::Deserialize)]
pub(super) struct SystemQuery {
    #[serde(default)]
    after: Option<String>,
    #[serde(default)]
    replayed: Option<String>,
    #[serde(default)]
    stayed: Option<String>,
}

/// `GET /dashboard/system`
pub(super) async fn system(
    State(bridge): State<Bridge>,
    visitor: Visitor,
    Checked(query): Checked<SystemQuery>,
) -> Result<Page<SystemPage>, PageError> {
    let number = |text: Option<&String>| text.and_then(|text| text.parse::<u64>().ok());
    let after = number(query.after.as_ref()).unwrap_or(0);
    let replayed = number(query.replayed.as_ref());
    let notice = replayed.map(|replayed| notice(replayed, number(query.stayed.as_ref()).unwrap_or(0)));
    let system = if bridge.dashboard.system { Some(look(&bridge).await?) } else { None };
    let letters = match timeout(PATIENCE, letters(&bridge, &visitor.account, after)).await {
        Ok(Ok(letters)) => Some(letters),
        Ok(Err(error)) => {
            warn!("dead letters cannot be shown: {error}");
            None
        }
        Err(_) => {
            warn!("dead letters cannot be shown: NATS took too long, or does not allow it");
            None
        }
    };
    Ok(Page(SystemPage { frame: Frame::new(&visitor, SYSTEM, "System"), notice, system, letters }))
}

/// `POST /dashboard/system/replay`: one letter, or all that would be accepted today.
pub(super) async fn replay(State(bridge): State<Bridge>, posted: Posted) -> Result<Response, PageError> {
    let Posted { visitor, fields } = posted;
    let (replayed, stayed) = match fields.filled("sequence").map(str::parse) {
        Some(Ok(sequence)) => {
            replay_one(&bridge, &visitor.account, StreamSequence(sequence)).await?;
            (1, 0)
        }
        None if fields.get("all") == "yes" => replay_all(&bridge, &visitor.account).await?,
        _ => return Err(PageError::NotFound),
    };
    Ok(Redirect::to(&format!("/dashboard/system?replayed={replayed}&stayed={stayed}#letters")).into_response())
}

impl SystemPage {
    fn csrf(&self) -> &str {
        &self.frame.visitor.csrf
    }
}

fn notice(replayed: u64, stayed: u64) -> Notice {
    let letters = |number: u64| if number == 1 { "1 letter".to_owned() } else { format!("{} letters", count(number)) };
    let mut text = format!("{} sent again.", letters(replayed));
    if stayed > 0 {
        text += &format!(" {} would be refused again and stayed.", letters(stayed));
    } else if replayed > 0 {
        text += " What is refused again comes back here within seconds.";
    }
    Notice { class: if replayed == 0 { "warn" } else { "good" }, text }
}

async fn look(bridge: &Bridge) -> Result<SystemState, StoreError> {
    let (owners, now) = (bridge.store.owners().await?, bridge.now());
    let last = match timeout(PATIENCE, erase::last_sequence(bridge.letters.context(), EVENTS)).await {
        Ok(Ok(last)) => Some(last),
        Ok(Err(_)) | Err(_) => None,
    };
    let lease = bridge.store.lease();
    let row = |owner: &Owner| partition(owner, last, now, lease);
    let engine: Vec<&Owner> = owners.iter().filter(|owner| owner.role == Role::Engine).collect();
    let lowest = engine.iter().map(|owner| owner.watermark).min();
    Ok(SystemState {
        instances: instances(&owners),
        partitions: engine.iter().map(|owner| row(owner)).collect(),
        free: engine.iter().filter(|owner| owner.expired).count(),
        behind: last.zip(lowest).map(|(last, lowest)| last.0.saturating_sub(lowest.0)),
        newest: engine.iter().filter_map(|owner| owner.watermark_time).max().map(When),
        archive: owners.iter().find(|owner| owner.role == Role::Archive).map(row),
    })
}

fn partition(owner: &Owner, last: Option<StreamSequence>, now: Timestamp, lease: Duration) -> Partition {
    let seen = owner.lease_until.map(|until| now.millis_since(until.minus(lease)).max(0) / 1_000);
    Partition {
        number: owner.partition.0,
        owner: owner.owner.as_deref().filter(|_| !owner.expired).map(instance_of).map(str::to_owned),
        is_late: owner.expired || seen.is_none_or(|seconds| seconds > LATE_SECONDS),
        seen: seen.map_or("never".to_owned(), ago),
        watermark: count(owner.watermark.0),
        newest: owner.watermark_time.map(When),
        behind: last.map(|last| count(last.0.saturating_sub(owner.watermark.0))),
        dead: count(owner.counters.dead),
    }
}

/// `<instance>/<session>`
fn instance_of(owner: &str) -> &str {
    owner.split_once('/').map_or(owner, |(instance, _)| instance)
}

fn ago(seconds: i64) -> String {
    match seconds {
        ..60 => format!("{seconds} s ago"),
        60..3_600 => format!("{} min ago", seconds / 60),
        3_600..172_800 => format!("{} h ago", seconds / 3_600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

fn instances(owners: &[Owner]) -> Vec<Instance> {
    let mut by_name: BTreeMap<&str, (usize, bool)> = BTreeMap::new();
    for owner in owners.iter().filter(|owner| !owner.expired) {
        let Some(name) = owner.owner.as_deref().map(instance_of) else { continue };
        let entry = by_name.entry(name).or_default();
        match owner.role {
            Role::Engine => entry.0 += 1,
            Role::Archive => entry.1 = true,
        }
    }
    let of = |(name, (partitions, archives)): (&str, _)| Instance { name: name.to_owned(), partitions, archives };
    by_name.into_iter().map(of).collect()
}

async fn letters(bridge: &Bridge, account: &AccountId, after: u64) -> Result<Letters, StreamError> {
    let selection = Selection {
        account: Some(account.to_string()),
        after: StreamSequence(after),
        limit: Some(LETTERS + 1),
        ..Selection::default()
    };
    let mut stored = dead::list(bridge.letters.context(), &selection).await?;
    let has_more = stored.len() > LETTERS;
    stored.truncate(LETTERS);
    let next = stored.last().filter(|_| has_more).map(|last| last.sequence.0);
    Ok(Letters { rows: stored.iter().map(|stored| letter(stored, account)).collect(), next })
}

fn letter(stored: &StoredLetter, account: &AccountId) -> Letter {
    let StoredLetter { letter, .. } = stored;
    let text = String::from_utf8_lossy(&letter.payload);
    let mut preview: String =
        text.chars().take(PREVIEW).map(|char| if char.is_control() { '·' } else { char }).collect();
    if text.chars().nth(PREVIEW).is_some() {
        preview.push('…');
    }
    let bytes = stored.truncated.unwrap_or(letter.payload.len());
    Letter {
        sequence: stored.sequence.0,
        stored_at: When(stored.stored_at),
        reason: letter.reason.clone(),
        detail: letter.detail.clone(),
        stage: letter.stage.clone(),
        subject: letter.subject.clone(),
        preview,
        size: count(bytes as u64),
        problem: would_be_accepted(stored, account).err(),
    }
}

fn would_be_accepted(stored: &StoredLetter, account: &AccountId) -> Result<(), String> {
    verdict(stored, |known| known == account.as_str())
}

async fn replay_one(bridge: &Bridge, account: &AccountId, sequence: StreamSequence) -> Result<(), PageError> {
    let context = bridge.letters.context();
    let found = timeout(PATIENCE, dead::get(context, sequence)).await.map_err(|_| away())?;
    // A letter of another account answers as one that is not there.
    let own = format!("churn.dead.{account}.");
    let is_own = |stored: &StoredLetter| stored.letter.dead_subject.starts_with(&own);
    if !found.map_err(unreachable)?.as_ref().is_some_and(is_own) {
        return Err(PageError::NotFound);
    }
    match timeout(REPLAY_PATIENCE, dead::replay(&bridge.letters, sequence)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(ReplayError::Missing(_))) => Err(PageError::NotFound),
        Ok(Err(error)) => Err(unreachable(error)),
        Err(_) => Err(away()),
    }
}

/// Replays what would be accepted today; says how many, and how many stay.
async fn replay_all(bridge: &Bridge, account: &AccountId) -> Result<(u64, u64), PageError> {
    let selection = Selection { account: Some(account.to_string()), limit: Some(AT_ONCE), ..Selection::default() };
    let work = async {
        let (mut replayed, mut stayed) = (0, 0);
        for stored in dead::list(bridge.letters.context(), &selection).await.map_err(unreachable)? {
            if would_be_accepted(&stored, account).is_err() {
                stayed += 1;
                continue;
            }
            match dead::replay(&bridge.letters, stored.sequence).await {
                Ok(_) => replayed += 1,
                // Somebody else was faster.
                Err(ReplayError::Missing(_)) => {}
                Err(error) => return Err(unreachable(error)),
            }
        }
        Ok((replayed, stayed))
    };
    timeout(REPLAY_PATIENCE, work).await.map_err(|_| away())?
}

fn away() -> PageError {
    ApiError::unavailable("NATS does not answer right now: the letters are kept, try again", 2).into()
}

fn unreachable(error: impl Into<anyhow::Error>) -> PageError {
    ApiError::unavailable("the letter could not be sent again: it is kept, try again", 2).because(error).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_short() {
        assert_eq!([5, 61, 7_200, 200_000].map(ago), ["5 s ago", "1 min ago", "2 h ago", "2 days ago"]);
    }

    #[test]
    fn what_was_done_is_told() {
        assert_eq!(notice(1, 0).text, "1 letter sent again. What is refused again comes back here within seconds.");
        assert_eq!(notice(0, 2).text, "0 letters sent again. 2 letters would be refused again and stayed.");
    }
}
