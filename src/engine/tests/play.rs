//! Plays scenarios: one partition, a store that is a map, and a clock that stops at each instant something is due.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt::Write as _,
    sync::Arc,
};

use expect_test::Expect;
use serde_json::Value;

use super::script::{Action, Step, parse, shown};
use crate::{
    engine::{
        checkpoint::{Checkpoint, Counters, OutboxKind, OutboxRow},
        fleet::{Outage, Outages},
        partition::{Admission, Incoming, Partition, Policy, Slot},
        rules::{DEFAULT_RULES, Rules},
        score::assess,
        snapshot,
        state::CustomerState,
    },
    event::{
        decode::{Encoding, decode},
        ids::{AccountId, CustomerId, PartitionId, StreamSequence},
        subject,
        time::Timestamp,
    },
};

/// As in the built-in configuration.
pub(super) const POLICY: Policy = Policy {
    cooldown_millis: 24 * 3_600_000,
    history_after_millis: 3_600_000,
    settle_millis: 5_000,
    settle_most_millis: 600_000,
};
/// How far ahead of its receipt an event's timestamp may lie.
const AHEAD_AT_MOST_MILLIS: i64 = 5 * 60_000;
const FOREVER: Timestamp = Timestamp::from_millis(i64::MAX / 4);

/// Plays a scenario and compares the alerts and answers.
#[track_caller]
pub(super) fn check(scenario: &str, expected: Expect) {
    expected.assert_eq(&play(scenario, Print::Alerts));
}

/// Plays a scenario and compares the alerts, the answers and every line of the scores' history.
#[track_caller]
pub(super) fn check_scores(scenario: &str, expected: Expect) {
    expected.assert_eq(&play(scenario, Print::Scores));
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Print {
    Alerts,
    Scores,
}

fn play(scenario: &str, print: Print) -> String {
    let mut stage = Stage::new(print);
    for step in parse(scenario) {
        stage.play(step);
    }
    let Counters { received, applied, duplicate, late, dead, suppressed } = stage.counters;
    assert_eq!(received, applied + duplicate + late + dead + suppressed, "every event has one end");
    stage.printed.join("\n")
}

/// A customer as the store has it.
struct Stored {
    customer: CustomerId,
    snapshot: Vec<u8>,
    due_at: Option<Timestamp>,
}

struct Stage {
    partition: Partition,
    stored: BTreeMap<Box<str>, Stored>,
    rules: BTreeMap<String, Arc<Rules>>,
    /// When the accounts' events did not come.
    outages: Vec<(AccountId, Outage)>,
    /// Events that the engine published, on their way back to it.
    returning: VecDeque<OutboxRow>,
    now: Timestamp,
    sequence: u64,
    counters: Counters,
    print: Print,
    printed: Vec<String>,
}

impl Stage {
    fn new(print: Print) -> Self {
        Self {
            partition: partition(),
            stored: BTreeMap::new(),
            rules: BTreeMap::new(),
            outages: Vec::new(),
            returning: VecDeque::new(),
            now: Timestamp::from_millis(0),
            sequence: 0,
            counters: Counters::default(),
            print,
            printed: Vec::new(),
        }
    }

    fn play(&mut self, step: Step) {
        self.run_until(step.now);
        let Step { account, customer, action, .. } = step;
        match action {
            Action::Events { body, at, times } => {
                for _ in 0..times {
                    self.receive(&account, &customer, body.to_string().as_bytes(), at);
                }
                self.store();
            }
            Action::Ask => self.answer(&account, &customer),
            Action::Rules(name) => self.change_rules(account, &name),
            Action::Gone => {
                self.outages
                    .push((AccountId::parse(&account).unwrap(), Outage { from: self.now, until: None, expected: 0 }));
                self.tell_outages();
            }
            Action::Back => {
                let open =
                    self.outages.iter_mut().find(|(of, outage)| of.as_str() == account && outage.until.is_none());
                open.expect("events of that account are gone").1.until = Some(self.now);
                self.tell_outages();
            }
            Action::Evict => {
                self.partition.evict(0);
            }
            Action::Restart => self.restart(),
        }
    }

    /// Lets time pass: whatever is due happens at its very instant.
    fn run_until(&mut self, until: Timestamp) {
        loop {
            let next = self.partition.next_due().into_iter().chain(self.partition.settles_at()).min();
            let Some(next) = next.filter(|next| *next <= until) else { break };
            self.now = self.now.max(next);
            self.partition.settle(self.now, false);
            for key in self.partition.take_due(self.now, 10) {
                if let Some(slot) = self.slot(&key, None) {
                    self.partition.evaluate_due(slot, self.now);
                }
            }
            self.store();
        }
        assert!(until >= self.now, "a scenario goes forward in time");
        self.now = until;
    }

    fn slot(&mut self, key: &str, customer: Option<&CustomerId>) -> Option<Slot> {
        if let Some(slot) = self.partition.find(key) {
            return Some(slot);
        }
        let stored = self.stored.get(key);
        let customer = stored.map(|stored| &stored.customer).or(customer)?.clone();
        let stored = stored.map(|stored| (snapshot::decode(&stored.snapshot).unwrap(), stored.due_at));
        let rules = self.rules_of(key.split('.').next().unwrap());
        Some(self.partition.admit(Admission { key: key.into(), customer, rules, stored }, self.now))
    }

    fn rules_of(&mut self, account: &str) -> Arc<Rules> {
        Arc::clone(self.rules.entry(account.to_owned()).or_insert_with(|| rules("default")))
    }

    fn receive(&mut self, account: &str, customer: &str, body: &[u8], at: Timestamp) {
        let mut scratch = Vec::new();
        let event = decode(body, Encoding::Json, &mut scratch).unwrap();
        let customer = CustomerId::parse(customer).unwrap();
        let key = format!("{account}.{}", subject::encode(&customer));
        let at = if at.millis_since(self.now) > AHEAD_AT_MOST_MILLIS { self.now } else { at };
        self.sequence += 1;
        let slot = self.slot(&key, Some(&customer)).unwrap();
        self.partition.apply(
            slot,
            Incoming { event: &event, at, sequence: StreamSequence(self.sequence), stored_at: self.now },
            self.now,
        );
    }

    /// Stores what changed until nothing comes back any more.
    fn store(&mut self) {
        loop {
            let checkpoint = self.partition.take_checkpoint(self.now);
            self.take(checkpoint);
            self.partition.committed();
            let Some(row) = self.returning.pop_front() else { break };
            let body: Value = serde_json::from_slice(&row.body).unwrap();
            let at = body["timestamp"].as_str().unwrap().parse().unwrap();
            self.receive(row.account.as_str(), row.customer.as_str(), &row.body, at);
        }
    }

    fn take(&mut self, checkpoint: Checkpoint) {
        for row in checkpoint.states {
            let state = snapshot::decode(&row.snapshot).unwrap();
            assert_eq!(snapshot::encode(&state), row.snapshot, "a snapshot is written the same again");
            let key = format!("{}.{}", row.account, row.token).into();
            assert_eq!(row.is_new, !self.stored.contains_key(&key), "{key} is said to be new");
            self.stored.insert(key, Stored { customer: row.customer, snapshot: row.snapshot, due_at: row.due_at });
        }
        for row in checkpoint.scores.iter().filter(|_| self.print == Print::Scores) {
            let reasons: Vec<&str> = row.factors.iter().map(|factor| factor.reason.as_str()).collect();
            let (at, score, level, status) = (shown(row.at), row.score, row.level.as_str(), row.status.as_str());
            self.printed.push(format!(
                "{at} {} scores {score} {level} {status} [{}]",
                row.customer,
                reasons.join("; ")
            ));
        }
        let Counters { received, applied, duplicate, late, dead, suppressed } = checkpoint.counters;
        self.counters.received += received;
        self.counters.applied += applied;
        self.counters.duplicate += duplicate;
        self.counters.late += late;
        self.counters.dead += dead;
        self.counters.suppressed += suppressed;
        for row in checkpoint.outbox {
            match row.kind {
                OutboxKind::Alert => self.printed.push(alert(&row, "")),
                OutboxKind::HeldAlert => self.printed.push(alert(&row, ", held")),
                OutboxKind::Event => self.returning.push_back(row),
            }
        }
    }

    fn answer(&mut self, account: &str, customer: &str) {
        let id = CustomerId::parse(customer).unwrap();
        let rules = self.rules_of(account);
        let slot = self.slot(&format!("{account}.{}", subject::encode(&id)), None);
        let now = self.now;
        let unknown = CustomerState::new(now);
        let state = slot.map_or(&unknown, |slot| self.partition.state(slot));
        let assessment = assess(state, &rules, now);
        let mut line = format!("{} {customer} {} {}", shown(now), assessment.score, assessment.level.as_str());
        for factor in &assessment.factors {
            write!(line, " · {}", factor.reason).unwrap();
        }
        if let Some(action) = &assessment.suggested_action {
            write!(line, " → {action}").unwrap();
        }
        self.printed.push(line);
    }

    fn change_rules(&mut self, account: String, name: &str) {
        let rules = rules(name);
        let slots: Vec<Slot> =
            self.partition.slots().into_iter().filter(|(_, of)| *of == account).map(|(slot, _)| slot).collect();
        for slot in slots {
            self.partition.set_rules(slot, Arc::clone(&rules), self.now);
        }
        self.rules.insert(account, rules);
        self.store();
    }

    fn tell_outages(&mut self) {
        let mut outages = Outages::default();
        for (account, outage) in &self.outages {
            outages.add(account, *outage);
        }
        self.partition.set_outages(Arc::new(outages));
    }

    /// What was not stored is lost; here everything was.
    fn restart(&mut self) {
        self.partition = partition();
        self.tell_outages();
        let due = self.stored.iter().filter_map(|(key, stored)| Some((stored.due_at?, key.clone())));
        self.partition.schedule(due);
    }
}

fn partition() -> Partition {
    let mut partition = Partition::new(PartitionId(0), POLICY);
    partition.extend_due_horizon(FOREVER);
    partition
}

/// Sets of rules that scenarios name.
pub(super) fn rules(name: &str) -> Arc<Rules> {
    let text = match name {
        "default" => DEFAULT_RULES.to_owned(),
        "strict" => DEFAULT_RULES.replace("\nafter_days = 14\n", "\nafter_days = 3\n"),
        "since_first_seen" => DEFAULT_RULES.replace("\nif_never = \"ignore\"", "\nif_never = \"since_first_seen\""),
        "monthly" => DEFAULT_RULES.replace("\nwindow_days = 7\n", "\nwindow_days = 30\n"),
        "chat" => DEFAULT_RULES.replace("[\"support_ticket\"]\nwithin_days", "[\"chat\"]\nwithin_days"),
        "low_high" => DEFAULT_RULES.replace("\nhigh = 70", "\nhigh = 41"),
        other => panic!("no rules are called {other}"),
    };
    assert!(name == "default" || text != DEFAULT_RULES, "the rules called {name} are the default ones");
    Arc::new(Rules::parse(&text, name).unwrap())
}

fn alert(row: &OutboxRow, held: &str) -> String {
    let body: Value = serde_json::from_slice(&row.body).unwrap();
    let (before, score, level) = (&body["previousScore"], &body["score"], body["level"].as_str().unwrap());
    let kind = body["kind"].as_str().unwrap().split('.').nth(1).unwrap();
    assert_eq!(row.message_id, format!("{}:alert:{}", row.account, body["id"].as_str().unwrap()));
    assert!(row.subject.ends_with(body["id"].as_str().unwrap()) && row.subject.contains(level), "{}", row.subject);
    let account = if row.account.as_str() == "a" { String::new() } else { format!("{}:", row.account) };
    format!("{} {account}{} {before}→{score} {level} {kind}{held}", shown(row.at), row.customer)
}
