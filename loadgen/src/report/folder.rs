//! The folder of one run: figures, configuration, machine, command and the raw HDR log, each in its own file.

use super::page;
use crate::histogram::{HistogramLogError, TaggedInterval, read_log, write_log};
use crate::machine::Machine;
use crate::run::Outcome;
use crate::run::config::RunConfig;
use crate::run::summary::RunSummary;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const SUMMARY: &str = "summary.json";
const CONFIG: &str = "config.json";
const MACHINE: &str = "machine.json";
const COMMAND: &str = "command.txt";
const LATENCIES: &str = "latencies.hlog";
const PAGE: &str = "report.html";

/// Why a folder could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// A file operation failed.
    #[error("{path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A JSON file has not the expected content.
    #[error("{path}: {reason}")]
    Json {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The histogram log.
    #[error(transparent)]
    Log(#[from] HistogramLogError),
}

/// What a folder holds.
#[derive(Clone, Debug)]
pub struct RunFolder {
    /// The figures.
    pub summary: RunSummary,
    /// The machine.
    pub machine: Machine,
    /// The command line.
    pub command: String,
    /// The configuration, as it was written.
    pub config: String,
    /// Every interval of the log.
    pub intervals: Vec<TaggedInterval>,
}

/// Writes the folder of a run, making it if needed. `disk_dir` is on the disk that was measured.
pub fn write(dir: &Path, config: &RunConfig, outcome: &Outcome, disk_dir: &Path) -> Result<(), FolderError> {
    let file_error = |path: &Path| {
        let path = path.to_owned();
        move |source| FolderError::File { path, source }
    };
    fs::create_dir_all(dir).map_err(file_error(dir))?;
    write_json(&dir.join(SUMMARY), &outcome.summary)?;
    write_json(&dir.join(CONFIG), config)?;
    write_json(&dir.join(MACHINE), &Machine::describe(disk_dir))?;
    let command: Vec<String> = std::env::args().collect();
    let path = dir.join(COMMAND);
    fs::write(&path, command.join(" ") + "\n").map_err(file_error(&path))?;
    let mut log = Vec::new();
    write_log(&mut log, outcome.start, &outcome.intervals)?;
    let path = dir.join(LATENCIES);
    fs::write(&path, log).map_err(file_error(&path))?;
    let run = RunFolder::read(dir)?;
    let path = dir.join(PAGE);
    fs::write(&path, page::render(&run.summary.name.clone(), &[run])).map_err(file_error(&path))
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), FolderError> {
    let text = simd_json::to_string_pretty(value)
        .map_err(|e| FolderError::Json { path: path.to_owned(), reason: e.to_string() })?;
    fs::write(path, text + "\n").map_err(|source| FolderError::File { path: path.to_owned(), source })
}

impl RunFolder {
    /// Reads the folder of a run.
    pub fn read(dir: &Path) -> Result<Self, FolderError> {
        Ok(Self {
            summary: read_json(&dir.join(SUMMARY))?,
            machine: read_json(&dir.join(MACHINE))?,
            command: read_text(&dir.join(COMMAND))?.trim().to_owned(),
            config: read_text(&dir.join(CONFIG))?,
            intervals: read_log(read_text(&dir.join(LATENCIES))?.as_bytes())?,
        })
    }
}

fn read_text(path: &Path) -> Result<String, FolderError> {
    fs::read_to_string(path).map_err(|source| FolderError::File { path: path.to_owned(), source })
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, FolderError> {
    let mut bytes = read_text(path)?.into_bytes();
    simd_json::from_slice(&mut bytes)
        .map_err(|e| FolderError::Json { path: path.to_owned(), reason: e.to_string() })
}
