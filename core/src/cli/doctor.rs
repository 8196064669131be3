//! `heddle doctor`: all checks of the machine, as the broker would be started.

use super::CliError;
use super::args::DoctorArgs;
use crate::config::Config;
use crate::doctor::{self, Verdict};
use std::io;

/// Prints what was found; an error if something failed.
pub fn run(args: &DoctorArgs) -> Result<(), CliError> {
    let config = Config::load(&args.serve.sources())?;
    let findings = doctor::examine(&config);
    let mut out = io::stdout().lock();
    let printed = match args.json {
        true => doctor::print_json(&findings, &mut out),
        false => doctor::print_human(&findings, &mut out),
    };
    printed.map_err(CliError::output)?;
    match findings.iter().any(|finding| finding.verdict == Verdict::Fail) {
        true => Err(CliError::Unfit),
        false => Ok(()),
    }
}
