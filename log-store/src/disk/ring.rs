//! The real disk: glommio's direct I/O over io_uring. The only file of this crate that names the runtime.

use std::cell::Cell;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use glommio::io::{DmaBuffer, DmaFile, OpenOptions};
use heddle_proto::ids::Timestamp;

use super::{DirEntry, Disk, DiskFile, OpenMode, Part};
use crate::codec::BLOCK_BYTES;
use crate::event::Permits;

/// The machine's file system through the io_uring of the glommio executor that polls the store. Make one on each core,
/// from within its executor.
#[derive(Clone)]
pub struct GlommioDisk {
    epoch: Instant,
    polling: Rc<PollingProbe>,
}

/// glommio asks once per thread and device whether reads can be polled, by reading the first file it opens there. An
/// empty file answers yes whatever the device, and real reads then fail. So the first file opened is one with content.
struct PollingProbe {
    done: Cell<bool>,
    turn: Permits,
}

impl PollingProbe {
    fn new() -> Self {
        Self { done: Cell::default(), turn: Permits::new(1) }
    }

    async fn ensure(&self, dir: &Path) -> io::Result<()> {
        let _turn = self.turn.acquire().await;
        if !self.done.get() {
            probe_polling(dir).await?;
            self.done.set(true);
        }
        Ok(())
    }
}

async fn probe_polling(dir: &Path) -> io::Result<()> {
    let path = dir.join(format!(".probe-{:016x}", RandomState::new().hash_one(dir)));
    let written = blocking(&path, |path| {
        let mut file = std::fs::File::create_new(path)?;
        io::Write::write_all(&mut file, &[1; BLOCK_BYTES])?;
        file.sync_all()
    });
    written.await?;
    let opened = OpenOptions::new().read(true).write(true).dma_open(&path).await.map_err(io::Error::from);
    let closed = match opened {
        Ok(file) => file.close().await.map_err(io::Error::from),
        Err(error) => Err(error),
    };
    blocking(&path, |path| std::fs::remove_file(path)).await?;
    closed
}

impl GlommioDisk {
    /// A disk whose monotonic clock starts now.
    pub fn new() -> Self {
        Self { epoch: Instant::now(), polling: Rc::new(PollingProbe::new()) }
    }
}

impl Default for GlommioDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl Disk for GlommioDisk {
    type File = RingFile;
    type Buffer = DmaBuffer;

    fn alloc(&self, bytes: usize) -> DmaBuffer {
        glommio::allocate_dma_buffer(bytes)
    }

    async fn open(&self, path: &Path, mode: OpenMode) -> io::Result<RingFile> {
        self.polling.ensure(path.parent().unwrap_or(Path::new("."))).await?;
        // Always read and write: reads go through the same handle.
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(mode.create_new);
        if mode.dsync {
            options.custom_flags(libc::O_DSYNC);
        }
        let file = options.dma_open(path).await.map_err(io::Error::from)?;
        Ok(RingFile { file })
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        glommio::io::rename(from, to).await.map_err(io::Error::from)
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        glommio::io::remove(path).await.map_err(io::Error::from)
    }

    async fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        blocking(path, |path| std::fs::create_dir_all(path)).await
    }

    async fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        blocking(path, |path| std::fs::remove_dir_all(path)).await
    }

    async fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        blocking(path, list_dir).await
    }

    async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        // glommio opens directories with O_PATH, which the kernel does not sync.
        blocking(path, |path| std::fs::File::open(path)?.sync_all()).await
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        use std::os::unix::ffi::OsStrExt;
        let path = std::ffi::CString::new(path.as_os_str().as_bytes())?;
        let mut stat = std::mem::MaybeUninit::<libc::statvfs>::uninit();
        // SAFETY: `path` is a NUL-terminated string and `stat` is writable memory of the right type; both outlive
        // the call.
        let result = unsafe { libc::statvfs(path.as_ptr(), stat.as_mut_ptr()) };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: statvfs returned 0, so it has filled in the whole structure.
        let stat = unsafe { stat.assume_init() };
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    fn wall(&self) -> Timestamp {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::new(i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX))
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + 'static {
        glommio::timer::sleep(duration)
    }

    fn entropy(&self) -> u64 {
        RandomState::new().hash_one(self.now())
    }
}

/// Runs a short file-system call off the core.
async fn blocking<T: Send + 'static>(
    path: &Path,
    call: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let path = path.to_owned();
    // A panic in there would take the executor's only blocking thread along, so it becomes an error.
    let guarded = move || std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| call(&path)));
    let outcome = glommio::executor().spawn_blocking(guarded).await;
    outcome.unwrap_or_else(|_| Err(io::Error::other("a file-system call panicked")))
}

fn list_dir(path: &Path) -> io::Result<Vec<DirEntry>> {
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut listed = entries.map(|entry| dir_entry(&entry?)).collect::<io::Result<Vec<_>>>()?;
    listed.sort();
    Ok(listed)
}

fn dir_entry(entry: &std::fs::DirEntry) -> io::Result<DirEntry> {
    let metadata = entry.metadata()?;
    let is_dir = metadata.is_dir();
    let size = if is_dir { 0 } else { metadata.len() };
    Ok(DirEntry { name: PathBuf::from(entry.file_name()).to_string_lossy().into_owned(), is_dir, size })
}

/// A file of [`GlommioDisk`].
#[derive(Debug)]
pub struct RingFile {
    file: DmaFile,
}

impl DiskFile for RingFile {
    type Buffer = DmaBuffer;

    async fn write_at(&self, buffer: DmaBuffer, position: u64) -> io::Result<usize> {
        self.file.write_at(buffer, position).await.map_err(io::Error::from)
    }

    async fn read_at(&self, position: u64, into: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(position, into.len()).await.map_err(io::Error::from)?;
        let bytes = read.len().min(into.len());
        into[..bytes].copy_from_slice(&read[..bytes]);
        Ok(bytes)
    }

    async fn read_into(&self, position: u64, mut part: Part) -> io::Result<usize> {
        let (to, bytes, owner) = (part.as_mut_ptr(), part.size_bytes(), part.owner());
        // SAFETY: `to` is valid for `bytes` and aligned as long as `owner` lives; nobody else has this part, and nobody
        // looks at its memory before it is gone.
        let read = unsafe { self.file.read_into(position, to, bytes, owner) };
        read.await.map_err(io::Error::from)
    }

    async fn sync(&self) -> io::Result<()> {
        self.file.fdatasync().await.map_err(io::Error::from)
    }

    async fn size(&self) -> io::Result<u64> {
        self.file.file_size().await.map_err(io::Error::from)
    }

    async fn preallocate(&self, bytes: u64) -> io::Result<()> {
        self.file.pre_allocate(bytes, false).await.map_err(io::Error::from)
    }

    async fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.file.truncate(bytes).await.map_err(io::Error::from)
    }
}
