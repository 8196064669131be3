//! Where log lines go: standard error, filtered by the configuration.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Starts logging; a second call in one process (tests) changes nothing.
pub fn start(filter: &str) {
    // The library that the metadata is agreed on by tells its steps: of use to those who ask for them.
    let filter = format!("openraft=error,{filter}");
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init();
}
