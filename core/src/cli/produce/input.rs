//! Reads the input in chunks on the blocking thread, so that the connection goes on while a pipe is silent.

use crate::cli::CliError;
use crate::runtime::block_on::run_blocking;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Size of one read.
pub const CHUNK_BYTES: usize = 1 << 20;

/// A file or standard input.
pub struct Input {
    /// Gone while a read is under way, and after one failed.
    reader: Option<Box<dyn Read + Send>>,
    name: String,
    bytes_read: u64,
    /// Size of a file, for progress.
    bytes_total: Option<u64>,
}

impl Input {
    /// Opens `file`; standard input for none or `-`.
    pub fn open(file: Option<&Path>) -> Result<Input, CliError> {
        let Some(path) = file.filter(|path| *path != Path::new("-")) else {
            let reader: Box<dyn Read + Send> = Box::new(io::stdin());
            let name = "standard input".to_owned();
            return Ok(Input { reader: Some(reader), name, bytes_read: 0, bytes_total: None });
        };
        let name = path.display().to_string();
        let failed = |source| CliError::Input { name: name.clone(), source };
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        let bytes_total = metadata.is_file().then_some(metadata.len());
        Ok(Input { reader: Some(Box::new(file)), name, bytes_read: 0, bytes_total })
    }

    /// What to call it in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The next bytes, as many as there are but at most [`CHUNK_BYTES`]; none at the end.
    pub async fn read(&mut self) -> Result<Vec<u8>, CliError> {
        let Some(mut reader) = self.reader.take() else { return Ok(Vec::new()) };
        let work = move || {
            let mut chunk = vec![0; CHUNK_BYTES];
            let result = read_retrying(&mut *reader, &mut chunk);
            (reader, result.map(|count| (chunk, count)))
        };
        let failed = |source| CliError::Input { name: self.name.clone(), source };
        let (reader, result) = run_blocking(work).await.map_err(failed)?;
        let (mut chunk, count) = result.map_err(failed)?;
        self.reader = Some(reader);
        chunk.truncate(count);
        self.bytes_read += count as u64;
        Ok(chunk)
    }

    /// ` (12 %)`, or nothing if the size is not known.
    pub fn percent(&self) -> String {
        match self.bytes_total {
            Some(total) if total > 0 => format!(" ({} %)", (self.bytes_read * 100 / total).min(100)),
            _ => String::new(),
        }
    }
}

fn read_retrying(reader: &mut dyn Read, chunk: &mut [u8]) -> io::Result<usize> {
    loop {
        match reader.read(chunk) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
