//! What a store operation can fail with, by what the caller can do about it.
//!
//! Nothing here ever shows a row's values, a query, or a part of the connection string: errors go to logs.

use std::{error::Error, fmt};

use deadpool_postgres::{PoolError, tokio_postgres};

use crate::{
    event::ids::{AccountId, Epoch, PartitionId},
    tls,
};

const TLS_SETTINGS: tls::Settings =
    tls::Settings { url: "postgres.url", ca_file: "postgres.ca_file", certificate_file: "postgres.certificate_file" };

/// What a store operation can fail with.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Postgres, or the way to it, is out of order for now: try again.
    #[error("cannot {doing}: postgres is unavailable")]
    Unavailable {
        /// What was to be done.
        doing: &'static str,
        /// What went wrong.
        #[source]
        cause: Cause,
    },
    /// Somebody else owns the partition, or moved it: drop all of its state.
    #[error("partition {partition} is no longer ours: a write of epoch {epoch} was refused")]
    Fenced {
        /// The partition.
        partition: PartitionId,
        /// The epoch of the refused write.
        epoch: Epoch,
    },
    /// The connection was lost while the transaction was being committed: look, or write the same checkpoint again.
    #[error("cannot tell whether it succeeded to {doing}: the answer to COMMIT was lost")]
    OutcomeUnknown {
        /// What was to be done.
        doing: &'static str,
        /// What went wrong.
        #[source]
        cause: Cause,
    },
    /// A row holds what the daemon never writes.
    #[error("column {column} of a row of {table} does not decode ({row})")]
    Inconsistent {
        /// The table.
        table: &'static str,
        /// What identifies the row.
        row: String,
        /// The column.
        column: String,
    },
    /// The database was migrated by a newer churnd.
    #[error("the database has schema version {found}, this churnd knows {known}: run a newer churnd")]
    SchemaTooNew {
        /// The newest version in the database.
        found: u32,
        /// The newest version this binary carries.
        known: u32,
    },
    /// The database lacks migrations.
    #[error("the database has schema version {found}, this churnd needs {needed}: run `churnd migrate`")]
    SchemaTooOld {
        /// The newest version in the database.
        found: u32,
        /// The version this binary needs.
        needed: u32,
    },
    /// A migration that was applied is not the one this binary carries.
    #[error("migration {version} ({name}) was applied with another text than this churnd carries: builds were mixed")]
    SchemaChanged {
        /// The migration's number.
        version: u32,
        /// Its name.
        name: String,
    },
    /// The account is not known.
    #[error("there is no account {0}: add it with `churnd account add`")]
    UnknownAccount(AccountId),
    /// The account is there already.
    #[error("the account {0} exists already")]
    AccountExists(AccountId),
    /// Two keys of the kind are active already.
    #[error("account {account} has two active {kind} keys already ({}): revoke the one you no longer use, such as `churnd key revoke {}`", .active.join(", "), .active.first().map_or("", String::as_str))]
    TooManyKeys {
        /// The account.
        account: AccountId,
        /// `publishable` or `secret`.
        kind: &'static str,
        /// The visible prefixes of the active ones, the older first.
        active: Vec<String>,
    },
    /// No active key has the id or prefix.
    #[error("no active key has the id or prefix {0}")]
    UnknownKey(String),
    /// Several active keys have the prefix.
    #[error("several active keys begin with {0}: name one by its id")]
    AmbiguousKey(String),
    /// The account has a channel of this name.
    #[error("the account has a channel of the name {0} already")]
    ChannelExists(String),
    /// The configuration cannot work.
    #[error("{0}")]
    Config(String),
    /// Postgres refuses, and would again: a person must act.
    #[error("cannot {doing}: postgres refused it")]
    Refused {
        /// What was to be done.
        doing: &'static str,
        /// What Postgres said.
        #[source]
        cause: Cause,
    },
}

impl StoreError {
    /// The same call may succeed later without anybody's doing. An unknown outcome counts: checkpoints and archive
    /// writes carry an id, so writing the same one again never applies it twice.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::OutcomeUnknown { .. })
    }

    /// The transaction lost against another, a prepared statement went stale or the pooled connection was dead:
    /// nothing was written, and trying again at once makes sense.
    pub(super) fn is_worth_repeating(&self) -> bool {
        matches!(self, Self::Unavailable { cause, .. } if cause.closed || cause.is_conflict() || cause.is_stale_plan())
    }

    /// The transaction lost against another; its connection is sound.
    pub(super) fn is_conflict(&self) -> bool {
        matches!(self, Self::Unavailable { cause, .. } if cause.is_conflict())
    }

    /// Postgres, or the way to it, is out of order for now.
    pub fn unavailable(doing: &'static str, text: impl Into<String>) -> Self {
        Self::Unavailable { doing, cause: Cause { code: None, text: text.into(), closed: false } }
    }

    /// Sorts what Postgres or the connection said into the caller's choices.
    pub(super) fn of_postgres(doing: &'static str, error: &tokio_postgres::Error) -> Self {
        let cause = Cause::of(error);
        if cause.is_passing() { Self::Unavailable { doing, cause } } else { Self::Refused { doing, cause } }
    }

    /// The error of a COMMIT: only an answer of the server that says it was undone is a failure.
    pub(super) fn of_commit(doing: &'static str, error: &tokio_postgres::Error) -> Self {
        let cause = Cause::of(error);
        match cause.code.as_deref().and_then(|code| code.get(..2)) {
            Some("40") => Self::Unavailable { doing, cause },
            Some("23" | "22" | "55" | "25") => Self::Refused { doing, cause },
            _ => Self::OutcomeUnknown { doing, cause },
        }
    }

    pub(super) fn of_pool(doing: &'static str, error: &PoolError) -> Self {
        match error {
            PoolError::Backend(error) => Self::of_postgres(doing, error),
            PoolError::Timeout(deadpool_postgres::TimeoutType::Wait) => {
                Self::unavailable(doing, "all connections of the pool are busy")
            }
            PoolError::Timeout(_) => Self::unavailable(doing, "connecting took too long"),
            PoolError::Closed | PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(_) => {
                Self::unavailable(doing, "the pool is closed")
            }
        }
    }
}

/// What Postgres or the connection to it said, without row values, queries or credentials.
#[derive(Clone, Debug)]
pub struct Cause {
    code: Option<String>,
    text: String,
    closed: bool,
}

impl Cause {
    /// The SQLSTATE, where the server answered.
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// Only words, and no answer of the server.
    pub fn text(text: impl Into<String>) -> Self {
        Self { code: None, text: text.into(), closed: false }
    }

    fn of(error: &tokio_postgres::Error) -> Self {
        let Some(answer) = error.as_db_error() else {
            return Self { code: None, text: explained(error), closed: error.is_closed() };
        };
        let mut text = answer.message().to_owned();
        for (what, name) in [("table", answer.table()), ("constraint", answer.constraint()), ("hint", answer.hint())] {
            if let Some(name) = name {
                text.push_str(&format!(", {what} {name}"));
            }
        }
        if answer.code().code() == "28000" && text.contains("no encryption") {
            text.push_str("; it asks for TLS: add sslmode=verify-full to postgres.url");
        }
        // The server ended the connection: it is as good as closed for whoever asks next.
        let closed = matches!(answer.code().code(), "57P01" | "57P02" | "25P03");
        Self { code: Some(answer.code().code().to_owned()), text, closed }
    }

    /// A serialization failure or a deadlock.
    fn is_conflict(&self) -> bool {
        matches!(self.code(), Some("40001" | "40P01"))
    }

    /// A prepared statement does not fit the tables any more, or is gone.
    fn is_stale_plan(&self) -> bool {
        matches!(self.code(), Some("0A000" | "26000"))
    }

    /// It may be gone the next time: the connection, resources, shutdown, lock and statement timeouts, a server that
    /// became a standby.
    fn is_passing(&self) -> bool {
        let Some(code) = self.code() else { return self.is_of_the_connection() };
        matches!(&code[..2.min(code.len())], "08" | "53" | "57" | "58")
            || matches!(code, "55P03" | "25P03" | "25006" | "26000" | "0A000" | "40001" | "40P01" | "40003")
    }
}

impl Cause {
    /// Said by the client library about the way to the server, not about what was asked (it keeps its kinds to itself).
    fn is_of_the_connection(&self) -> bool {
        const WAY: [&str; 5] = [
            "error communicating with the server",
            "error connecting to server",
            "error performing TLS handshake",
            "timeout waiting for server",
            "connection closed",
        ];
        self.closed || WAY.iter().any(|start| self.text.starts_with(start))
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.code {
            Some(code) => write!(formatter, "{} (SQLSTATE {code})", self.text),
            None => formatter.write_str(&self.text),
        }
    }
}

impl Error for Cause {}

/// An error, and what to do about it where it is about TLS.
fn explained(error: &tokio_postgres::Error) -> String {
    let text = chain(error);
    match tls::advice(error, TLS_SETTINGS) {
        Some(advice) => format!("{text}; {advice}"),
        None if text.contains("server does not support TLS") => {
            format!("{text}; switch it on there (ssl = on in postgresql.conf), or correct postgres.url")
        }
        None => text,
    }
}

/// An error and its sources in one line. Sources of a bad connection string are left out: they quote it.
fn chain(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    if text.starts_with("invalid con") {
        return text;
    }
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
