//! What one core does: events applied, states encoded, decoded and looked ahead, memory per customer.
//!
//! `cargo bench --bench engine [-- --events N --customers N]`; without a number of customers 20,000 and 200,000. Times are
//! the thread's own CPU time, so other work on the machine disturbs little.

use std::{fs, hint::black_box, sync::Arc};

use churnd::{
    engine::{
        partition::{Admission, Incoming, Partition, Policy, Slot},
        rules::Rules,
        silence::next_change,
        snapshot,
        state::CustomerState,
    },
    event::{
        decode::{Encoding, Event, decode},
        ids::{CustomerId, PartitionId, StreamSequence},
        time::Timestamp,
    },
};
use rand::{RngExt, SeedableRng, rngs::StdRng};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// 1 March 2026, 00:00 UTC.
const START: i64 = 1_772_323_200_000;
/// Over how long the events spread.
const SPAN_MILLIS: i64 = 30 * 86_400_000;
const POLICY: Policy = Policy {
    cooldown_millis: 86_400_000,
    history_after_millis: 3_600_000,
    settle_millis: 5_000,
    settle_most_millis: 60_000,
};

fn main() {
    let events = argument("--events").unwrap_or(1_000_000);
    let customers = argument("--customers").map_or(vec![20_000, 200_000], |customers| vec![customers]);
    for customers in customers {
        run(&Stream::draw(events, customers));
    }
}

/// The number after an option on the command line.
fn argument(name: &str) -> Option<usize> {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    arguments.nth(1)?.replace(['_', ','], "").parse().ok()
}

fn run(stream: &Stream) {
    println!("{} events of {} customers, {} bytes each", stream.events.len(), stream.keys.len(), stream.bytes_per_event());
    let decoded = stream.decode();
    let memory_before = resident_bytes();
    let mut partition = Partition::new(PartitionId(0), POLICY);
    let rules = Arc::new(Rules::default());

    let started = cpu_nanos();
    for (sequence, (drawn, event)) in stream.events.iter().zip(&decoded).enumerate() {
        apply(&mut partition, &rules, &stream.keys[drawn.customer], event, drawn.at, sequence);
    }
    report_rate("apply, decoded before", cpu_nanos() - started, stream.events.len());
    let memory = resident_bytes().saturating_sub(memory_before);
    drop(decoded);
    let states: Vec<CustomerState> = slots(&partition).into_iter().map(|slot| partition.state(slot).clone()).collect();
    println!("  {:<34} {:>12}", "bytes per resident customer", memory / states.len());

    let now = Timestamp::from_millis(START + SPAN_MILLIS);
    let started = cpu_nanos();
    let checkpoint = partition.take_checkpoint(now);
    report_each("checkpoint, per dirty customer", cpu_nanos() - started, checkpoint.states.len());
    drop((checkpoint, partition));

    let mut partition = Partition::new(PartitionId(0), POLICY);
    let mut scratch = Vec::new();
    let started = cpu_nanos();
    for (sequence, drawn) in stream.events.iter().enumerate() {
        let event = decode(&drawn.body, Encoding::Json, &mut scratch).expect("the events are valid");
        apply(&mut partition, &rules, &stream.keys[drawn.customer], &event, drawn.at, sequence);
    }
    report_rate("decode and apply", cpu_nanos() - started, stream.events.len());
    drop(partition);
    report_states(&states, &rules, now);
}

fn report_states(states: &[CustomerState], rules: &Rules, now: Timestamp) {
    let started = cpu_nanos();
    let snapshots: Vec<Vec<u8>> = states.iter().map(snapshot::encode).collect();
    report_each("snapshot, encode", cpu_nanos() - started, states.len());
    let bytes: usize = snapshots.iter().map(Vec::len).sum();
    println!("  {:<34} {:>12}", "snapshot, bytes", bytes / states.len());

    let started = cpu_nanos();
    for bytes in &snapshots {
        black_box(snapshot::decode(bytes).expect("it was just written"));
    }
    report_each("snapshot, decode", cpu_nanos() - started, states.len());

    let started = cpu_nanos();
    for state in states {
        black_box(next_change(state, rules, now));
    }
    report_each("next change", cpu_nanos() - started, states.len());
}

fn apply(
    partition: &mut Partition,
    rules: &Arc<Rules>,
    key: &str,
    event: &Event<'_>,
    at: Timestamp,
    sequence: usize,
) {
    let slot = partition.find(key).unwrap_or_else(|| admit(partition, rules, key, at));
    partition.apply(slot, Incoming { event, at, sequence: StreamSequence(sequence as u64) }, at);
}

#[cold]
fn admit(partition: &mut Partition, rules: &Arc<Rules>, key: &str, now: Timestamp) -> Slot {
    let customer = CustomerId::parse(key.split_once('.').map_or(key, |(_, token)| token)).expect("a short id");
    partition.admit(Admission { key: key.into(), customer, rules: Arc::clone(rules), stored: None }, now)
}

fn slots(partition: &Partition) -> Vec<Slot> {
    partition.slots().into_iter().map(|(slot, _)| slot).collect()
}

/// Events in the order of their time.
struct Stream {
    keys: Vec<String>,
    events: Vec<Drawn>,
}

struct Drawn {
    customer: usize,
    at: Timestamp,
    body: Vec<u8>,
}

impl Stream {
    /// Draws events of customers of whom few do much and many do little (Zipf).
    fn draw(events: usize, customers: usize) -> Self {
        let mut random = StdRng::seed_from_u64(7);
        let keys = (0..customers).map(|customer| format!("acme.customer-{customer:06}")).collect();
        let weights: Vec<f64> = (1..=customers)
            .scan(0.0, |sum, rank| {
                *sum += 1.0 / rank as f64;
                Some(*sum)
            })
            .collect();
        let total = weights.last().copied().unwrap_or(1.0);
        let step = SPAN_MILLIS / i64::try_from(events).expect("a number of events");
        let events = (0..).map(|number| START + number * step).take(events).map(|at| {
            let pick = random.random_range(0.0..total);
            let customer = weights.partition_point(|sum| *sum < pick);
            let at = Timestamp::from_millis(at);
            Drawn { customer, at, body: body(&mut random, at) }
        });
        Self { keys, events: events.collect() }
    }

    fn decode(&self) -> Vec<Event<'_>> {
        let decoded = self.events.iter().map(|event| {
            // JSON needs no scratch: the event borrows from its body alone.
            let scratch = Box::leak(Box::default());
            decode(&event.body, Encoding::Json, scratch).expect("the events are valid")
        });
        decoded.collect()
    }

    fn bytes_per_event(&self) -> usize {
        self.events.iter().map(|event| event.body.len()).sum::<usize>() / self.events.len()
    }
}

fn body(random: &mut StdRng, at: Timestamp) -> Vec<u8> {
    let more = match random.random_range(0..1_000) {
        0..550 => r#""event":"page_view","properties":{"path":"/projects/1234/overview","referrer":"/projects"}"#,
        550..700 => r#""event":"feature_used","properties":{"feature":"report_builder","seconds":37}"#,
        700..800 => r#""event":"login","properties":{"method":"password","browser":"firefox"}"#,
        800..900 => r#""event":"dashboard_opened","properties":{"dashboard":"revenue","widgets":12}"#,
        900..960 => r#""event":"report_created","properties":{"report":"monthly","rows":1204}"#,
        960..980 => r#""event":"billing_page_view","properties":{"path":"/settings/billing"}"#,
        980..985 => r#""event":"support_ticket","properties":{"sentiment":"negative","channel":"email"}"#,
        985..990 => r#""event":"support_ticket","properties":{"message":"thanks, that works great now"}"#,
        990..994 => r#""event":"payment_succeeded","properties":{"amount":4900,"currency":"usd"}"#,
        994..996 => r#""event":"payment_failed","properties":{"amount":4900,"currency":"usd"}"#,
        _ => return facts(random, at),
    };
    let id: u128 = random.random();
    format!(r#"{{"id":"{id:032x}","timestamp":"{at}",{more},"userId":"user-17"}}"#).into_bytes()
}

fn facts(random: &mut StdRng, at: Timestamp) -> Vec<u8> {
    let id: u64 = random.random();
    let fact = r#""kind":"subscription","id":"sub_1","change":"updated","status":"active","mrr":{"amount":4900,"currency":"usd"}"#;
    format!(
        r#"{{"id":"evt_{id:016x}","timestamp":"{at}","event":"subscription_updated","facts":[{{{fact},"created":"{at}"}}]}}"#
    )
    .into_bytes()
}

fn report_rate(what: &str, nanos: u64, count: usize) {
    let each = nanos as f64 / count as f64;
    println!("  {what:<34} {:>12.2} million/s  {each:.0} ns", 1_000.0 / each);
}

fn report_each(what: &str, nanos: u64, count: usize) {
    println!("  {what:<34} {:>12.0} ns", nanos as f64 / count as f64);
}

/// CPU time of this thread so far.
fn cpu_nanos() -> u64 {
    let said = fs::read_to_string("/proc/thread-self/schedstat").expect("Linux tells each thread's CPU time");
    said.split(' ').next().and_then(|nanos| nanos.parse().ok()).expect("the first number is the CPU time")
}

/// Memory of this process that is resident.
fn resident_bytes() -> usize {
    let said = fs::read_to_string("/proc/self/statm").expect("Linux tells a process's memory");
    let pages: usize = said.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("the second number is resident");
    pages * 4_096
}
