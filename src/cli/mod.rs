//! The command line: one file a subcommand, each with its `Options` and what they `run`.
//!
//! Only here are exit codes known: 0, 1 for a failure, 2 for wrong usage, 78 for a configuration that cannot work. What is
//! asked for goes to standard output, everything said besides to standard error. A pipe that was closed ends a command in
//! silence.

mod account; // who is served
mod channel; // where alerts go
mod check; // the configuration, without any server
mod connect; // the way to the servers, for commands that end
mod demo; // a believable company for scripts/demo
mod dev; // the whole system from nothing
mod doctor; // what is wrong, and the next step
mod key; // who may come in
mod lines; // files of events, line by line
mod migrate; // the tables
mod notify; // what would be sent
mod output; // what is printed
mod partitions; // how many, and twice as many
mod provision; // the streams
mod publish; // importing history
mod replay_dead; // a second chance for dead letters
mod run; // the daemon
mod score; // scoring without servers
mod settings; // flags that are settings
mod stripe; // what is to be had from Stripe besides its webhooks
mod watch; // alerts as they come

use std::{io, process::ExitCode};

use anyhow::Context as _;

use crate::{
    config::ConfigErrors, engine::rules::InvalidRules, pipeline::rulebook::RuleBookError, store::StoreError,
    stream::StreamError, telemetry::log,
};

/// Sees subscription customers leave before they do.
#[derive(Debug, clap::Parser)]
#[command(
    name = "churnd",
    version,
    propagate_version = true,
    after_help = "First steps: `churnd dev` runs everything from nothing; `churnd doctor` says what is wrong and what to do.\n\
                  Exit codes: 0, 1 failure, 2 usage, 78 configuration."
)]
pub enum Command {
    /// Run the daemon until it is told to stop
    Run(run::Options),
    /// Run everything from nothing: private NATS and Postgres, a demo account, and the daemon
    Dev(dev::Options),
    /// Create and update the streams that churnd needs
    Provision(provision::Options),
    /// Bring the tables in Postgres up to date
    Migrate(migrate::Options),
    /// Show how many partitions there are, or double them while everything runs
    Partitions(partitions::Options),
    /// Check the configuration and the rules; names all mistakes at once
    Check(check::Options),
    /// Find out what is wrong, and say the next step for each fault
    Doctor(doctor::Options),
    /// Add and list accounts
    #[command(subcommand)]
    Account(account::Command),
    /// Add, list and revoke keys
    #[command(subcommand)]
    Key(key::Command),
    /// Add, change, try out and list the channels that alerts go to
    #[command(subcommand)]
    Channel(channel::Command),
    /// Fetch what was missed from Stripe
    #[command(subcommand)]
    Stripe(stripe::Command),
    /// Look at the messages that alerts become
    #[command(subcommand)]
    Notify(notify::Command),
    /// Publish a file of events: the way to import history
    Publish(publish::Options),
    /// Score a file of events, without any server
    Score(score::Options),
    /// Show alerts as they come
    Watch(watch::Options),
    /// Give dead letters that have become valid a second chance
    ReplayDead(replay_dead::Options),
    /// Make up a company's customers for scripts/demo
    #[command(subcommand, hide = true)]
    DemoEvents(demo::Command),
}

impl Command {
    /// Runs the command to its end.
    pub fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Run(options) => options.run(),
            Self::Dev(options) => options.run(),
            Self::Check(options) => options.run(),
            Self::Score(options) => options.run(),
            Self::Notify(command) => command.run(),
            Self::Provision(options) => brief(options.run()),
            Self::Migrate(options) => brief(options.run()),
            Self::Partitions(options) => brief(options.run()),
            Self::Doctor(options) => brief(options.run()),
            Self::Account(command) => brief(command.run()),
            Self::Key(command) => brief(command.run()),
            Self::Channel(command) => brief(command.run()),
            Self::Stripe(command) => brief(command.run()),
            Self::Publish(options) => brief(options.run()),
            Self::Watch(options) => brief(options.run()),
            Self::ReplayDead(options) => brief(options.run()),
            Self::DemoEvents(command) => brief(command.run()),
        }
    }
}

/// Says what went wrong, if anything did, and gives the exit code for it.
pub fn report(outcome: anyhow::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("churnd: {error:#}");
            exit_code(&error)
        }
    }
}

/// Runs a command that ends by itself. It logs warnings only: its output is what it was asked for.
fn brief(command: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    log::init(&log::Config { format: log::Format::Text, level: "warn".to_owned() }, None)?;
    block_on(command)
}

/// Runs a future on a runtime of its own. Reads from standard input that still hang at the end are left behind.
fn block_on(command: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the threads to work on")?;
    let outcome = runtime.block_on(command);
    runtime.shutdown_background();
    outcome
}

fn exit_code(error: &anyhow::Error) -> ExitCode {
    /// `EX_CONFIG` of sysexits.h: systemd does not try again.
    const CONFIGURATION: u8 = 78;
    if error.chain().any(is_of_configuration) { ExitCode::from(CONFIGURATION) } else { ExitCode::FAILURE }
}

fn is_of_configuration(cause: &(dyn std::error::Error + 'static)) -> bool {
    cause.is::<ConfigErrors>()
        || cause.is::<InvalidRules>()
        || cause.is::<RuleBookError>()
        || cause.is::<check::Mistakes>()
        || matches!(cause.downcast_ref(), Some(StreamError::Settings { .. }))
        || matches!(cause.downcast_ref(), Some(StoreError::Config(_)))
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let of_pipe = |cause: &io::Error| cause.kind() == io::ErrorKind::BrokenPipe;
    error.downcast_ref::<output::NotPrinted>().is_some_and(|output::NotPrinted(cause)| of_pipe(cause))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn verify_cli() {
        Command::command().debug_assert();
    }

    #[test]
    fn mistakes_in_the_configuration_have_an_exit_code_of_their_own() {
        let settings = StreamError::Settings { setting: "nats.url", problem: "names no server".to_owned() };
        let code = |error: anyhow::Error| format!("{:?}", exit_code(&error));
        assert_eq!(code(anyhow::Error::new(settings).context("cannot start")), format!("{:?}", ExitCode::from(78)));
        assert_eq!(code(anyhow::anyhow!("no")), format!("{:?}", ExitCode::FAILURE));
    }
}
