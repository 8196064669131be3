//! The command line: parses it, runs one command, and turns how it ended into an exit status.
//!
//! Every command returns a [`CliError`] or nothing; what a command prints on standard output is its result, and all
//! else (progress, counts, errors) goes to standard error, so that both `heddle consume | ...` and `--json` stay clean.

use clap::Parser;
use std::process::ExitCode;

mod args;
mod cluster;
mod consume;
mod doctor;
mod error;
mod group;
mod kafka;
mod latency;
mod output;
mod produce;
mod progress;
mod reference;
mod serve;
mod session;
#[cfg(test)]
mod tests;
mod topic;

use args::{Cli, ClusterCommand, Command};
pub use error::CliError;

/// Runs the command of this process's arguments. Exit statuses are listed in `docs/configuration.md`.
pub fn run() -> ExitCode {
    crate::fatal::install_panic_hook();
    let cli = Cli::parse();
    let json = cli.command.wants_json();
    match dispatch(cli.command) {
        Ok(()) | Err(CliError::BrokenPipe) => ExitCode::SUCCESS,
        Err(error) => {
            error.report(json);
            ExitCode::from(error.status())
        }
    }
}

fn dispatch(command: Command) -> Result<(), CliError> {
    match command {
        Command::Serve(args) => serve::run(&args),
        Command::Topic(args) => client(topic::run(args)),
        Command::Produce(args) => client(produce::run(args)),
        Command::Consume(args) => client(consume::run(args)),
        Command::Group(args) => client(group::run(args)),
        Command::Cluster(args) => match args.command {
            ClusterCommand::Latency(what) => client(latency::show(args.connect, what)),
            other => client(cluster::run(args.connect, other)),
        },
        Command::Doctor(args) => doctor::run(&args),
        Command::ConfigReference => reference::run(),
    }
}

/// Runs a client command on an executor, after making sure that the machine has what one needs.
fn client(command: impl Future<Output = Result<(), CliError>>) -> Result<(), CliError> {
    let unfit = crate::doctor::client_failures();
    if !unfit.is_empty() {
        return Err(CliError::Fatal(crate::fatal::Fatal::Environment(unfit)));
    }
    crate::runtime::block_on::block_on(command).map_err(CliError::Executor)?
}
