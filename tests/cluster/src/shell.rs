//! Tools of the system, run to their end.

use std::process::{Command, Stdio};

use crate::error::{HarnessError, Result};

/// Runs a command line given as words; its standard output.
///
/// # Errors
/// If it cannot be started or does not end with status 0.
pub fn run(words: &[&str]) -> Result<String> {
    let failed = |said: String| HarnessError::Command { command: words.join(" "), said };
    let output = Command::new(words[0]).args(&words[1..]).stdin(Stdio::null()).output();
    let output = output.map_err(|error| failed(format!("{error} (is it installed?)")))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(failed(if said.is_empty() { output.status.to_string() } else { said }));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// As [`run`], for a command line in one string without quotes.
///
/// # Errors
/// As [`run`].
pub fn line(line: &str) -> Result<String> {
    run(&line.split_whitespace().collect::<Vec<_>>())
}
