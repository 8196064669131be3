//! `heddle-loadgen report`: one page, readable without a network, of one or more run folders.

pub mod folder;
mod page;
mod svg;

use crate::cli::ReportArgs;
use folder::RunFolder;

/// Runs the command.
pub fn command(args: &ReportArgs) -> Result<(), String> {
    let runs = args.dirs.iter().map(|dir| RunFolder::read(dir)).collect::<Result<Vec<_>, _>>();
    let runs = runs.map_err(|e| e.to_string())?;
    std::fs::write(&args.output, page::render(&args.title, &runs))
        .map_err(|e| format!("{}: {e}", args.output.display()))?;
    println!("{}", args.output.display());
    Ok(())
}
