//! The binary: parses the command line, runs the command, turns its outcome into an exit status.

use clap::Parser;
use heddle_loadgen::cli::{Cli, Command};
use heddle_loadgen::{group, limits, memory, report, run, verify, workload};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Exit status 0: it worked; 1: it ran and something was wrong with the broker (errors, lost records); 2: it could not run.
fn main() -> ExitCode {
    memory::keep_freed();
    let outcome = match Cli::parse().command {
        Command::Run(args) => run::command(&args),
        Command::Group(args) => group::command(&args),
        Command::Limits(args) => limits::command(&args).map(|()| true),
        Command::Report(args) => report::command(&args).map(|()| true),
        Command::Verify(args) => verify::command(&args),
        Command::Workloads => {
            list_workloads();
            Ok(true)
        }
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("heddle-loadgen: {error}");
            ExitCode::from(2)
        }
    }
}

fn list_workloads() {
    for workload in workload::workloads() {
        let rate = if workload.rate == 0 { "max".to_owned() } else { format!("{}/s", workload.rate) };
        println!(
            "{:<48} {:>4} topics x {:>5} partitions  {:>5} B  {:>10}  {} producers, {} consumers per topic",
            workload.name,
            workload.topic_count,
            workload.partitions_per_topic,
            workload.record_bytes,
            rate,
            workload.producers_per_topic,
            workload.consumers_per_topic * workload.subscriptions_per_topic
        );
    }
}
