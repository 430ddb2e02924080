//! Offline scoring: the engine over a file of events, without any server.
//!
//! The lines of a file may come in any order and repeat: a customer's event id counts once, as it would within
//! JetStream's duplicate window. Events after the asked instant do not count; an event without a timestamp counts as
//! received at that instant.

use std::collections::{BTreeMap, HashSet};

use serde::Serialize;
use xxhash_rust::xxh3::xxh3_128;

use super::{checkpoint::Level, rules::Rules, score::assess, state::CustomerState};
use crate::event::{
    decode::{Encoding, Reject, decode},
    ids::CustomerId,
    time::Timestamp,
};

/// Customers scored as of one instant.
#[derive(Debug)]
pub struct Offline {
    rules: Rules,
    as_of: Timestamp,
    customers: BTreeMap<CustomerId, Option<CustomerState>>,
    seen: HashSet<u128>,
    scratch: Vec<u8>,
}

/// One customer's line.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OfflineScore {
    /// The customer's full id.
    pub customer_id: CustomerId,
    /// 0 safe, 100 at risk.
    pub score: u8,
    /// The score's level.
    pub level: Level,
    /// The reasons in plain words, in the order of the rules.
    pub factors: Vec<String>,
}

impl Offline {
    /// Nothing read yet.
    pub fn new(rules: Rules, as_of: Timestamp) -> Self {
        Self { rules, as_of, customers: BTreeMap::new(), seen: HashSet::new(), scratch: Vec::new() }
    }

    /// Applies one line: an event as JSON that names its customer.
    pub fn apply_line(&mut self, line: &[u8]) -> Result<(), Reject> {
        let event = decode(line, Encoding::Json, &mut self.scratch)?;
        let id = event.customer_id.as_deref().ok_or(Reject::MissingCustomer)?;
        let customer = CustomerId::parse(id).map_err(|_| Reject::InvalidCustomerId)?;
        let at = event.timestamp.unwrap_or(self.as_of);
        let repeated = event.id.as_deref().is_some_and(|id| {
            !self.seen.insert(xxh3_128(format!("{}\0{customer}\0{id}", customer.as_str().len()).as_bytes()))
        });
        let state = self.customers.entry(customer).or_default();
        if at <= self.as_of && !repeated {
            state.get_or_insert_with(|| CustomerState::new(at)).apply(&event, at, &self.rules);
        }
        Ok(())
    }

    /// Every customer that was named, by id.
    pub fn scores(self) -> impl Iterator<Item = OfflineScore> {
        let (rules, as_of) = (self.rules, self.as_of);
        self.customers.into_iter().map(move |(customer_id, state)| {
            let state = state.unwrap_or_else(|| CustomerState::new(as_of));
            let assessment = assess(&state, &rules, as_of);
            OfflineScore {
                customer_id,
                score: assessment.score,
                level: assessment.level,
                factors: assessment.factors.into_iter().map(|factor| factor.reason).collect(),
            }
        })
    }
}
