//! Why a configuration is refused: which key, where it was set, what is allowed.

use super::settings::Origin;
use std::path::PathBuf;

/// A refusal of the configuration. `Display` says what is wrong, where, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file given by `--config` cannot be read.
    #[error("the config file {path} cannot be read: {source}; give another file with --config, or none to use the defaults", path = path.display())]
    FileUnreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("the config file {path} is not valid TOML: {detail}", path = path.display())]
    FileSyntax {
        /// The file.
        path: PathBuf,
        /// Parser's message with line and column.
        detail: String,
    },
    /// A key that does not exist.
    #[error("unknown key `{name}` {origin}{}; all keys are listed in docs/configuration.md and by `heddle serve --help`", nearest.map(|n| format!(" (did you mean `{n}`?)")).unwrap_or_default())]
    UnknownKey {
        /// As written.
        name: String,
        /// Where it was written.
        origin: Origin,
        /// The valid key that is spelled most alike.
        nearest: Option<&'static str>,
    },
    /// A value that its key does not allow.
    #[error("`{name}` cannot be `{value}` ({origin}): {allowed}")]
    Value {
        /// The key.
        name: &'static str,
        /// As written.
        value: String,
        /// Where it was written.
        origin: Origin,
        /// What is allowed.
        allowed: String,
    },
    /// Values that are fine alone and impossible together.
    #[error("{what}: {advice}")]
    Conflict {
        /// The keys and their values.
        what: String,
        /// What to change.
        advice: String,
    },
}
