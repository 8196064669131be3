//! `heddle serve`: reads the configuration and runs the broker until it is told to stop.

use super::CliError;
use super::args::ServeArgs;
use crate::config::Config;
use crate::fatal::Fatal;

/// Runs the broker; returns after a clean stop.
pub fn run(args: &ServeArgs) -> Result<(), CliError> {
    let config = Config::load(&args.sources()).map_err(|error| CliError::Fatal(Fatal::Config(error)))?;
    crate::boot::serve(config).map_err(CliError::Fatal)
}
