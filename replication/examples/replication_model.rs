//! Checks the replication model by command: the instances of the test run, larger ones, or those that lack a rule.
//!
//! `cargo run --release --example replication-model -- small|healing|large|omitted|implied [PART OF A NAME]`

#[path = "../tests/model/checked.rs"]
mod checked;
#[path = "../tests/model/healing.rs"]
mod healing;
#[path = "../tests/model/instance.rs"]
mod instance;
#[path = "../tests/model/instances.rs"]
mod instances;
#[path = "../tests/model/omitted.rs"]
mod omitted;
#[path = "../tests/model/report.rs"]
mod report;
#[path = "../tests/model/world.rs"]
mod world;

use std::process::ExitCode;

use report::Report;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let set = arguments.first().map(String::as_str).unwrap_or("small");
    let part = arguments.get(1).map(String::as_str).unwrap_or("");
    let omits = set == "omitted";
    let chosen: Vec<(String, instance::Instance)> = match set {
        "small" => named(instances::small()),
        "healing" => named(instances::healing()),
        "large" => named(instances::large()),
        "implied" => {
            let (rule, instance) = omitted::implied();
            vec![(format!("without {rule:?}"), instance.without(rule))]
        }
        "omitted" => omitted::instances()
            .into_iter()
            .map(|(rule, _, instance)| (format!("without {rule:?}"), instance.without(rule)))
            .collect(),
        _ => {
            eprintln!("usage: replication-model small|healing|large|omitted|implied [PART OF A NAME]");
            return ExitCode::FAILURE;
        }
    };
    let mut as_expected = true;
    for (name, instance) in chosen.into_iter().filter(|(name, _)| name.contains(part)) {
        let report = Report::of(instance, None);
        println!("{name}: {report:?}");
        as_expected &= report.broken.is_some() == omits;
    }
    if as_expected { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn named(instances: Vec<(&'static str, instance::Instance)>) -> Vec<(String, instance::Instance)> {
    instances.into_iter().map(|(name, instance)| (name.to_owned(), instance)).collect()
}
