//! The simulator by command: one seed, many seeds, or the same seed twice.
//!
//! `cargo run --release -p heddle-sim -- one SEED | many COUNT [FIRST] | twice SEED`

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Instant;

use heddle_sim::{Outcome, Plan, run};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize, default: u64| {
        arguments.get(index).map_or(Some(default), |text: &String| text.parse::<u64>().ok())
    };
    let good = match (arguments.first().map(String::as_str), number(1, 0), number(2, 0)) {
        (Some("one"), Some(seed), _) => one(seed),
        (Some("many"), Some(count), Some(first)) => many(count, first),
        (Some("twice"), Some(seed), _) => twice(seed),
        _ => {
            eprintln!("usage: heddle-sim one SEED | many COUNT [FIRST] | twice SEED");
            false
        }
    };
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn summary(outcome: &Outcome) -> String {
    format!(
        "{} batches acknowledged, {} faults, {:.1} s of virtual time, trace {:016x}",
        outcome.acked_count,
        outcome.fault_count,
        outcome.elapsed.as_secs_f64(),
        outcome.trace
    )
}

fn one(seed: u64) -> bool {
    let plan = Plan { follow: true, ..Plan::new(seed) };
    println!("seed {seed}: {plan:?}");
    let outcome = run(&plan);
    println!("{}", summary(&outcome));
    outcome.findings.iter().for_each(|finding| println!("FOUND {finding:?}"));
    outcome.findings.is_empty()
}

fn twice(seed: u64) -> bool {
    let traces = [run(&Plan::new(seed)).trace, run(&Plan::new(seed)).trace];
    println!("seed {seed}: {:016x} {:016x}", traces[0], traces[1]);
    traces[0] == traces[1]
}

fn many(count: u64, first: u64) -> bool {
    let (begun, mut failed) = (Instant::now(), Vec::new());
    let (mut acked, mut faults, mut virtual_s) = (0, 0, 0.0);
    for seed in first..first + count {
        let outcome = run(&Plan::new(seed));
        acked += outcome.acked_count;
        faults += outcome.fault_count;
        virtual_s += outcome.elapsed.as_secs_f64();
        if let Some(finding) = outcome.findings.first() {
            println!("seed {seed}: {finding:?}");
            failed.push(seed);
        }
        if std::io::stdout().is_terminal() && seed % 10 == 0 {
            print!("\r{} of {count} seeds, {} failed", seed - first + 1, failed.len());
            drop(std::io::stdout().flush());
        }
    }
    println!(
        "{count} seeds from {first}: {} failed {failed:?}; {acked} batches acknowledged, {faults} faults, {virtual_s:.0} s of virtual \
         time in {:.0} s",
        failed.len(),
        begun.elapsed().as_secs_f64()
    );
    failed.is_empty()
}
