//! Streams, tables, the demo account and its keys: made at the first start, found at the next.

use std::path::Path;

use anyhow::Context as _;
use async_nats::jetstream;
use nix::sys::statvfs::statvfs;
use secrecy::{ExposeSecret as _, SecretString};

use super::{
    directory::{DataDir, Keys},
    servers::Servers,
};
use crate::{
    cli::connect,
    config::Config,
    event::ids::AccountId,
    store::{
        Store, StoreError,
        keys::{KeyKind, read_key},
    },
    stream::topology,
};

/// Makes the streams, no larger than the disk allows.
pub(super) async fn provision(config: &Config, dir: &Path) -> anyhow::Result<()> {
    /// More is never needed to try things out.
    const ROOM: u64 = 8 << 30;
    let client = connect::try_nats(config, "dev").await.context("cannot connect to the private NATS")?;
    let free = statvfs(dir).map_or(ROOM, |disk| disk.blocks_available() * disk.fragment_size());
    let topology = topology::declared(config.pipeline.partitions).with_room(ROOM.min(free / 2));
    topology.apply(&jetstream::new(client)).await.context("cannot make the streams")?;
    Ok(())
}

/// Makes the database and its tables.
pub(super) async fn migrate(config: &Config, servers: &Servers) -> anyhow::Result<Store> {
    servers.make_database().await.context("cannot make the database")?;
    let store = Store::connect(&config.postgres)?;
    store.migrate().await.context("cannot make the tables")?;
    Ok(store)
}

/// Makes the account and its keys, or finds those of the last run.
pub(super) async fn account(store: &Store, dir: &mut DataDir, account: &AccountId) -> anyhow::Result<Keys> {
    match store.add_account(account, account.as_str()).await {
        Ok(()) | Err(StoreError::AccountExists(_)) => {}
        Err(error) => return Err(error).context("cannot add the demo account"),
    }
    let mut keys = dir.keys_of(account.as_str());
    let known = keys.clone();
    keys.publishable = key(store, account, KeyKind::Publishable, keys.publishable).await?;
    keys.secret = key(store, account, KeyKind::Secret, keys.secret).await?;
    keys.stripe = stripe_secret(store, account, keys.stripe).await?;
    if keys != known {
        dir.remember_keys(account.as_str(), &keys)?;
    }
    Ok(keys)
}

/// The key that is known if it still counts, else a new one.
async fn key(store: &Store, account: &AccountId, kind: KeyKind, known: String) -> anyhow::Result<String> {
    if let Ok((_, hash)) = read_key(&known)
        && store.find_key(&hash).await?.is_some_and(|key| key.account == *account && key.kind == kind)
    {
        return Ok(known);
    }
    let new = match store.add_key(account, kind).await {
        // Nobody knows the text of the oldest any more, or it would have been found.
        Err(StoreError::TooManyKeys { active, .. }) => {
            if let Some(oldest) = active.first() {
                store.revoke_key(oldest).await?;
            }
            store.add_key(account, kind).await
        }
        added => added,
    };
    Ok(new.context("cannot make a key")?.key.expose_secret().to_owned())
}

async fn stripe_secret(store: &Store, account: &AccountId, known: String) -> anyhow::Result<String> {
    let known = (!known.is_empty()).then(|| SecretString::from(known));
    let stored = store.add_stripe_secret(account, known, "churnd dev").await.context("cannot make a Stripe secret")?;
    Ok(stored.secret.expose_secret().to_owned())
}
