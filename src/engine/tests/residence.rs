//! Customers in a partition's memory: due times, dirtiness, eviction, slots that are used again.

use std::sync::Arc;

use rand::{SeedableRng, rngs::StdRng};
use serde_json::Value;

use super::{
    drawn::{self, DAY, HOUR, START, named},
    play::{POLICY, rules},
};
use crate::{
    engine::{
        partition::{Admission, Evicted, Incoming, Partition, Slot},
        score::{assess, describe},
        snapshot,
        state::Applied,
    },
    event::{
        decode::{Encoding, decode},
        ids::{CustomerId, PartitionId, StreamSequence},
        time::Timestamp,
    },
};

fn admit(partition: &mut Partition, customer: &str, evicted: Option<Evicted>) -> Slot {
    let stored = evicted.map(|evicted| (snapshot::decode(&evicted.snapshot).unwrap(), evicted.due_at));
    let (key, customer) = (format!("a.{customer}").into(), CustomerId::parse(customer).unwrap());
    partition.admit(Admission { key, customer, rules: rules("default"), stored }, START)
}

fn apply(partition: &mut Partition, slot: Slot, body: &Value, at: Timestamp) -> Applied {
    let (text, mut scratch) = (body.to_string(), Vec::new());
    let event = decode(text.as_bytes(), Encoding::Json, &mut scratch).unwrap();
    partition.apply(slot, Incoming { event: &event, at, sequence: StreamSequence(1), stored_at: at }, at)
}

fn partition() -> Partition {
    let mut partition = Partition::new(PartitionId(3), POLICY);
    partition.extend_due_horizon(START.plus_millis(1_000 * DAY));
    partition
}

#[test]
fn customer_that_stays_due_at_the_same_instant_is_noted_once() {
    let mut partition = partition();
    let slot = admit(&mut partition, "acme", None);
    apply(&mut partition, slot, &named("billing_page_view"), START);
    let mut due = None;
    for minute in 0..100 {
        let at = START.plus_millis(minute * 60_000);
        apply(&mut partition, slot, &named("report_created"), at);
        due = partition.take_checkpoint(at).states[0].due_at;
        partition.committed();
    }
    assert!(partition.noted_due() < 5, "{} notes of one customer", partition.noted_due());
    // A clock that was ahead took the note out; set back again, the customer is due at the same instant as before.
    let due = due.unwrap();
    assert_eq!(partition.take_due(due, 10), [Box::from("a.acme")]);
    let back = START.plus_millis(6_000_000);
    partition.evaluate_due(slot, back);
    assert_eq!(partition.take_checkpoint(back).states[0].due_at, Some(due));
    assert_eq!(partition.take_due(due, 10), [Box::from("a.acme")]);
}

#[test]
fn what_flips_between_an_evaluation_and_its_checkpoint_is_due_at_once() {
    let mut partition = partition();
    let slot = admit(&mut partition, "acme", None);
    apply(&mut partition, slot, &named("billing_page_view"), START);
    let late = START.plus_millis(7 * DAY + HOUR);
    let checkpoint = partition.take_checkpoint(late);
    assert_eq!(checkpoint.states[0].due_at, Some(START.plus_millis(7 * DAY + 1)));
    assert_eq!(checkpoint.scores[0].at, START, "a score holds as of its evaluation, not of its checkpoint");
    assert_eq!(partition.take_due(late, 10), [Box::from("a.acme")]);
    partition.evaluate_due(slot, late);
    partition.committed();
    let checkpoint = partition.take_checkpoint(late);
    assert_eq!((checkpoint.states[0].score, checkpoint.states[0].due_at), (0, None));
}

#[test]
fn an_event_moves_the_due_time_and_the_old_one_is_forgotten() {
    let mut partition = partition();
    let slot = admit(&mut partition, "acme", None);
    for day in [0, 3] {
        apply(&mut partition, slot, &named("billing_page_view"), START.plus_millis(day * DAY));
        partition.take_checkpoint(START.plus_millis(day * DAY));
        partition.committed();
    }
    let first = START.plus_millis(7 * DAY + 1);
    assert_eq!(partition.take_due(first, 10), Vec::<Box<str>>::new());
    assert_eq!(partition.take_due(first.plus_millis(3 * DAY), 10), [Box::from("a.acme")]);
}

#[test]
fn what_is_not_stored_stays() {
    let mut partition = partition();
    let slot = admit(&mut partition, "acme", None);
    apply(&mut partition, slot, &named("login"), START);
    assert_eq!(partition.evict(0).len(), 0);
    partition.take_checkpoint(START);
    assert_eq!(partition.evict(0).len(), 0, "what is on its way is not stored yet");
    partition.committed();
    assert_eq!(partition.evict(0).len(), 1);
}

#[test]
fn the_longest_untouched_leave_first() {
    let mut partition = partition();
    for customer in ["first", "second", "third"] {
        let slot = admit(&mut partition, customer, None);
        apply(&mut partition, slot, &named("login"), START);
        partition.take_checkpoint(START);
        partition.committed();
    }
    let evicted = partition.evict(1);
    assert_eq!(evicted.iter().map(|evicted| evicted.customer.as_str()).collect::<Vec<_>>(), ["first", "second"]);
    assert!(partition.find("a.first").is_none() && partition.find("a.third").is_some());
}

#[test]
fn a_slot_is_used_again_and_a_customer_comes_back_as_it_went() {
    let mut partition = partition();
    let slot = admit(&mut partition, "first", None);
    apply(&mut partition, slot, &named("payment_failed"), START);
    let before = partition.state(slot).clone();
    partition.take_checkpoint(START);
    partition.committed();
    let first = partition.evict(0).pop().unwrap();
    let second = admit(&mut partition, "second", None);
    assert_eq!(second, slot, "the slot is used again");
    assert_eq!(apply(&mut partition, second, &named("login"), START), Applied::Applied);
    assert!(partition.find("a.first").is_none());
    let back = admit(&mut partition, "first", Some(first));
    assert_eq!((partition.state(back), partition.customer_id(back)), (&before, "first"));
    assert_eq!(partition.customer_id(second), "second");
    let checkpoint = partition.take_checkpoint(START);
    assert_eq!(checkpoint.states.iter().map(|row| row.customer.as_str()).collect::<Vec<_>>(), ["second"]);
    assert!(checkpoint.outbox.is_empty(), "coming back is no news");
}

#[test]
fn who_waits_for_an_import_to_be_over_leaves_last_and_is_looked_at_when_it_is_due() {
    let mut partition = partition();
    let history = START.plus_millis(-40 * DAY);
    for customer in ["imported", "other"] {
        let slot = admit(&mut partition, customer, None);
        let (text, mut scratch) = (named("payment_failed").to_string(), Vec::new());
        let event = decode(text.as_bytes(), Encoding::Json, &mut scratch).unwrap();
        let at = if customer == "imported" { history } else { START };
        partition.apply(slot, Incoming { event: &event, at, sequence: StreamSequence(1), stored_at: START }, START);
    }
    partition.take_checkpoint(START);
    partition.committed();
    let names = |evicted: &[Evicted]| evicted.iter().map(|one| one.customer.to_string()).collect::<Vec<_>>();
    assert_eq!(names(&partition.evict(1)), ["other"]);
    let mut evicted = partition.evict(0);
    assert_eq!((names(&evicted), partition.unsettled()), (vec!["imported".to_owned()], 0));

    let due = START.plus_millis(POLICY.settle_millis);
    assert_eq!(partition.take_due(due, 10), [Box::from("a.imported")]);
    let evicted = evicted.pop().unwrap();
    let stored = Some((snapshot::decode(&evicted.snapshot).unwrap(), evicted.due_at));
    let admission = Admission { key: evicted.key, customer: evicted.customer, rules: rules("default"), stored };
    let slot = partition.admit(admission, due);
    partition.evaluate_due(slot, due);
    // Were it taken out again before that, it would still be looked at.
    assert_eq!(partition.next_due(), Some(due.plus_millis(POLICY.settle_millis)));
    assert_eq!(partition.settle(due, false), 1, "nothing was imported since");
    assert!(!partition.state(slot).unsettled && partition.state(slot).evaluated.is_some());
}

#[test]
fn a_customer_that_was_never_stored_leaves_nothing() {
    let mut partition = partition();
    admit(&mut partition, "typo", None);
    assert_eq!((partition.evict(0).len(), partition.resident()), (0, 0));
    assert!(partition.is_clean());
}

#[test]
fn full_ids_are_kept_where_the_token_is_not_the_same_text() {
    let mut partition = partition();
    let customer = CustomerId::parse("blue & co").unwrap();
    let admission =
        Admission { key: "a.blue=20=26=20co".into(), customer, rules: Arc::clone(&rules("default")), stored: None };
    let slot = partition.admit(admission, START);
    apply(&mut partition, slot, &named("login"), START);
    let checkpoint = partition.take_checkpoint(START);
    let row = &checkpoint.states[0];
    assert_eq!(
        (partition.customer_id(slot), row.customer.as_str(), &*row.token),
        ("blue & co", "blue & co", "blue=20=26=20co")
    );
}

#[test]
fn after_every_event_the_last_evaluation_is_that_of_the_state() {
    for seed in 0..500 {
        let mut random = StdRng::seed_from_u64(seed);
        let rules = Arc::new(drawn::rules(&mut random));
        let mut events = drawn::events(&mut random);
        events.sort_by_key(|(at, _)| *at);
        let mut partition = partition();
        let (key, customer) = ("a.acme".into(), CustomerId::parse("acme").unwrap());
        let admission = Admission { key, customer, rules: Arc::clone(&rules), stored: None };
        let slot = partition.admit(admission, START);
        for (at, body) in &events {
            apply(&mut partition, slot, body, *at);
            let state = partition.state(slot);
            let (last, assessment) = (state.evaluated.unwrap(), assess(state, &rules, *at));
            assert_eq!(describe(state, &rules, *at, last), assessment, "seed {seed}, {at} {body}");
        }
    }
}
