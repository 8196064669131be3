//! `heddle config-reference`: prints `docs/configuration.md`.

use super::{CliError, output};

/// Prints the page.
pub fn run() -> Result<(), CliError> {
    output::line(crate::config::markdown().trim_end())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_committed_page_is_the_generated_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
        let committed = std::fs::read_to_string(path).unwrap();
        assert!(
            committed == crate::config::markdown(),
            "docs/configuration.md is not what the tables say; run: cargo run -- config-reference > docs/configuration.md"
        );
    }
}
