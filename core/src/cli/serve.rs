//! `heddle serve`: reads the configuration and runs the broker until it is told to stop.

use std::os::unix::process::CommandExt;

use super::CliError;
use super::args::ServeArgs;
use crate::config::Config;
use crate::fatal::Fatal;
use crate::runtime::signals;

/// Runs the broker; returns after a clean stop. A broker that is to begin anew is replaced by itself, in the same process.
pub fn run(args: &ServeArgs) -> Result<(), CliError> {
    let config = Config::load(&args.sources()).map_err(|error| CliError::Fatal(Fatal::Config(error)))?;
    crate::boot::serve(config).map_err(CliError::Fatal)?;
    if signals::is_restart_requested() {
        tracing::info!("starting anew");
        let program = std::env::current_exe().unwrap_or_else(|_| "heddle".into());
        let failed = std::process::Command::new(program).args(std::env::args_os().skip(1)).exec();
        return Err(CliError::Fatal(Fatal::Core {
            core: 0,
            detail: format!("it cannot start anew: {failed}"),
        }));
    }
    Ok(())
}
