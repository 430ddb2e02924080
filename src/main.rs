//! The `churnd` binary: parse the arguments, run the command, report the outcome.

use std::process::ExitCode;

use churnd::cli::{Command, report};
use clap::Parser as _;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    report(Command::parse().run())
}
