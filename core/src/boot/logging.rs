//! Where log lines go: standard error, filtered by the configuration.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Starts logging; a second call in one process (tests) changes nothing.
pub fn start(filter: &str) {
    // The library that the metadata is agreed on by tells its steps, and each message that a node that is down does not
    // get, as an error: of use to those who ask for them. What ends a node's part this broker says itself.
    let filter = format!("openraft=off,{filter}");
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init();
}
