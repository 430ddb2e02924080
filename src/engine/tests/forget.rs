//! Forgotten customers: nothing of them is stored, published or evaluated any more, and the others are as they were.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    drawn::{DAY, START, named},
    play::{POLICY, rules},
};
use crate::{
    engine::{
        checkpoint::OutboxKind,
        partition::{Admission, Incoming, Partition, Slot},
    },
    event::{
        decode::{Encoding, decode},
        ids::{CustomerId, PartitionId, StreamSequence},
        time::Timestamp,
    },
};

fn partition() -> Partition {
    let mut partition = Partition::new(PartitionId(3), POLICY);
    partition.extend_due_horizon(START.plus_millis(1_000 * DAY));
    partition
}

fn admit(partition: &mut Partition, account: &str, customer: &str) -> Slot {
    let key = format!("{account}.{customer}").into();
    let customer = CustomerId::parse(customer).unwrap();
    partition.admit(Admission { key, customer, rules: Arc::clone(&rules("default")), stored: None }, START)
}

fn apply(partition: &mut Partition, slot: Slot, body: &Value, at: Timestamp) {
    let (text, mut scratch) = (body.to_string(), Vec::new());
    let event = decode(text.as_bytes(), Encoding::Json, &mut scratch).unwrap();
    partition.apply(slot, Incoming { event: &event, at, sequence: StreamSequence(1), stored_at: at }, at);
}

/// What raises a score, and an alert.
fn fail(partition: &mut Partition, slot: Slot) {
    for name in ["billing_page_view", "payment_failed"] {
        apply(partition, slot, &named(name), START);
    }
}

fn tokens(tokens: &[&str]) -> Vec<Box<str>> {
    tokens.iter().map(|token| Box::from(*token)).collect()
}

#[test]
fn nothing_of_a_forgotten_customer_is_stored_and_the_others_are() {
    let mut partition = partition();
    for customer in ["gone", "stays"] {
        let slot = admit(&mut partition, "a", customer);
        fail(&mut partition, slot);
    }
    partition.forget("a", &tokens(&["gone"]));
    assert!(partition.find("a.gone").is_none());
    let checkpoint = partition.take_checkpoint(START);
    let about = |token: &str| {
        checkpoint.states.iter().filter(|row| &*row.token == token).count()
            + checkpoint.scores.iter().filter(|row| &*row.token == token).count()
            + checkpoint.outbox.iter().filter(|row| &*row.token == token).count()
    };
    assert_eq!((about("gone"), about("stays")), (0, 3));
    assert_eq!(checkpoint.counters.received, 4, "its messages were counted and stay so");
}

#[test]
fn another_tenant_s_customer_of_the_same_name_stays() {
    let mut partition = partition();
    for account in ["a", "b"] {
        let slot = admit(&mut partition, account, "same");
        fail(&mut partition, slot);
    }
    partition.forget("a", &tokens(&["same"]));
    let checkpoint = partition.take_checkpoint(START);
    let accounts: Vec<&str> = checkpoint.states.iter().map(|row| row.account.as_str()).collect();
    assert_eq!(accounts, ["b"]);
    assert!(checkpoint.outbox.iter().all(|row| row.account.as_str() == "b"));
}

#[test]
fn a_link_that_is_not_stored_yet_is_forgotten_with_what_it_would_tell() {
    let mut partition = partition();
    for (customer, stripe) in [("gone", "cus_1"), ("stays", "cus_2")] {
        let slot = admit(&mut partition, "a", customer);
        let link = json!({"event": "identify", "properties": {"stripeCustomerId": stripe}});
        apply(&mut partition, slot, &link, START);
    }
    partition.forget("a", &tokens(&["gone"]));
    let checkpoint = partition.take_checkpoint(START);
    assert_eq!(checkpoint.links.iter().map(|link| &*link.stripe_customer).collect::<Vec<_>>(), ["cus_2"]);
    let told: Vec<&str> = checkpoint.outbox.iter().map(|row| &*row.token).collect();
    assert_eq!(told, ["cus_2"]);
}

#[test]
fn what_a_stripe_customer_hands_over_is_forgotten_with_the_receiver() {
    let mut partition = partition();
    let slot = admit(&mut partition, "a", "cus_1");
    apply(&mut partition, slot, &named("login"), START);
    let linked = json!({"event": "subscription_linked", "properties": {"customerId": "gone"}});
    apply(&mut partition, slot, &linked, START);
    assert!(partition.has_outgoing());
    partition.forget("a", &tokens(&["cus_1", "gone"]));
    let checkpoint = partition.take_checkpoint(START);
    assert!(checkpoint.outbox.iter().all(|row| row.kind != OutboxKind::Event) && checkpoint.states.is_empty());
}

#[test]
fn a_forgotten_customer_is_not_due_and_not_unsettled() {
    let mut partition = partition();
    let slot = admit(&mut partition, "a", "gone");
    apply(&mut partition, slot, &named("billing_page_view"), START);
    partition.take_checkpoint(START);
    partition.committed();
    assert!(partition.next_due().is_some());
    let slot = admit(&mut partition, "a", "importing");
    let later = START.plus_millis(2 * DAY);
    let (text, mut scratch) = (named("login").to_string(), Vec::new());
    let event = decode(text.as_bytes(), Encoding::Json, &mut scratch).unwrap();
    partition.apply(slot, Incoming { event: &event, at: START, sequence: StreamSequence(2), stored_at: later }, later);
    assert_eq!(partition.unsettled(), 1);
    partition.forget("a", &tokens(&["gone", "importing"]));
    assert_eq!((partition.next_due(), partition.unsettled(), partition.resident(), partition.dirty()), (None, 0, 0, 0));
    assert_eq!(partition.settle(later.plus_millis(DAY), true), 0);
    assert_eq!(partition.take_due(later.plus_millis(100 * DAY), 10), Vec::<Box<str>>::new());
}

#[test]
fn a_place_in_memory_is_used_again_without_anything_of_the_one_before() {
    let mut partition = partition();
    let slot = admit(&mut partition, "a", "gone");
    fail(&mut partition, slot);
    partition.forget("a", &tokens(&["gone"]));
    let next = admit(&mut partition, "a", "next");
    assert_eq!(slot, next);
    apply(&mut partition, next, &named("login"), START);
    let checkpoint = partition.take_checkpoint(START);
    partition.committed();
    assert_eq!((checkpoint.states.len(), checkpoint.states[0].score), (1, 0));
    assert!(checkpoint.outbox.is_empty() && checkpoint.states[0].is_new);
}

#[test]
#[should_panic(expected = "a checkpoint is under way")]
fn nobody_is_forgotten_while_a_checkpoint_is_under_way() {
    let mut partition = partition();
    let slot = admit(&mut partition, "a", "gone");
    apply(&mut partition, slot, &named("login"), START);
    partition.take_checkpoint(START);
    partition.forget("a", &tokens(&["gone"]));
}
