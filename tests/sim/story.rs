//! A world's life: what is sent, what goes wrong and when, and that all of it is over in the end.
//!
//! Each world has some kinds of faults and not others, drawn from the seed: where everything goes wrong at once, many
//! bugs never get a chance. When the faults have ended the world must come to rest, and then it is judged.

use std::{sync::Arc, time::Duration};

use churnd::{
    engine::{partition::Policy, rules::Rules},
    pipeline::{config::Config, mutant::Mutants, rulebook::RuleBook},
};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use tokio::time::sleep;

use crate::{
    instance::{Instance, Settings},
    judge,
    log::Put,
    traffic::{self, Histories, Sent},
    world::{Faults, World},
};

/// How long a lease lasts.
pub(crate) const LEASE: Duration = Duration::from_secs(3);
/// In this time a world comes to rest after its last fault.
const REST_WITHIN: i64 = 40_000;
const HOUR: i64 = 3_600_000;

/// What can go wrong in a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Kill,
    KillInCalls,
    Freeze,
    Stop,
    LogOutage,
    LogTroubles,
    Leader,
    Reconnect,
    Stall,
    TablesOutage,
    TablesTroubles,
    Unconfirmed,
    Slow,
    Clock,
    Rules,
}

const KINDS: [Kind; 15] = [
    Kind::Kill,
    Kind::KillInCalls,
    Kind::Freeze,
    Kind::Stop,
    Kind::LogOutage,
    Kind::LogTroubles,
    Kind::Leader,
    Kind::Reconnect,
    Kind::Stall,
    Kind::TablesOutage,
    Kind::TablesTroubles,
    Kind::Unconfirmed,
    Kind::Slow,
    Kind::Clock,
    Kind::Rules,
];

/// Everything about a world that is settled before it begins.
struct Plan {
    partitions: u16,
    instances: usize,
    lasts: i64,
    kinds: Vec<Kind>,
    traffic: Vec<Sent>,
    settings: Settings,
}

/// How a world ended.
pub(crate) struct Ended {
    pub(crate) violations: Vec<String>,
    pub(crate) trace: String,
    pub(crate) hash: u64,
    /// Milliseconds from the last fault until everything was at rest.
    pub(crate) rested_after: i64,
    pub(crate) facts: judge::Facts,
}

/// The two sets of rules: the built-in ones, and others that only weigh differently.
pub(crate) fn books() -> [Arc<RuleBook>; 2] {
    let text = include_str!("../../config/rules.toml");
    let other = text.replacen("points = 30\n", "points = 45\n", 1);
    assert_ne!(text, other);
    [text, &other].map(|text| Arc::new(RuleBook::of_all(Rules::parse(text, "rules.toml").expect("valid rules"))))
}

fn draw(random: &mut StdRng, mutants: Mutants) -> Plan {
    let count = *[0, 1, 2, 3, 4, 6, KINDS.len()].choose(random).expect("not empty");
    let kinds = KINDS.choose_multiple_of(random, count);
    let lasts = random.random_range(3_000..9_000_i64);
    let events = random.random_range(8..45);
    let links = random.random_range(0..4) == 0;
    let config = Config {
        partitions: *[1, 2, 3, 4].choose(random).expect("not empty"),
        batch: *[2, 5, 20, 200].choose(random).expect("not empty"),
        checkpoint_interval_ms: *[50, 200, 1_000].choose(random).expect("not empty"),
        checkpoint_linger_ms: 10,
        catch_up_checkpoint_ms: *[100, 1_000].choose(random).expect("not empty"),
        dirty_customers_max: *[2, 5, 1_000].choose(random).expect("not empty"),
        hot_customers: *[0, 2, 1_000].choose(random).expect("not empty"),
        cache_bytes: *[1, 1 << 20].choose(random).expect("not empty"),
        history_after_seconds: 3_600,
        settle_seconds: 1,
        settle_max_seconds: 2,
    };
    let policy = Policy {
        cooldown_millis: *[0, 1_500].choose(random).expect("not empty"),
        history_after_millis: HOUR,
        settle_millis: 1_000,
        settle_most_millis: 2_000,
    };
    Plan {
        partitions: config.partitions,
        instances: random.random_range(1..=3),
        lasts,
        kinds,
        traffic: traffic::draw(random, events, lasts, links),
        settings: Settings { config, policy, lease: LEASE, mutants },
    }
}

trait ChooseMultiple {
    fn choose_multiple_of(&self, random: &mut StdRng, count: usize) -> Vec<Kind>;
}

impl ChooseMultiple for [Kind; 15] {
    fn choose_multiple_of(&self, random: &mut StdRng, count: usize) -> Vec<Kind> {
        let mut left = self.to_vec();
        (0..count).map(|_| left.swap_remove(random.random_range(0..left.len()))).collect()
    }
}

/// Lives a world through from its seed; the same seed gives the same world, to the last line of its trace.
pub(crate) fn live(seed: u64, mutants: Mutants) -> Ended {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime needs nothing that may be missing").block_on(async {
        let mut random = StdRng::seed_from_u64(seed);
        let plan = draw(&mut random, mutants);
        let world = World::new(seed, plan.partitions, plan.instances);
        let mut story = Story { plan, random, world, instances: Vec::new(), histories: Histories::default(), book: 0 };
        story.tell().await
    })
}

struct Story {
    plan: Plan,
    random: StdRng,
    world: Arc<World>,
    instances: Vec<Instance>,
    histories: Histories,
    book: usize,
}

impl Story {
    async fn tell(&mut self) -> Ended {
        {
            let mut inner = self.world.lock();
            let Plan { partitions, instances, lasts, kinds, settings, .. } = &self.plan;
            inner.note(format_args!("{partitions} partitions, {instances} instances, {lasts} ms, {kinds:?}"));
            inner.note(format_args!("{:?} {:?}", settings.config, settings.policy));
        }
        let books = books();
        for who in 0..self.plan.instances {
            self.instances.push(Instance::start(&self.world, who, &self.plan.settings, books[0].clone()));
        }
        let mut sent = std::mem::take(&mut self.plan.traffic).into_iter().peekable();
        while !self.failed() && (self.world.lock().elapsed() < self.plan.lasts || sent.peek().is_some()) {
            let pause = self.random.random_range(5..250);
            sleep(Duration::from_millis(pause)).await;
            self.send_due(&mut sent);
            self.go_wrong(&books);
            self.restart(&books, 3);
        }
        self.end_faults(&books);
        let ended_at = self.world.lock().elapsed();
        while !self.failed() && !self.at_rest() && self.world.lock().elapsed() - ended_at < REST_WITHIN {
            sleep(Duration::from_millis(100)).await;
            self.restart(&books, 1);
        }
        let rested_after = self.world.lock().elapsed() - ended_at;
        if self.failed() {
            return self.ended(rested_after, judge::Facts::default());
        }
        if !self.at_rest() {
            let what = judge::unrest(&self.world.lock());
            self.world.lock().complain(format!("no rest {REST_WITHIN} ms after the last fault: {what}"));
            return self.ended(rested_after, judge::Facts::default());
        }
        // What silence still changes, and what was held back, is told within this.
        for _ in 0..45 {
            sleep(Duration::from_millis(100)).await;
            self.restart(&books, 1);
        }
        let mut waited = 0;
        // What was asked while a connection broke is asked again when the patience of whoever asked has ended, and who lost
        // a consumer takes no silence for what it seems before there is another.
        while waited < 20_000 && !(self.at_rest() && self.wrong().is_empty()) {
            sleep(Duration::from_millis(100)).await;
            self.restart(&books, 1);
            waited += 100;
        }
        let wrong = self.wrong();
        let mut inner = self.world.lock();
        wrong.into_iter().for_each(|what| inner.complain(what));
        let facts = judge::facts(&inner);
        drop(inner);
        self.ended(rested_after, facts)
    }

    fn wrong(&self) -> Vec<String> {
        let clocks = self.plan.kinds.contains(&Kind::Clock);
        judge::wrong(&self.world.lock(), &self.histories, self.book, self.plan.settings.policy, clocks)
    }

    fn ended(&self, rested_after: i64, facts: judge::Facts) -> Ended {
        let mut inner = self.world.lock();
        let violations = std::mem::take(&mut inner.violations);
        Ended { violations, hash: inner.trace_hash(), trace: inner.trace().to_owned(), rested_after, facts }
    }

    /// A promise is broken already: what follows proves nothing more.
    fn failed(&self) -> bool {
        !self.world.lock().violations.is_empty()
    }

    fn send_due(&mut self, sent: &mut std::iter::Peekable<std::vec::IntoIter<Sent>>) {
        let mut inner = self.world.lock();
        // Clients try again for as long as the log is away.
        while inner.faults.log_up
            && let Some(one) = sent.next_if(|one| one.when <= inner.elapsed())
        {
            if let Put::Stored { sequence, .. } = inner.put(&one.message) {
                let stored_at = inner.wall();
                self.histories.add(&one, stored_at);
                if one.past.is_none() {
                    let token = one.message.subject.rsplit('.').next().unwrap_or_default();
                    let partition = churnd::event::subject::partition_of(&one.key.0, token, self.plan.partitions);
                    inner.tables.poison.push((partition.0, sequence));
                }
            }
        }
    }

    /// Perhaps something goes wrong, or right again.
    fn go_wrong(&mut self, books: &[Arc<RuleBook>; 2]) {
        let Some(kind) = self.plan.kinds.choose(&mut self.random).copied() else { return };
        let who = self.random.random_range(0..self.instances.len());
        let roll = self.random.random_range(0..100_u32);
        let instance = &self.instances[who];
        let mut inner = self.world.lock();
        match kind {
            Kind::Kill if roll < 25 => {
                drop(inner);
                instance.kill();
            }
            Kind::KillInCalls => inner.faults.deadly = if roll < 40 { 15 } else { 0 },
            Kind::Freeze => {
                let frozen = inner.bodies[who].frozen;
                drop(inner);
                // Some sleep past their lease.
                if frozen && roll < 10 {
                    instance.thaw();
                } else if !frozen && roll < 40 && instance.lives() {
                    instance.freeze();
                }
            }
            Kind::Stop if roll < 20 => {
                drop(inner);
                instance.stop();
            }
            Kind::LogOutage if roll < 40 => {
                inner.faults.log_up = !inner.faults.log_up;
                let up = inner.faults.log_up;
                inner.note(format_args!("the log is {}", if up { "back" } else { "away" }));
                if up {
                    inner.log.go_on();
                }
            }
            Kind::LogTroubles => {
                let most = if roll < 60 { 120 } else { 0 };
                (inner.faults.lost_calls, inner.faults.lost_messages) = (most, most);
            }
            Kind::Leader if roll < 30 => {
                inner.note(format_args!("the log has a new leader: consumers are gone"));
                inner.log.forget_consumers();
            }
            Kind::Reconnect if roll < 40 => {
                let body = &mut inner.bodies[who];
                if body.linked {
                    body.linked = false;
                    inner.note(format_args!("i{who} loses its connection"));
                } else if body.alive {
                    body.linked = true;
                    body.connects.connects.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    inner.note(format_args!("i{who} is connected again"));
                }
            }
            Kind::Stall if roll < 15 => {
                inner.note(format_args!("a consumer stalls"));
                inner.log.stall_one(usize::try_from(roll).expect("small"));
            }
            Kind::TablesOutage if roll < 30 => {
                inner.faults.tables_up = !inner.faults.tables_up;
                let up = inner.faults.tables_up;
                inner.note(format_args!("the tables are {}", if up { "back" } else { "away" }));
            }
            Kind::TablesTroubles => {
                (inner.faults.refused, inner.faults.unknown) = if roll < 60 { (80, 200) } else { (0, 0) };
            }
            Kind::Unconfirmed => inner.faults.unconfirmed = if roll < 60 { 250 } else { 0 },
            Kind::Slow => inner.faults.slow = *[2, 40, 400, 2_000].choose(&mut self.random).expect("not empty"),
            Kind::Clock if roll < 30 => {
                let skew = *[-HOUR, -300_000, 0, 60_000, HOUR].choose(&mut self.random).expect("not empty");
                inner.bodies[who].skew = skew;
                inner.note(format_args!("the clock of i{who} is off by {skew} ms"));
            }
            Kind::Rules if roll < 25 => {
                self.book = 1 - self.book;
                inner.note(format_args!("rules {} are put in place", self.book));
                drop(inner);
                for instance in &self.instances {
                    instance.rules.send_replace(books[self.book].clone());
                }
            }
            _ => {}
        }
    }

    /// What died or left comes back, sooner or later.
    fn restart(&mut self, books: &[Arc<RuleBook>; 2], one_in: u32) {
        for who in 0..self.instances.len() {
            if !self.instances[who].lives() && self.random.random_range(0..one_in) == 0 {
                let book = books[self.book].clone();
                self.instances[who] = Instance::start(&self.world, who, &self.plan.settings, book);
            }
        }
    }

    fn end_faults(&mut self, books: &[Arc<RuleBook>; 2]) {
        {
            let mut inner = self.world.lock();
            inner.note(format_args!("--- the faults have ended"));
            inner.faults = Faults::none();
            inner.log.go_on();
            let clocks = self.plan.kinds.contains(&Kind::Clock);
            for body in &mut inner.bodies {
                // Clocks that were ahead would now stand still for those who saw them; so all go ahead.
                body.skew = if clocks { HOUR + 60_000 } else { 0 };
                if !body.linked {
                    body.linked = true;
                    body.connects.connects.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                }
            }
        }
        self.instances.iter().for_each(Instance::thaw);
        self.restart(books, 1);
    }

    fn at_rest(&self) -> bool {
        judge::unrest(&self.world.lock()).is_empty()
    }
}
