//! The layers of a configuration and typed access to the winning value of each key.

use super::CoreSelection;
use super::entries::{ENTRIES, Entry, Kind};
use super::error::ConfigError;
use super::profiles;
use super::value::{format_bytes, parse_address, parse_bytes, parse_pairs};
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Built in.
    Default,
    /// The profile of this name.
    Profile(&'static str),
    /// The config file.
    File(PathBuf),
    /// An environment variable.
    Environment(String),
    /// The command line.
    CommandLine,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => write!(f, "by default"),
            Origin::Profile(name) => write!(f, "by the profile {name}"),
            Origin::File(path) => write!(f, "in the file {}", path.display()),
            Origin::Environment(variable) => write!(f, "in the environment variable {variable}"),
            Origin::CommandLine => write!(f, "on the command line"),
        }
    }
}

/// What the user gave, layer by layer.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// TOML file with the keys of [`ENTRIES`] at the top level.
    pub file: Option<PathBuf>,
    /// Environment, key name to value; see [`Sources::read_environment`].
    pub environment: BTreeMap<String, String>,
    /// Command line, key name to value.
    pub command_line: BTreeMap<String, String>,
}

impl Sources {
    /// Takes the `HEDDLE_*` variables of known keys from the environment. Others are ignored: orchestrators set
    /// variables of that form for a service that happens to be called heddle.
    pub fn read_environment(mut self) -> Sources {
        for entry in ENTRIES {
            if let Ok(value) = std::env::var(entry.variable()) {
                self.environment.insert(entry.name.to_owned(), value);
            }
        }
        self
    }
}

/// The winning text of every key.
pub struct Settings {
    values: BTreeMap<&'static str, (String, Origin)>,
}

impl Settings {
    /// Lays the sources over each other; refuses unknown keys.
    pub fn collect(sources: &Sources) -> Result<Settings, ConfigError> {
        let defaults = ENTRIES.iter().map(|entry| (entry.name, (entry.default.to_owned(), Origin::Default)));
        let mut settings = Settings { values: defaults.collect() };
        if let Some(path) = &sources.file {
            for (name, value) in read_file(path)? {
                settings.put(&name, value, Origin::File(path.clone()))?;
            }
        }
        for (name, value) in &sources.environment {
            let variable = format!("HEDDLE_{}", name.to_ascii_uppercase());
            settings.put(name, value.clone(), Origin::Environment(variable))?;
        }
        for (name, value) in &sources.command_line {
            settings.put(name, value.clone(), Origin::CommandLine)?;
        }
        settings.lay_profile();
        Ok(settings)
    }

    /// Puts the profile's values where nobody said anything. An unknown profile is refused when its key is read.
    fn lay_profile(&mut self) {
        let Some(profile) = profiles::find(self.raw("profile")) else { return };
        for (name, value) in profile.presets {
            if self.values[name].1 == Origin::Default {
                self.values.insert(name, ((*value).to_owned(), Origin::Profile(profile.name)));
            }
        }
    }

    fn put(&mut self, name: &str, value: String, origin: Origin) -> Result<(), ConfigError> {
        match Entry::find(name) {
            Some(entry) => {
                self.values.insert(entry.name, (value, origin));
                Ok(())
            }
            None => {
                let nearest = Entry::nearest(name);
                Err(ConfigError::UnknownKey { name: name.to_owned(), origin, nearest })
            }
        }
    }

    /// Every key with the text that won, for those who ask a running broker.
    pub fn in_force(&self) -> Vec<(&'static str, String)> {
        self.values.iter().map(|(name, (value, _))| (*name, value.trim().to_owned())).collect()
    }

    fn raw(&self, name: &'static str) -> &str {
        let (value, _) = &self.values[name];
        value.trim()
    }

    fn entry(name: &'static str) -> &'static Entry {
        Entry::find(name).expect("every key that is read stands in the table; a test reads them all")
    }

    /// The refusal of the present value of `name`.
    pub fn refuse(&self, name: &'static str, allowed: impl Into<String>) -> ConfigError {
        let (value, origin) = self.values[name].clone();
        ConfigError::Value { name, value, origin, allowed: allowed.into() }
    }

    /// Reads `name` with `read`, or `None` if it holds its word for "not set".
    fn unless_unset<T>(
        &self,
        name: &'static str,
        read: impl FnOnce() -> Result<T, ConfigError>,
    ) -> Result<Option<T>, ConfigError> {
        match Settings::entry(name).unset == Some(self.raw(name)) {
            true => Ok(None),
            false => read().map(Some),
        }
    }

    /// A text, path or choice; not empty.
    pub fn text(&self, name: &'static str) -> Result<String, ConfigError> {
        let value = self.raw(name);
        match Settings::entry(name).kind {
            Kind::Choice(words) if !words.contains(&value) => {
                Err(self.refuse(name, format!("allowed are {}", words.join(", "))))
            }
            _ if value.is_empty() => Err(self.refuse(name, "it must not be empty")),
            _ => Ok(value.to_owned()),
        }
    }

    /// A text that may be left unset.
    pub fn optional_text(&self, name: &'static str) -> Result<Option<String>, ConfigError> {
        self.unless_unset(name, || self.text(name))
    }

    /// A whole number within the range of the table.
    pub fn count<N: TryFrom<u64>>(&self, name: &'static str) -> Result<N, ConfigError> {
        let Kind::Count(min, max) = Settings::entry(name).kind else { unreachable!("{name} is a count") };
        let number = self.raw(name).parse::<u64>().ok().filter(|number| (min..=max).contains(number));
        number
            .and_then(|number| N::try_from(number).ok())
            .ok_or_else(|| self.refuse(name, format!("allowed is a whole number from {min} to {max}")))
    }

    /// A number that may be left unset.
    pub fn optional_count<N: TryFrom<u64>>(&self, name: &'static str) -> Result<Option<N>, ConfigError> {
        self.unless_unset(name, || self.count(name))
    }

    /// A size within the range of the table.
    pub fn bytes<N: TryFrom<u64>>(&self, name: &'static str) -> Result<N, ConfigError> {
        let Kind::Bytes(min, max) = Settings::entry(name).kind else { unreachable!("{name} is a size") };
        let bytes = parse_bytes(self.raw(name)).map_err(|allowed| self.refuse(name, allowed))?;
        let in_range = Some(bytes).filter(|bytes| (min..=max).contains(bytes));
        in_range.and_then(|bytes| N::try_from(bytes).ok()).ok_or_else(|| {
            self.refuse(name, format!("allowed is {} to {}", format_bytes(min), format_bytes(max)))
        })
    }

    /// A size that may be left unset.
    pub fn optional_bytes(&self, name: &'static str) -> Result<Option<u64>, ConfigError> {
        self.unless_unset(name, || self.bytes(name))
    }

    /// `NAME=VALUE` pairs; none if left unset.
    pub fn pairs(&self, name: &'static str) -> Result<BTreeMap<String, String>, ConfigError> {
        let read = || parse_pairs(self.raw(name)).map_err(|allowed| self.refuse(name, allowed));
        Ok(self.unless_unset(name, read)?.unwrap_or_default())
    }

    /// A host as written and its resolved address.
    pub fn address(&self, name: &'static str) -> Result<(String, SocketAddr), ConfigError> {
        parse_address(self.raw(name)).map_err(|allowed| self.refuse(name, allowed))
    }

    /// An address that may be left unset.
    pub fn optional_address(&self, name: &'static str) -> Result<Option<(String, SocketAddr)>, ConfigError> {
        self.unless_unset(name, || self.address(name))
    }

    /// `true` or `false`.
    pub fn boolean(&self, name: &'static str) -> Result<bool, ConfigError> {
        self.raw(name).parse().map_err(|_| self.refuse(name, "allowed are true and false"))
    }

    /// A selection of cores, not yet resolved to CPUs.
    pub fn cores(&self, name: &'static str) -> Result<CoreSelection, ConfigError> {
        CoreSelection::parse(self.raw(name)).map_err(|allowed| self.refuse(name, allowed))
    }

    /// A log filter in `tracing` syntax.
    pub fn log_filter(&self, name: &'static str) -> Result<String, ConfigError> {
        let filter = self.text(name)?;
        match tracing_subscriber::EnvFilter::try_new(&filter) {
            Ok(_) => Ok(filter),
            Err(error) => {
                Err(self.refuse(name, format!("{error}; a filter is a level such as info or debug")))
            }
        }
    }
}

/// The keys of a TOML file as texts, in file order.
fn read_file(path: &Path) -> Result<Vec<(String, String)>, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::FileUnreadable { path: path.to_owned(), source })?;
    let syntax = |detail: String| ConfigError::FileSyntax { path: path.to_owned(), detail };
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| syntax(error.to_string()))?;
    table
        .into_iter()
        .map(|(name, value)| toml_text(&name, value).map(|text| (name, text)).map_err(&syntax))
        .collect()
}

/// A TOML value as the text a user would give on the command line.
fn toml_text(name: &str, value: toml::Value) -> Result<String, String> {
    match value {
        toml::Value::String(text) => Ok(text),
        toml::Value::Integer(number) => Ok(number.to_string()),
        toml::Value::Boolean(flag) => Ok(flag.to_string()),
        toml::Value::Table(table) if name == "topic_defaults" => pairs_text(table),
        // So that an unknown section is called an unknown key and not a wrong type.
        toml::Value::Table(_) if Entry::find(name).is_none() => Ok(String::new()),
        toml::Value::Array(list) if name == "cores" => {
            let cpus: Option<Vec<String>> =
                list.iter().map(|cpu| cpu.as_integer().map(|cpu| format!("{cpu}-{cpu}"))).collect();
            cpus.map(|cpus| cpus.join(",")).ok_or_else(|| "`cores` lists numbers of CPUs".to_owned())
        }
        other => {
            Err(format!("`{name}` is a {}; a text, a number, true or false is expected", other.type_str()))
        }
    }
}

/// A table of configs in the form of the command line.
fn pairs_text(table: toml::Table) -> Result<String, String> {
    let pair =
        |(name, value): (String, toml::Value)| toml_text(&name, value).map(|value| format!("{name}={value}"));
    let pairs: Result<Vec<String>, String> = table.into_iter().map(pair).collect();
    Ok(pairs?.join(","))
}
