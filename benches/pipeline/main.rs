//! Measures churnd as a whole: the real daemon in a process of its own, beside a real `nats-server` and a Postgres that
//! syncs to disk. `scripts/bench` runs it.
//!
//!     pipeline [--quick] [throughput | engine | latency | recovery | growth | scale | http | memory]...
//!
//! Machines differ and are noisy, so rates are told relative to a bare reader that drains the same stream at the same
//! time, and beside the CPU seconds that each process spent.

mod catch_up; // daemon and bare reader in turn on one stream; ever more customers
mod daemon; // the daemon as a child process: this executable, called again
mod engine; // decoding and scoring alone, on one core
mod http; // tracking over HTTP
mod latency; // from an event to its alert
mod load; // the events
mod memory; // how much memory is held while everything goes wrong
mod picture; // curves
mod process; // what the kernel says of a process
mod reader; // the bare reader, the yardstick
mod recovery; // killed and started again
mod report; // the table
mod scale; // several instances
mod site; // the servers
mod stopwatch; // from event to alert

use std::{env, process::ExitCode};

use anyhow::bail;

use self::{report::Report, site::Site};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
struct Amounts {
    events: u64,
    growth_events: u64,
    /// So many that it does not count what each daemon does once, as taking memory from the system for the first time.
    shared_events: u64,
    customers: usize,
    many_customers: usize,
    most_customers: usize,
    turns: usize,
    latency_seconds: u64,
    outage_seconds: u64,
    soak_seconds: u64,
}

const FULL: Amounts = Amounts {
    events: 1_000_000,
    growth_events: 500_000,
    shared_events: 2_000_000,
    customers: 20_000,
    many_customers: 200_000,
    most_customers: 1_000_000,
    turns: 3,
    latency_seconds: 10,
    outage_seconds: 300,
    soak_seconds: 900,
};
const QUICK: Amounts = Amounts {
    events: 100_000,
    growth_events: 50_000,
    shared_events: 200_000,
    customers: 20_000,
    many_customers: 40_000,
    most_customers: 100_000,
    turns: 1,
    latency_seconds: 3,
    outage_seconds: 30,
    soak_seconds: 60,
};

const SECTIONS: [&str; 8] = ["throughput", "engine", "latency", "recovery", "growth", "scale", "http", "memory"];

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        [daemon::FLAG] => daemon::run(),
        [http::FLAG] => http::run(),
        [reader::FLAG, url, events] => reader::run(url, events),
        arguments => measure(arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &[&str]) -> anyhow::Result<()> {
    let quick = arguments.contains(&"--quick");
    let amounts = if quick { QUICK } else { FULL };
    let wanted: Vec<&str> = arguments.iter().copied().filter(|argument| *argument != "--quick").collect();
    if let Some(unknown) = wanted.iter().find(|section| !SECTIONS.contains(section)) {
        bail!("there is no section {unknown}: choose of {}, and --quick", SECTIONS.join(", "));
    }
    let wants = |section| wanted.is_empty() || wanted.contains(&section);
    let mut report = Report::default();
    if wants("engine") {
        engine::measure(amounts, &mut report)?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut site = Site::start().await?;
        if wants("throughput") {
            catch_up::measure(&mut site, amounts, &mut report).await?;
        }
        if wants("latency") {
            latency::measure(&mut site, amounts, &mut report).await?;
        }
        if wants("recovery") {
            recovery::measure(&mut site, amounts, &mut report).await?;
        }
        if wants("growth") {
            catch_up::measure_growth(&mut site, amounts, &mut report).await?;
        }
        if wants("scale") {
            scale::measure(&mut site, amounts, &mut report).await?;
        }
        if wants("http") {
            http::measure(&mut site, amounts, &mut report).await?;
        }
        // Takes half an hour: only where it is asked for by name.
        if wanted.contains(&"memory") {
            memory::measure(&mut site, amounts, &mut report).await?;
        }
        anyhow::Ok(())
    })?;
    print!("{report}");
    Ok(())
}

/// Tells what is going on; the table alone goes to standard output.
fn say(what: &str) {
    eprintln!("bench: {what}");
}
