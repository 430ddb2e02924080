//! The worlds that every run of the tests lives through.

use churnd::pipeline::mutant::Mutants;

use crate::story::{Ended, live};

/// Over how many tests the seeds are spread, so that they run side by side.
const PARTS: u64 = 8;
const SEEDS: u64 = 10_000;

#[expect(clippy::disallowed_methods, reason = "these settings are the tests' own")]
fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// How to see a world again, and what was wrong with it.
fn report(seed: u64, ended: &Ended) -> String {
    format!(
        "{}\nseed {seed} failed:\n  {}\nto see it again:\n  CHURND_SIM_SEED={seed} cargo nextest run --features mutants \
         --no-capture -E 'binary(sim) and test(replay)'\n",
        ended.trace,
        ended.violations.join("\n  ")
    )
}

fn live_through(part: u64) {
    let seeds = setting("CHURND_SIM_SEEDS").unwrap_or(SEEDS);
    let mut slowest = 0;
    let (mut worlds, mut events, mut alerts, mut commits, mut fenced) = (0_u64, 0, 0, 0, 0);
    for seed in (part..seeds).step_by(usize::try_from(PARTS).expect("few")) {
        let ended = live(seed, Mutants::default());
        assert!(ended.violations.is_empty(), "{}", report(seed, &ended));
        slowest = slowest.max(ended.rested_after);
        worlds += 1;
        events += ended.facts.events;
        alerts += ended.facts.alerts;
        commits += ended.facts.commits;
        fenced += ended.facts.fenced;
    }
    println!(
        "{worlds} worlds: {events} events, {commits} commits, {fenced} refused, {alerts} alerts; \
         all at rest {slowest} ms after the last fault"
    );
}

#[test]
fn worlds_of_part_0_keep_their_promises() {
    live_through(0);
}

#[test]
fn worlds_of_part_1_keep_their_promises() {
    live_through(1);
}

#[test]
fn worlds_of_part_2_keep_their_promises() {
    live_through(2);
}

#[test]
fn worlds_of_part_3_keep_their_promises() {
    live_through(3);
}

#[test]
fn worlds_of_part_4_keep_their_promises() {
    live_through(4);
}

#[test]
fn worlds_of_part_5_keep_their_promises() {
    live_through(5);
}

#[test]
fn worlds_of_part_6_keep_their_promises() {
    live_through(6);
}

#[test]
fn worlds_of_part_7_keep_their_promises() {
    live_through(7);
}

#[test]
fn the_same_seed_gives_the_same_world_to_the_last_line() {
    for seed in (0..2_000).step_by(40) {
        let (one, two) = (live(seed, Mutants::default()), live(seed, Mutants::default()));
        assert_eq!(one.hash, two.hash, "seed {seed}: {}", first_difference(&one.trace, &two.trace));
    }
}

fn first_difference(one: &str, two: &str) -> String {
    let differs = one.lines().zip(two.lines()).find(|(one, two)| one != two);
    differs.map_or_else(|| "one is longer".to_owned(), |(one, two)| format!("\n{one}\n{two}"))
}

#[test]
fn replay() {
    let Some(seed) = setting("CHURND_SIM_SEED") else { return };
    let log = tracing_subscriber::fmt().with_env_filter("info,churnd=debug").without_time().with_target(false);
    log.with_ansi(false).init();
    let ended = live(seed, Mutants::default());
    println!("trace {:016x}, at rest after {} ms, {:?}", ended.hash, ended.rested_after, ended.facts);
    assert!(ended.violations.is_empty(), "{}", ended.violations.join("\n"));
}
