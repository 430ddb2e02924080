//! What was dropped lately: the answers do not tell, so that somebody can look.
//!
//! Kept in memory, a bounded number for each account, without anything of the messages but their place and the reason.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    bridge::{error::ApiError, intake::Refusal},
    event::{decode::Reject, ids::AccountId, segment::Unmapped, time::Timestamp},
};

/// How many are kept for each account.
const KEPT: usize = 100;

/// A message that was dropped.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Dropped {
    /// When it came.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Its place in its batch, from 0.
    pub index: usize,
    /// Why, stable.
    pub code: &'static str,
    /// Why, and what to do.
    pub detail: String,
    /// It was meant to have no effect.
    #[serde(skip)]
    pub(super) harmless: bool,
    /// It is too large.
    #[serde(skip)]
    pub(super) oversize: bool,
}

/// Messages that were dropped, the newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct DroppedList {
    dropped: Vec<Dropped>,
}

/// What was dropped lately, by account; clones share it.
#[derive(Clone, Debug, Default)]
pub struct DroppedTail(Arc<Mutex<HashMap<AccountId, VecDeque<Dropped>>>>);

impl Dropped {
    pub(super) fn unmapped(at: Timestamp, index: usize, why: &Unmapped) -> Self {
        let oversize = matches!(why, Unmapped::Reject(Reject::Oversize { .. }));
        Self { at, index, code: why.code(), detail: why.to_string(), harmless: why.is_harmless(), oversize }
    }

    pub(super) fn refused(at: Timestamp, index: usize, why: &Refusal) -> Self {
        let oversize = matches!(why, Refusal::Reject(Reject::Oversize { .. }));
        Self { at, index, code: why.code(), detail: why.to_string(), harmless: false, oversize }
    }

    pub(super) fn at_intake(at: Timestamp, index: usize, why: &ApiError) -> Self {
        Self { at, index, code: why.code(), detail: why.detail().to_owned(), harmless: false, oversize: false }
    }

    /// The answer where somebody wants to hear it.
    pub(super) fn refusal(&self) -> ApiError {
        let Self { index, code, detail, .. } = self;
        ApiError::new(StatusCode::BAD_REQUEST, code, format!("message {index}: {code}: {detail}"))
    }
}

impl DroppedTail {
    pub(super) fn push(&self, account: &AccountId, dropped: &[Dropped]) {
        if dropped.is_empty() {
            return;
        }
        let mut tails = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let tail = tails.entry(account.clone()).or_default();
        for dropped in &dropped[dropped.len().saturating_sub(KEPT)..] {
            if tail.len() == KEPT {
                tail.pop_back();
            }
            tail.push_front(dropped.clone());
        }
    }

    pub(super) fn of(&self, account: &AccountId) -> DroppedList {
        let tails = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        DroppedList { dropped: tails.get(account).into_iter().flatten().cloned().collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_hundred_of_each_account_are_kept() {
        let tail = DroppedTail::default();
        let account = |name| AccountId::parse(name).unwrap();
        let dropped: Vec<Dropped> =
            (0..250).map(|index| Dropped::unmapped(Timestamp::default(), index, &Unmapped::NoUser)).collect();
        tail.push(&account("acme"), &dropped[..30]);
        tail.push(&account("acme"), &dropped[30..]);
        tail.push(&account("other"), &dropped[..1]);
        let kept = tail.of(&account("acme")).dropped;
        assert_eq!((kept.len(), kept[0].index, kept[99].index), (100, 249, 150));
        assert_eq!(tail.of(&account("other")).dropped.len(), 1);
        assert!(tail.of(&account("third")).dropped.is_empty());
    }
}
