//! A pre-zeroed scratch file for direct durable I/O, removed when it is dropped, and aligned buffers for it.

use super::{BLOCK_BYTES, LimitError};
use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// One I/O stays at or below this: larger ones are split by some devices, and hang on others.
pub(super) const IO_BYTES_MAX: usize = 512 * 1024;

/// Memory whose address is a multiple of [`BLOCK_BYTES`].
pub(super) struct AlignedBuffer {
    bytes: Vec<u8>,
    start: usize,
    length: usize,
}

impl AlignedBuffer {
    /// `length` bytes of pseudo-random content, so that no layer below can make them cheap.
    pub(super) fn random(length: usize, seed: u64) -> Self {
        let mut bytes = vec![0; length + BLOCK_BYTES];
        fastrand::Rng::with_seed(seed).fill(&mut bytes);
        let start = bytes.as_ptr().align_offset(BLOCK_BYTES);
        Self { bytes, start, length }
    }

    fn zero(length: usize) -> Self {
        let bytes = vec![0; length + BLOCK_BYTES];
        let start = bytes.as_ptr().align_offset(BLOCK_BYTES);
        Self { bytes, start, length }
    }

    pub(super) fn get(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.length]
    }

    pub(super) fn get_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.length]
    }
}

/// The scratch file.
pub(super) struct ScratchFile {
    path: PathBuf,
    pub(super) length: usize,
}

impl ScratchFile {
    /// Makes a file with room for `length` bytes (a multiple of [`BLOCK_BYTES`]) in `dir`, and writes nothing to it.
    pub(super) fn allocate(dir: &Path, length: usize) -> Result<Self, LimitError> {
        let (scratch, file) = Self::empty(dir, length)?;
        // SAFETY: the descriptor is open as long as `file`, and the call touches no memory of ours.
        let status = unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, length as libc::off_t) };
        match status {
            0 => Ok(scratch),
            code => Err(scratch.error("allocating it")(std::io::Error::from_raw_os_error(code))),
        }
    }

    fn empty(dir: &Path, length: usize) -> Result<(Self, File), LimitError> {
        let path = dir.join(format!(".heddle-limit-{}-{}", std::process::id(), fastrand::u32(..)));
        let scratch = Self { path, length };
        let mut options = OpenOptions::new();
        options.create_new(true).write(true).custom_flags(libc::O_DIRECT);
        let file = options.open(&scratch.path).map_err(scratch.error("creating it for direct I/O"))?;
        Ok((scratch, file))
    }

    /// Makes a file of `length` bytes (a multiple of [`BLOCK_BYTES`]) in `dir` and writes zeros all over it, so that
    /// later writes change no metadata.
    pub(super) fn create(dir: &Path, length: usize) -> Result<Self, LimitError> {
        let (scratch, file) = Self::empty(dir, length)?;
        let zeros = AlignedBuffer::zero(IO_BYTES_MAX.min(length));
        for position in (0..length).step_by(IO_BYTES_MAX) {
            let part = &zeros.get()[..IO_BYTES_MAX.min(length - position)];
            file.write_all_at(part, position as u64).map_err(scratch.error("writing zeros"))?;
        }
        file.sync_all().map_err(scratch.error("syncing it"))?;
        Ok(scratch)
    }

    /// Opens it for durable direct writes.
    pub(super) fn open_durable(&self) -> Result<File, LimitError> {
        let mut options = OpenOptions::new();
        options.write(true).custom_flags(libc::O_DIRECT | libc::O_DSYNC);
        options.open(&self.path).map_err(self.error("opening it with O_DIRECT and O_DSYNC"))
    }

    /// Opens it for direct reads.
    pub(super) fn open_read(&self) -> Result<File, LimitError> {
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(libc::O_DIRECT);
        options.open(&self.path).map_err(self.error("opening it with O_DIRECT"))
    }

    /// Turns a system error into one that names the file.
    pub(super) fn error(&self, action: &'static str) -> impl Fn(std::io::Error) -> LimitError + use<> {
        let path = self.path.clone();
        move |source| LimitError::File { path: path.clone(), action, source }
    }
}

impl Drop for ScratchFile {
    fn drop(&mut self) {
        // Best effort: a file left behind is only litter.
        let _ = fs::remove_file(&self.path);
    }
}
