//! Forgetting: a customer leaves memory with everything of it that waits to be stored or published.

use std::cmp::Reverse;

use super::Partition;
use crate::{engine::link::linked_event, event::subject};

impl Partition {
    /// Forgets these customers of an account, wherever in this partition something of them stands: their states, when they
    /// are due, and what was to be published to them or about them. Tokens of other partitions' customers do no harm.
    ///
    /// No checkpoint may be under way: what it holds cannot be taken back.
    pub fn forget(&mut self, account: &str, tokens: &[Box<str>]) {
        assert!(self.in_flight.is_empty(), "a customer was to be forgotten while a checkpoint is under way");
        let is_named = |token: &str| tokens.iter().any(|named| **named == *token);
        // What a link tells the Stripe customer names the customer in its body.
        let mut telling = Vec::new();
        self.links.retain(|link| {
            let gone = link.account.as_str() == account && is_named(subject::encode(&link.customer).as_str());
            if gone {
                telling.extend(linked_event(link).map(|row| row.message_id));
            }
            !gone
        });
        self.outbox.retain(|row| {
            let concerns = row.account.as_str() == account && is_named(&row.token);
            !concerns && !telling.contains(&row.message_id)
        });
        let keys: Vec<String> = tokens.iter().map(|token| format!("{account}.{token}")).collect();
        self.due.retain(|Reverse((_, key))| keys.iter().all(|forgotten| **forgotten != **key));
        for slot in keys.iter().filter_map(|key| self.find(key)).map(|slot| slot.0).collect::<Vec<_>>() {
            self.dirty.retain(|dirty| *dirty != slot);
            self.unsettled.retain(|unsettled| *unsettled != slot);
            // The snapshot that an eviction makes is what nobody wants.
            drop(self.take_out(slot));
        }
    }
}
