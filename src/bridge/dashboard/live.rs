//! `GET /dashboard/live`: tells open pages, by server-sent events, that something of their account changed.
//!
//! Only that, and whom it concerns: pages fetch what they show themselves, as their visitor may see it. One watch of the
//! risk bucket serves all pages of the process, and only while there are any. A page that cannot follow is told that
//! anything may have changed. A stream ends with its session, and when the server stops.

use std::{
    collections::{BTreeSet, HashMap},
    convert::Infallible,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_nats::jetstream::Context;
use axum::{
    body::Body,
    extract::State,
    http::{HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::stream;
use tokio::{
    sync::{broadcast, watch},
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

use super::{
    super::{error::ApiError, state::Bridge},
    error::PageError,
    session::Visitor,
};
use crate::{
    event::ids::AccountId,
    stream::risk_watch::{self, Change},
};

/// How many pages of an account may follow at once.
const PAGES_OF_AN_ACCOUNT: usize = 64;
/// How many changes wait for a page that is slow.
const WAITING: usize = 256;
/// Changes within this time are told together.
const TOGETHER: Duration = Duration::from_millis(150);
/// How many customers are named at once.
const NAMED_AT_MOST: usize = 50;
/// How often a sign of life is given, and the session looked at.
const HEARTBEAT: Duration = Duration::from_secs(4);
/// Told instead of a customer: look at everything.
const ANYTHING: &str = "*";

/// What changed: a customer's token, or [`ANYTHING`].
type Told = Arc<str>;

/// The pages that follow; clones share them.
#[derive(Clone)]
pub struct Live(Arc<Inner>);

struct Inner {
    context: Context,
    accounts: Mutex<HashMap<AccountId, Followers>>,
    /// How many pages follow in all.
    following: watch::Sender<usize>,
    /// No more pages are served.
    stop: CancellationToken,
}

struct Followers {
    pages: usize,
    sender: broadcast::Sender<Told>,
}

impl Live {
    /// Nobody follows yet.
    pub fn new(context: Context, stop: CancellationToken) -> Self {
        Self(Arc::new(Inner { context, accounts: Mutex::default(), following: watch::Sender::new(0), stop }))
    }

    /// Watches while somebody follows, until the stop.
    pub async fn run(self) -> anyhow::Result<()> {
        let mut following = self.0.following.subscribe();
        loop {
            let begun = async { following.wait_for(|pages| *pages > 0).await.is_ok() };
            match self.0.stop.run_until_cancelled(begun).await {
                Some(true) => {}
                Some(false) | None => return Ok(()),
            }
            let enough = self.0.stop.child_token();
            let abandoned = async {
                let ended = following.wait_for(|pages| *pages == 0).await;
                enough.cancel();
                drop(ended);
            };
            tokio::join!(risk_watch::watch(&self.0.context, &enough, |change| self.tell(change)), async {
                tokio::select! { () = abandoned => {} () = enough.cancelled() => {} }
            });
        }
    }

    fn tell(&self, change: Change<'_>) {
        let accounts = self.0.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody hears it where the last page is about to go.
        match change {
            Change::Anything => accounts.values().for_each(|followers| drop(followers.sender.send(ANYTHING.into()))),
            Change::Customer { account, token } => {
                if let Some(followers) = AccountId::parse(account).ok().and_then(|account| accounts.get(&account)) {
                    drop(followers.sender.send(token.into()));
                }
            }
        }
    }

    fn follow(&self, account: &AccountId) -> Option<Following> {
        let mut accounts = self.0.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Followers { pages: 0, sender: broadcast::Sender::new(WAITING) };
        let followers = accounts.entry(account.clone()).or_insert_with(new);
        if followers.pages >= PAGES_OF_AN_ACCOUNT {
            return None;
        }
        followers.pages += 1;
        let receiver = followers.sender.subscribe();
        self.0.following.send_modify(|pages| *pages += 1);
        Some(Following { live: self.clone(), account: account.clone(), receiver })
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Live")
    }
}

/// A page that follows; it is counted until it is dropped.
struct Following {
    live: Live,
    account: AccountId,
    receiver: broadcast::Receiver<Told>,
}

impl Drop for Following {
    fn drop(&mut self) {
        let mut accounts = self.live.0.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(followers) = accounts.get_mut(&self.account) {
            followers.pages -= 1;
            if followers.pages == 0 {
                accounts.remove(&self.account);
            }
        }
        self.live.0.following.send_modify(|pages| *pages = pages.saturating_sub(1));
    }
}

/// `GET /dashboard/live`
pub(super) async fn live(State(bridge): State<Bridge>, visitor: Visitor) -> Result<Response, PageError> {
    let Some(following) = bridge.live.follow(&visitor.account) else {
        let detail = "too many pages of this account are open at once: close some of them";
        return Err(ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many_pages", detail).into());
    };
    let mut heartbeat = tokio::time::interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let first = Bytes::from_static(b"retry: 2000\n\nevent: ready\ndata:\n\n");
    let page = OpenPage { bridge, visitor, following, heartbeat, first: Some(first), ended: false };
    let events = stream::unfold(page, async |mut page| {
        let text = page.next().await?;
        Some((Ok::<_, Infallible>(text), page))
    });
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        // Proxies that collect answers would keep it all.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    Ok((headers, Body::from_stream(events)).into_response())
}

struct OpenPage {
    bridge: Bridge,
    visitor: Visitor,
    following: Following,
    heartbeat: tokio::time::Interval,
    first: Option<Bytes>,
    ended: bool,
}

impl OpenPage {
    /// What the page is told next; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        if self.ended {
            return None;
        }
        let stop = self.bridge.live.0.stop.clone();
        tokio::select! {
            () = stop.cancelled() => None,
            told = self.following.receiver.recv() => {
                let mut changed = BTreeSet::new();
                note(&mut changed, told)?;
                tokio::time::sleep(TOGETHER).await;
                while !self.following.receiver.is_empty() {
                    note(&mut changed, self.following.receiver.recv().await)?;
                }
                let all = changed.len() > NAMED_AT_MOST || changed.contains(ANYTHING);
                let names: Vec<&str> = if all { vec![ANYTHING] } else { changed.iter().map(|token| &**token).collect() };
                Some(Bytes::from(format!("event: changed\ndata: {}\n\n", names.join(" "))))
            }
            _ = self.heartbeat.tick() => match self.bridge.store.session(self.visitor.hash).await {
                Ok(None) => {
                    self.ended = true;
                    Some(Bytes::from_static(b"event: signed-out\ndata:\n\n"))
                }
                // Where Postgres is away, the page finds out by itself.
                Ok(Some(_)) | Err(_) => Some(Bytes::from_static(b": still here\n\n")),
            },
        }
    }
}

/// Collects what was told; `None` if there is nobody left who tells.
fn note(changed: &mut BTreeSet<Told>, told: Result<Told, broadcast::error::RecvError>) -> Option<()> {
    match told {
        Ok(token) => changed.insert(token),
        Err(broadcast::error::RecvError::Lagged(_)) => changed.insert(ANYTHING.into()),
        Err(broadcast::error::RecvError::Closed) => return None,
    };
    Some(())
}
