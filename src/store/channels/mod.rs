//! Channels: where an account's alerts go, and which of them.
//!
//! Targets stand in the table in clear, because they must be sent as they are; they leave this module as secrets, and no
//! message shows them. A channel that was removed keeps its row without its target, for the deliveries that name it.

mod settings; // which alerts it takes, when, in which words
mod target; // where its messages go

use deadpool_postgres::tokio_postgres::{
    Row,
    types::{Json, ToSql},
};
use uuid::Uuid;

use self::target::StoredTarget;
pub use self::{
    settings::{QuietHours, Settings, Templates},
    target::{ChannelKind, Target, new_webhook_secret},
};
use super::{
    Store,
    error::StoreError,
    keys,
    values::{PgText, RowReader},
};
use crate::event::{ids::AccountId, time::Timestamp};

/// A channel as it is stored.
#[derive(Clone, Debug)]
pub struct Channel {
    /// Its id.
    pub id: Uuid,
    /// Whose it is.
    pub account: AccountId,
    /// What people call it; unique within the account.
    pub name: String,
    /// Where messages go.
    pub target: Target,
    /// Which alerts it takes, and when.
    pub settings: Settings,
    /// The account's own words.
    pub templates: Templates,
    /// Since when it is there.
    pub created_at: Timestamp,
    /// When it was changed last.
    pub updated_at: Timestamp,
    /// It takes alerts and sends nothing: since when, and why.
    pub paused: Option<(Timestamp, String)>,
    /// Since when nothing arrives.
    pub failing_since: Option<Timestamp>,
    /// How many tries failed since then.
    pub failures: u32,
    /// Why the last try failed.
    pub last_error: Option<String>,
}

/// A channel to be added.
#[derive(Clone, Debug)]
pub struct NewChannel {
    /// What people call it; unique within the account.
    pub name: String,
    /// Where messages go.
    pub target: Target,
    /// Which alerts it takes, and when.
    pub settings: Settings,
    /// The account's own words.
    pub templates: Templates,
}

/// What is changed of a channel; what is absent stays.
#[derive(Clone, Debug, Default)]
pub struct ChannelChange {
    /// Another name.
    pub name: Option<String>,
    /// Another target, of the same kind.
    pub target: Option<Target>,
    /// Other settings.
    pub settings: Option<Settings>,
    /// Other words.
    pub templates: Option<Templates>,
}

/// Why a channel is paused that a person paused.
pub const PAUSED_BY_HAND: &str = "paused by hand";

const MAX_NAME_CHARACTERS: usize = 64;

pub(super) const COLUMNS: &str =
    "id, account, name, kind, target, settings, templates, created_at, updated_at, paused_at,
    paused_reason, failing_since, failures, last_error";
const ADD: &str = "
    INSERT INTO channels (id, account, name, kind, target, settings, templates) VALUES ($1, $2, $3, $4, $5, $6, $7)
    ON CONFLICT (account, name) WHERE removed_at IS NULL DO NOTHING";
const CHANGE: &str = "
    UPDATE channels SET name = coalesce($3, name), target = coalesce($4, target), settings = coalesce($5, settings),
        templates = coalesce($6, templates), retry_at = NULL, updated_at = now()
    WHERE account = $1 AND id = $2 AND removed_at IS NULL AND kind = coalesce($7, kind)
    RETURNING id";
const IS_TAKEN: &str = "SELECT FROM channels WHERE account = $1 AND name = $2 AND id <> $3 AND removed_at IS NULL";
/// What waits is planned anew: by other settings it may be due.
const WAKE: &str = "UPDATE deliveries SET next_attempt_at = least(next_attempt_at, now()), held_reason = NULL
    WHERE channel_id = $1 AND state = 'pending'";
const PAUSE: &str = "UPDATE channels SET paused_at = now(), paused_reason = $3, updated_at = now()
    WHERE account = $1 AND id = $2 AND paused_at IS NULL AND removed_at IS NULL RETURNING id";
const RESUME: &str = "
    UPDATE channels SET paused_at = NULL, paused_reason = NULL, failing_since = NULL, failures = 0, retry_at = NULL,
        updated_at = now()
    WHERE account = $1 AND id = $2 AND removed_at IS NULL RETURNING id";
const REMOVE: &str = "
    UPDATE channels SET removed_at = now(), updated_at = now(), target = '{}', templates = '{}', paused_at = NULL,
        paused_reason = NULL, failing_since = NULL, claimed_by = NULL, claimed_until = NULL
    WHERE account = $1 AND id = $2 AND removed_at IS NULL RETURNING id";
const CANCEL: &str = "UPDATE deliveries SET state = 'canceled' WHERE channel_id = $1 AND state = 'pending'";

impl Store {
    /// Adds a channel; gives its id.
    pub async fn add_channel(&self, account: &AccountId, new: &NewChannel) -> Result<Uuid, StoreError> {
        let id = Uuid::now_v7();
        let (target, kind) = (Json(StoredTarget::of(&new.target)), new.target.kind().as_str());
        let (settings, templates) = (Json(&new.settings), Json(&new.templates));
        let (name, target, settings, templates) = (new.name.as_str(), &target, &settings, &templates);
        let added = self
            .transaction_of(account, "add a channel", move |tx| async move {
                keys::lock_account(&tx, account).await?;
                tx.execute(ADD, &[&id, &account.as_str(), &name, &kind, target, settings, templates]).await
            })
            .await?;
        if added == 0 { Err(StoreError::ChannelExists(new.name.clone())) } else { Ok(id) }
    }

    /// Changes a channel; false if there is none of this id and kind. What waits is sent as it is then to be.
    pub async fn change_channel(
        &self,
        account: &AccountId,
        id: Uuid,
        change: &ChannelChange,
    ) -> Result<bool, StoreError> {
        let target = change.target.as_ref().map(|target| Json(StoredTarget::of(target)));
        let kind = change.target.as_ref().map(|target| target.kind().as_str());
        let (settings, templates) = (change.settings.as_ref().map(Json), change.templates.as_ref().map(Json));
        let (target, settings, templates) = (&target, &settings, &templates);
        self.transaction_of(account, "change a channel", move |tx| async move {
            keys::lock_account(&tx, account).await?;
            if let Some(name) = &change.name
                && !tx.query(IS_TAKEN, &[&account.as_str(), name, &id]).await?.is_empty()
            {
                return Err(StoreError::ChannelExists(name.clone()));
            }
            let parameters: [&(dyn ToSql + Sync); 7] =
                [&account.as_str(), &id, &change.name, target, settings, templates, &kind];
            let changed = !tx.query(CHANGE, &parameters).await?.is_empty();
            if changed {
                tx.execute(WAKE, &[&id]).await?;
            }
            Ok(changed)
        })
        .await
    }

    /// An account's channels by name.
    pub async fn list_channels(&self, account: &AccountId) -> Result<Vec<Channel>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM channels WHERE account = $1 AND removed_at IS NULL ORDER BY name");
        let rows = self.statement_of(account, "list the channels", &sql, &[&account.as_str()]).await?;
        rows.iter().map(read_channel).collect()
    }

    /// One of an account's channels.
    pub async fn channel(&self, account: &AccountId, id: Uuid) -> Result<Option<Channel>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM channels WHERE account = $1 AND id = $2 AND removed_at IS NULL");
        let rows = self.statement_of(account, "load a channel", &sql, &[&account.as_str(), &id]).await?;
        rows.first().map(read_channel).transpose()
    }

    /// Channels of all accounts that are paused or where nothing arrives.
    pub async fn troubled_channels(&self) -> Result<Vec<Channel>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM channels
             WHERE removed_at IS NULL AND (paused_at IS NOT NULL OR failing_since IS NOT NULL) ORDER BY account, name"
        );
        self.statement("look at the channels", &sql, &[]).await?.iter().map(read_channel).collect()
    }

    /// Pauses a channel: it goes on taking alerts and sends none. False if it was paused, or is not there.
    pub async fn pause_channel(&self, account: &AccountId, id: Uuid, reason: &str) -> Result<bool, StoreError> {
        let rows =
            self.statement_of(account, "pause a channel", PAUSE, &[&account.as_str(), &id, &PgText(reason)]).await?;
        Ok(!rows.is_empty())
    }

    /// Has a channel send again what waited, at once and whatever it failed with before; false if it is not there.
    pub async fn resume_channel(&self, account: &AccountId, id: Uuid) -> Result<bool, StoreError> {
        self.transaction_of(account, "resume a channel", move |tx| async move {
            let resumed = !tx.query(RESUME, &[&account.as_str(), &id]).await?.is_empty();
            if resumed {
                tx.execute(WAKE, &[&id]).await?;
            }
            Ok(resumed)
        })
        .await
    }

    /// Removes a channel, its secrets, and what it had not sent; false if it is not there.
    pub async fn remove_channel(&self, account: &AccountId, id: Uuid) -> Result<bool, StoreError> {
        self.transaction_of(account, "remove a channel", move |tx| async move {
            let removed = !tx.query(REMOVE, &[&account.as_str(), &id]).await?.is_empty();
            if removed {
                tx.execute(CANCEL, &[&id]).await?;
            }
            Ok(removed)
        })
        .await
    }
}

pub(super) fn read_channel(row: &Row) -> Result<Channel, StoreError> {
    let row = RowReader { table: "channels", row };
    let target = row.get::<Json<StoredTarget>>("target")?.0;
    let paused = match (row.optional_time("paused_at")?, row.optional_text("paused_reason")?) {
        (Some(at), Some(reason)) => Some((at, reason)),
        _ => None,
    };
    Ok(Channel {
        id: row.get("id")?,
        account: row.account("account")?,
        name: row.text("name")?,
        target: target.into(),
        settings: row.get::<Json<Settings>>("settings")?.0,
        templates: row.get::<Json<Templates>>("templates")?.0,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
        paused,
        failing_since: row.optional_time("failing_since")?,
        failures: u32::try_from(row.get::<i32>("failures")?).map_err(|_| row.broken("failures"))?,
        last_error: row.optional_text("last_error")?,
    })
}

impl Channel {
    /// What kind of channel it is.
    pub fn kind(&self) -> ChannelKind {
        self.target.kind()
    }

    /// It was paused because nothing arrives, not by a person.
    pub fn is_paused_by_us(&self) -> bool {
        self.paused.as_ref().is_some_and(|(_, reason)| reason != PAUSED_BY_HAND)
    }
}

impl NewChannel {
    /// Everything that cannot work, each as a sentence that begins with the field.
    pub fn problems(&self) -> Vec<String> {
        let mut problems: Vec<String> = problem_of_name(&self.name).into_iter().collect();
        problems.extend(self.target.problems());
        problems.extend(self.settings.problems());
        problems.extend(self.templates.problems());
        problems
    }
}

impl ChannelChange {
    /// Everything that cannot work, each as a sentence that begins with the field.
    pub fn problems(&self) -> Vec<String> {
        let mut problems: Vec<String> = self.name.as_deref().and_then(problem_of_name).into_iter().collect();
        problems.extend(self.target.iter().flat_map(Target::problems));
        problems.extend(self.settings.iter().flat_map(Settings::problems));
        problems.extend(self.templates.iter().flat_map(Templates::problems));
        problems
    }
}

fn problem_of_name(name: &str) -> Option<String> {
    let fits = (1..=MAX_NAME_CHARACTERS).contains(&name.chars().count())
        && name.trim() == name
        && !name.contains(char::is_control);
    (!fits).then(|| format!("name must be 1 to {MAX_NAME_CHARACTERS} characters without blanks at its ends"))
}
