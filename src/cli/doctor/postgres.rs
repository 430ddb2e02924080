//! Postgres: the server, its tables, and what waits in them.

use super::Finding;
use crate::{
    cli::output,
    config::Config,
    event::time::Timestamp,
    store::{Store, StoreError, channels::Channel},
};

/// An alert that waits longer than this is not on its way.
const OUTBOX_PATIENCE_MILLIS: i64 = 60_000;

/// An erasure that takes longer than this is held up by something.
const ERASURE_PATIENCE_MINUTES: i64 = 60;

/// A channel at which nothing arrives for longer than this is broken.
const CHANNEL_PATIENCE_MILLIS: i64 = 15 * 60_000;

/// What was found, and a way to look further.
pub(super) struct Postgres {
    pub(super) findings: Vec<Finding>,
    pub(super) store: Option<Store>,
}

/// Looks at the server and its tables.
pub(super) async fn look(config: &Config, now: Timestamp) -> Postgres {
    let mut findings = Vec::new();
    let store = match reach(config, &mut findings).await {
        Ok(store) => store,
        Err(fault) => {
            findings.push(*fault);
            return Postgres { findings, store: None };
        }
    };
    findings.push(role(&store).await);
    findings.push(accounts(&store).await);
    findings.push(outbox(&store, now).await);
    findings.push(erasures(&store, now).await);
    findings.push(channels(&store, now).await);
    findings.push(tracking(&store, now).await);
    Postgres { findings, store: Some(store) }
}

async fn reach(config: &Config, findings: &mut Vec<Finding>) -> Result<Store, Box<Finding>> {
    let unusable = |error: StoreError| {
        let text = format!("{:#}", anyhow::Error::new(error));
        Box::new(Finding::fault("postgres", text, "start Postgres, or correct postgres.url"))
    };
    let store = Store::connect(&config.postgres).map_err(unusable)?;
    let version = store.ping().await.map_err(unusable)?;
    findings.push(Finding::fine("postgres", format!("Postgres {}.{}", version / 10_000, version % 10_000)));
    if config.postgres.is_exposed() {
        let text = "the connection leaves this machine without TLS: password and data can be read on the way";
        findings.push(Finding::note("postgres", text).with_next("write sslmode=verify-full in postgres.url"));
    }
    match store.check_schema().await {
        Ok(()) => findings.push(Finding::fine("schema", format!("version {}", store.expected_version()))),
        Err(error) => {
            let text = error.to_string();
            let (what, next) = text.split_once(": ").unwrap_or((&text, "run `churnd migrate`"));
            return Err(Box::new(Finding::fault("schema", what, next)));
        }
    }
    Ok(store)
}

/// Whether the role that the daemon works as could do more than its work.
async fn role(store: &Store) -> Finding {
    let standing = match store.standing().await {
        Ok(standing) => standing,
        Err(error) => return refused("role", error),
    };
    let role = &standing.role;
    let next = "make a role for the daemon, then `churnd migrate --app-role ROLE` (migrations/README.md shows how)";
    if standing.unguarded > 0 {
        let tables = output::counted(standing.unguarded, "table");
        return Finding::fault(
            "role",
            format!("{tables} with rows of accounts have no policy"),
            "SELECT churnd_guard_accounts()",
        );
    }
    match (standing.is_unbound, standing.may_change_tables) {
        (true, _) => Finding::note("role", format!("{role} is above row-level security, and may change all tables"))
            .with_next(next),
        (false, true) => Finding::note("role", format!("{role} may change tables")).with_next(next),
        (false, false) => Finding::fine("role", format!("{role} works with rows only, each account's apart")),
    }
}

async fn accounts(store: &Store) -> Finding {
    match store.list_accounts().await {
        Ok(accounts) if accounts.is_empty() => Finding::note("accounts", "none: every event goes to the dead letters")
            .with_next("`churnd account add NAME`"),
        Ok(accounts) => {
            let names: Vec<&str> = accounts.iter().take(5).map(|account| account.id.as_str()).collect();
            let more = if accounts.len() > names.len() { ", …" } else { "" };
            Finding::fine("accounts", format!("{}: {}{more}", accounts.len(), names.join(", ")))
        }
        Err(error) => refused("accounts", error),
    }
}

async fn outbox(store: &Store, now: Timestamp) -> Finding {
    let pending = match store.outbox_pending().await {
        Ok(pending) => pending,
        Err(error) => return refused("outbox", error),
    };
    let waiting = output::counted(pending.count, "message");
    match pending.oldest {
        None => Finding::fine("outbox", "nothing waits to be published"),
        Some(oldest) if now.millis_since(oldest) > OUTBOX_PATIENCE_MILLIS => {
            let seconds = now.millis_since(oldest) / 1_000;
            let text = format!("{waiting} wait to be published, the oldest for {seconds} s");
            let next = "see that `churnd run` with the role engine is up, and look for `outbox` in its log";
            Finding::fault("outbox", text, next)
        }
        Some(_) => Finding::fine("outbox", format!("{waiting} on the way")),
    }
}

async fn erasures(store: &Store, now: Timestamp) -> Finding {
    let open = match store.open_erasures().await {
        Ok(open) => open,
        Err(error) => return refused("erasures", error),
    };
    let count = output::counted(open.count, "erasure");
    match open.oldest.map(|oldest| now.millis_since(oldest) / 60_000) {
        None => Finding::fine("erasures", "no customer waits to be erased"),
        Some(minutes) if minutes >= ERASURE_PATIENCE_MINUTES => {
            let text = format!("{count} not done, the oldest asked for {minutes} min ago");
            let next = "see that `churnd run` with the role engine is up, and look for `erasing` in its log";
            Finding::fault("erasures", text, next)
        }
        Some(_) => Finding::fine("erasures", format!("{count} under way")),
    }
}

async fn tracking(store: &Store, now: Timestamp) -> Finding {
    let guards = match store.guards(now).await {
        Ok(guards) => guards,
        Err(error) => return refused("tracking", error),
    };
    let open: Vec<String> = guards
        .iter()
        .filter(|guard| guard.outage.until.is_none())
        .map(|guard| format!("{} since {}", guard.account, output::to_the_second(guard.outage.from)))
        .collect();
    if open.is_empty() {
        return Finding::fine("tracking", "no account's events stopped coming");
    }
    Finding::note("tracking", format!("hardly any events of {}", open.join(", ")))
        .with_next("see that they are still sent; until then alerts about missing logins and usage are held back")
}

/// Channels that were paused, or where nothing arrives for longer than a receiver's hiccup.
async fn channels(store: &Store, now: Timestamp) -> Finding {
    let troubled = match store.troubled_channels().await {
        Ok(troubled) => troubled,
        Err(error) => return refused("channels", error),
    };
    let is_long = |since: Timestamp| now.millis_since(since) > CHANNEL_PATIENCE_MILLIS;
    let broken = |channel: &&Channel| channel.is_paused_by_us() || channel.failing_since.is_some_and(is_long);
    let named = |channel: &Channel| {
        let reason = channel.last_error.as_deref().unwrap_or("no reason was given");
        format!("{} of account {} ({reason})", channel.name, channel.account)
    };
    let names: Vec<String> = troubled.iter().filter(broken).map(named).collect();
    match (names.is_empty(), troubled.len()) {
        (false, _) => {
            let text = format!("nothing arrives at: {}", names.join(", "));
            Finding::fault("channels", text, "correct them, then `churnd channel test` and `churnd channel resume`")
        }
        (true, 0) => Finding::fine("channels", "none is paused, everything arrives"),
        (true, count) => Finding::note("channels", format!("paused, or failing for minutes: {count}")),
    }
}

fn refused(area: &'static str, error: StoreError) -> Finding {
    let text = format!("{:#}", anyhow::Error::new(error));
    Finding::fault(area, text, "look at Postgres' log; does the user of postgres.url own the tables?")
}
