//! The seam between the store and the machine: files, directories, aligned buffers, time and chance.

mod buffer;
pub mod memory;
mod ring;

use std::future::Future;
use std::io;
use std::path::Path;
use std::time::Duration;

use heddle_proto::ids::Timestamp;

pub use buffer::{Part, ReadBuffer, ReadMemory};
pub use memory::MemoryDisk;
pub use ring::GlommioDisk;

/// How a file is opened. Files are always read and written directly, without the page cache.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct OpenMode {
    /// Fail if the file exists; otherwise fail if it does not.
    pub create_new: bool,
    /// A completed write is on stable storage.
    pub dsync: bool,
}

impl OpenMode {
    /// An existing file, for reading and for writes that a sync makes durable.
    pub const EXISTING: Self = Self { create_new: false, dsync: false };
    /// A file that must not exist yet.
    pub const NEW: Self = Self { create_new: true, dsync: false };

    /// The same with durable writes, or without.
    #[must_use]
    pub const fn dsync(self, dsync: bool) -> Self {
        Self { dsync, ..self }
    }
}

/// One entry of a directory.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct DirEntry {
    /// Name within the directory.
    pub name: String,
    /// Whether it is a directory itself.
    pub is_dir: bool,
    /// Size in bytes; 0 for directories.
    pub size: u64,
}

/// What the store needs of a machine. Cheap to clone; clones are the same disk.
pub trait Disk: Clone + 'static {
    /// An open file.
    type File: DiskFile<Buffer = Self::Buffer> + 'static;
    /// Memory aligned for direct I/O.
    type Buffer: AsRef<[u8]> + AsMut<[u8]>;

    /// Memory for one write of `bytes`, a multiple of 4096. Its content is unspecified.
    fn alloc(&self, bytes: usize) -> Self::Buffer;

    /// Opens or creates a file.
    fn open(&self, path: &Path, mode: OpenMode) -> impl Future<Output = io::Result<Self::File>>;

    /// Renames a file or directory, replacing a file at `to`. Durable after [`Self::sync_dir`] of the parent.
    fn rename(&self, from: &Path, to: &Path) -> impl Future<Output = io::Result<()>>;

    /// Removes a file. Durable after [`Self::sync_dir`] of the parent.
    fn remove(&self, path: &Path) -> impl Future<Output = io::Result<()>>;

    /// Creates a directory and its parents. Each is durable after [`Self::sync_dir`] of its parent.
    fn create_dir_all(&self, path: &Path) -> impl Future<Output = io::Result<()>>;

    /// Removes a directory with everything in it.
    fn remove_dir_all(&self, path: &Path) -> impl Future<Output = io::Result<()>>;

    /// What a directory holds, sorted by name; nothing if it does not exist.
    fn list(&self, path: &Path) -> impl Future<Output = io::Result<Vec<DirEntry>>>;

    /// Makes creations, renames and removals in the directory durable.
    fn sync_dir(&self, path: &Path) -> impl Future<Output = io::Result<()>>;

    /// Bytes that may still be allocated on the file system of `path`.
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;

    /// Monotonic time since some fixed point.
    fn now(&self) -> Duration;

    /// Wall-clock time.
    fn wall(&self) -> Timestamp;

    /// Completes after `duration`.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + 'static;

    /// A number that cannot be guessed from outside.
    fn entropy(&self) -> u64;
}

/// An open file. Positions and lengths are multiples of 4096 unless said otherwise. Dropping it closes it.
pub trait DiskFile {
    /// Memory aligned for direct I/O.
    type Buffer;

    /// Writes the whole buffer at `position` and returns how many bytes were written.
    fn write_at(&self, buffer: Self::Buffer, position: u64) -> impl Future<Output = io::Result<usize>>;

    /// Fills `into` from `position` and returns how many bytes the file had. The length may be unaligned.
    fn read_at(&self, position: u64, into: &mut [u8]) -> impl Future<Output = io::Result<usize>>;

    /// Reads from `position` on into `part` and returns how many bytes the file had. Dropping the future abandons the
    /// read, not the memory.
    fn read_into(&self, position: u64, part: Part) -> impl Future<Output = io::Result<usize>>;

    /// Makes every completed write and the file's size durable.
    fn sync(&self) -> impl Future<Output = io::Result<()>>;

    /// Size in bytes.
    fn size(&self) -> impl Future<Output = io::Result<u64>>;

    /// Makes the file at least `bytes` long with space reserved; the new part reads as zeros. Waits for every write to the
    /// file that is in flight, whoever began it.
    fn preallocate(&self, bytes: u64) -> impl Future<Output = io::Result<()>>;

    /// Cuts the file to `bytes`.
    fn truncate(&self, bytes: u64) -> impl Future<Output = io::Result<()>>;
}

/// Waits until no write to this file of `size_bytes` is in flight. A process that was killed may be gone before its writes
/// are: one that landed later would destroy what its successor has written there. fallocate(2) waits for direct I/O under
/// way, in ext4 and XFS alike.
pub(crate) async fn wait_for_writes<F: DiskFile>(file: &F, size_bytes: u64) -> io::Result<()> {
    if size_bytes == 0 {
        return Ok(()); // nothing can be allocated
    }
    match file.preallocate(size_bytes).await {
        // A file with holes, of a copy: it has waited before it looked for space.
        Err(error) if error.kind() == io::ErrorKind::StorageFull => Ok(()),
        other => other,
    }
}

/// Reads from an aligned `position` into `buffer` from `at` on, in several I/Os of at most `io_bytes_max`, `in_flight_max`
/// at a time. The buffer then holds what the file had without a gap.
pub(crate) async fn read_parallel<F: DiskFile>(
    file: &F,
    position: u64,
    buffer: &mut ReadBuffer,
    at: usize,
    (io_bytes_max, in_flight_max): (usize, usize),
) -> io::Result<()> {
    let mut jobs = crate::event::JobSet::new();
    // How far the data goes without a gap: a part that is short ends it.
    let (mut end, mut failed) = (u64::MAX, None);
    for (index, part) in buffer.parts(at, io_bytes_max).enumerate() {
        let (from, bytes) = ((index * io_bytes_max) as u64, part.size_bytes() as u64);
        jobs.push(async move {
            let read = file.read_into(position + from, part).await? as u64;
            Ok((read < bytes).then_some(from + read))
        });
        if jobs.len() == in_flight_max {
            tally(jobs.next().await, &mut end, &mut failed);
        }
    }
    while !jobs.is_empty() {
        tally(jobs.next().await, &mut end, &mut failed);
    }
    if let Some(error) = failed {
        return Err(error);
    }
    let filled = usize::try_from(end).unwrap_or(usize::MAX).min(buffer.capacity() - at);
    // SAFETY: every part before the first short one was read whole, and that one up to `end`.
    unsafe { buffer.set_filled(filled) };
    Ok(())
}

fn tally(result: Option<io::Result<Option<u64>>>, end: &mut u64, failed: &mut Option<io::Error>) {
    match result {
        Some(Ok(Some(short))) => *end = short.min(*end),
        Some(Err(error)) => *failed = Some(error),
        Some(Ok(None)) | None => {}
    }
}

/// Syncs the directory that holds `path`.
pub(crate) async fn sync_parent<D: Disk>(disk: &D, path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => disk.sync_dir(Path::new(".")).await,
        Some(parent) => disk.sync_dir(parent).await,
        None => Ok(()),
    }
}

/// Creates `path` and its parents below `root`, each durable in its parent, the topmost first.
pub(crate) async fn create_dir_durable<D: Disk>(disk: &D, root: &Path, path: &Path) -> io::Result<()> {
    disk.create_dir_all(path).await?;
    let mut below_root: Vec<&Path> = path.ancestors().take_while(|dir| *dir != root).collect();
    while let Some(dir) = below_root.pop() {
        sync_parent(disk, dir).await?;
    }
    Ok(())
}
