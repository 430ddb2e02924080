//! What one core does: events decoded and applied in batches, states stored and looked ahead, memory per customer.
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
/// Events that come together.
const BATCH: usize = 1_000;
const BATCHES_PER_CHECKPOINT: usize = 100;
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
        run(events, customers);
    }
}

/// The number after an option on the command line.
fn argument(name: &str) -> Option<usize> {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    arguments.nth(1)?.replace(['_', ','], "").parse().ok()
}

fn run(events: usize, customers: usize) {
    let (first, second) =
        (Stream::draw(events, customers, START), Stream::draw(events, customers, START + SPAN_MILLIS));
    println!("{events} events of {customers} customers, {} bytes each", first.bytes_per_event());
    let rules = Arc::new(Rules::default());
    let mut partition = Partition::new(PartitionId(0), POLICY);
    let memory = apply_all("apply, customers being new", &first, &mut partition, &rules);
    println!("  {:<34} {:>12}", "bytes per resident customer", memory / partition.resident());
    apply_all("apply, customers in memory", &second, &mut partition, &rules);
    let found = second.events.iter().map(|drawn| &second.keys[drawn.customer]);
    let started = cpu_nanos();
    let found = found.filter(|key| partition.find(key).is_some()).count();
    report_rate("of that, to find the customer", cpu_nanos() - started, black_box(found));
    let states: Vec<CustomerState> = slots(&partition).into_iter().map(|slot| partition.state(slot).clone()).collect();
    drop(partition);
    report_states(&states, &rules, Timestamp::from_millis(START + 2 * SPAN_MILLIS));
}

/// Decodes and applies batch by batch, with a checkpoint now and then; tells the time of each and gives the memory taken.
fn apply_all(what: &str, stream: &Stream, partition: &mut Partition, rules: &Arc<Rules>) -> usize {
    let memory_before = resident_bytes();
    let mut scratches = vec![Vec::new(); BATCH];
    let (mut decoding, mut applying, mut checkpointing, mut stored) = (0, 0, 0, 0);
    for (number, batch) in stream.events.chunks(BATCH).enumerate() {
        let started = cpu_nanos();
        let events = decode_batch(batch, &mut scratches);
        let decoded = cpu_nanos();
        for (drawn, event) in batch.iter().zip(&events) {
            apply(partition, rules, &stream.keys[drawn.customer], event, drawn.at);
        }
        let applied = cpu_nanos();
        if (number + 1) % BATCHES_PER_CHECKPOINT == 0 {
            stored += partition.take_checkpoint(batch[batch.len() - 1].at).states.len();
            partition.committed();
        }
        decoding += decoded - started;
        applying += applied - decoded;
        checkpointing += cpu_nanos() - applied;
    }
    report_rate(what, applying, stream.events.len());
    report_rate("decode", decoding, stream.events.len());
    report_rate("decode and apply", decoding + applying, stream.events.len());
    report_each("checkpoint, per dirty customer", checkpointing, stored.max(1));
    resident_bytes().saturating_sub(memory_before)
}

fn decode_batch<'a>(batch: &'a [Drawn], scratches: &'a mut [Vec<u8>]) -> Vec<Event<'a>> {
    let decoded = batch.iter().zip(scratches);
    let decoded =
        decoded.map(|(event, scratch)| decode(&event.body, Encoding::Json, scratch).expect("the events are valid"));
    decoded.collect()
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

fn apply(partition: &mut Partition, rules: &Arc<Rules>, key: &str, event: &Event<'_>, at: Timestamp) {
    let slot = partition.find(key).unwrap_or_else(|| admit(partition, rules, key, at));
    partition.apply(slot, Incoming { event, at, sequence: StreamSequence(1), stored_at: at }, at);
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
    fn draw(events: usize, customers: usize, from: i64) -> Self {
        let mut random = StdRng::seed_from_u64(from.unsigned_abs());
        let keys = (0..customers).map(|customer| format!("acme.customer-{customer:06}")).collect();
        let weights: Vec<f64> = (1..=customers)
            .scan(0.0, |sum, rank| {
                *sum += 1.0 / rank as f64;
                Some(*sum)
            })
            .collect();
        let total = weights.last().copied().unwrap_or(1.0);
        let step = SPAN_MILLIS / i64::try_from(events).expect("a number of events");
        let events = (0..).map(|number| from + number * step).take(events).map(|at| {
            let pick = random.random_range(0.0..total);
            let customer = weights.partition_point(|sum| *sum < pick);
            let at = Timestamp::from_millis(at);
            Drawn { customer, at, body: body(&mut random, at) }
        });
        Self { keys, events: events.collect() }
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
        960..966 => r#""event":"billing_page_view","properties":{"path":"/settings/billing"}"#,
        966..968 => r#""event":"support_ticket","properties":{"sentiment":"negative","channel":"email"}"#,
        968..970 => r#""event":"support_ticket","properties":{"message":"thanks, that works great now"}"#,
        970..975 => r#""event":"payment_succeeded","properties":{"amount":4900,"currency":"usd"}"#,
        975..976 => r#""event":"payment_failed","properties":{"amount":4900,"currency":"usd"}"#,
        976..980 => return facts(random, at),
        _ => r#""event":"search","properties":{"query":"invoices of march","hits":12}"#,
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
    println!("  {what:<34} {each:>12.0} ns   {:.2} million/s", 1_000.0 / each);
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
    let pages: usize =
        said.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("the second number is resident");
    pages * 4_096
}
