//! A disk in memory that tells the truth about durability: after a crash only synced bytes are sure to remain.
//!
//! Deterministic from its seed. I/O completes after a few polls, in random order; with [`MemoryDisk::set_latency`] it
//! takes virtual time instead. Sleeps always take virtual time, which only [`MemoryDisk::advance`] and
//! [`MemoryDisk::run`] move. Faults: crash, torn writes, bit flips, lost writes, errors, a full disk.

mod files;
mod machine;

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use heddle_proto::ids::Timestamp;

use super::{DirEntry, Disk, DiskFile, OpenMode, Part};
use crate::codec::BLOCK_BYTES;
use machine::Machine;

/// See the module. Clones share the disk and the power supply: after [`Self::crash`] only the returned handle works.
#[derive(Clone)]
pub struct MemoryDisk {
    machine: Rc<RefCell<Machine>>,
    life: u64,
}

impl MemoryDisk {
    /// An empty disk whose every choice follows from `seed`.
    pub fn new(seed: u64) -> Self {
        Self { machine: Rc::new(RefCell::new(Machine::new(seed))), life: 0 }
    }

    /// Cuts the power. What was not durable survives in part: each unsynced 512-byte sector, each write in flight and
    /// each directory change stands or falls by chance. Handles of before fail from now on.
    #[must_use]
    pub fn crash(&self) -> Self {
        let wakers = self.machine.borrow_mut().crash();
        wakers.into_iter().for_each(Waker::wake);
        Self { machine: self.machine.clone(), life: self.machine.borrow().life() }
    }

    /// Flips bit `bit` of byte `position` of a file, on the medium. Returns whether the file has that byte.
    pub fn flip_bit(&self, path: &Path, position: u64, bit: u8) -> bool {
        self.machine.borrow_mut().flip_bit(path, position, bit)
    }

    /// The next write to a file whose path contains `path_part` reports success and stores nothing.
    pub fn lose_next_write(&self, path_part: &str) {
        self.machine.borrow_mut().faults.lose_write = Some(path_part.to_owned());
    }

    /// Whether a file holds something else than what was written to it, by a flipped bit or a lost write, and no later write
    /// or cut has mended that on stable storage; or the next write is to be lost.
    pub fn is_harmed(&self) -> bool {
        self.machine.borrow().is_harmed()
    }

    /// The next write or sync of a file whose path contains `path_part` fails with an I/O error.
    pub fn fail_next(&self, path_part: &str) {
        self.machine.borrow_mut().faults.fail = Some(path_part.to_owned());
    }

    /// Limits the disk to `bytes`, or lifts the limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.machine.borrow_mut().capacity_bytes = bytes;
    }

    /// Makes I/O take a random virtual time in this range instead of a few polls.
    pub fn set_latency(&self, latency: Option<Range<Duration>>) {
        self.machine.borrow_mut().latency = latency;
    }

    /// Bytes allocated to files.
    pub fn used_bytes(&self) -> u64 {
        self.machine.borrow().used_bytes()
    }

    /// Every file with its current content, sorted by path.
    pub fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        self.machine.borrow().files()
    }

    /// Virtual time of the earliest sleeper or I/O, if any waits.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.machine.borrow().next_deadline()
    }

    /// Moves virtual time to `now` and wakes everything that is due. Time never goes back.
    pub fn advance_to(&self, now: Duration) {
        let due = self.machine.borrow_mut().advance_to(now);
        due.into_iter().for_each(Waker::wake);
    }

    /// Moves virtual time by `duration`.
    pub fn advance(&self, duration: Duration) {
        self.advance_to(self.now() + duration);
    }

    /// Runs `future` to its end; whenever nothing can move, time jumps to the next deadline.
    ///
    /// # Panics
    /// If nothing can move and nothing waits for time either.
    pub fn run<F: Future>(&self, future: F) -> F::Output {
        let mut future = std::pin::pin!(future);
        let flag = Arc::new(Flag(AtomicBool::new(true)));
        let waker = Waker::from(flag.clone());
        let mut cx = Context::from_waker(&waker);
        loop {
            if flag.0.swap(false, Ordering::Relaxed) {
                if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
                    return output;
                }
            } else {
                let next = self.next_deadline().expect("deadlock: every task waits and no timer is set");
                self.advance_to(next);
            }
        }
    }

    fn begin(&self, path: &Path) -> io::Result<Operation> {
        let mut machine = self.machine.borrow_mut();
        machine.check_life(self.life, path)?;
        let pace = machine.pace();
        Ok(Operation { machine: self.machine.clone(), life: self.life, pace, timer: None })
    }
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// How long an operation takes.
#[derive(Copy, Clone, Debug)]
pub(super) enum Pace {
    Polls(u32),
    Until(Duration),
}

/// Completes when an operation's time has come, or when the power is cut.
struct Operation {
    machine: Rc<RefCell<Machine>>,
    life: u64,
    pace: Pace,
    timer: Option<(Duration, u64)>,
}

impl Future for Operation {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let mut machine = this.machine.borrow_mut();
        if machine.life() != this.life {
            return Poll::Ready(());
        }
        match &mut this.pace {
            Pace::Polls(0) => return Poll::Ready(()),
            Pace::Polls(left) => {
                *left -= 1;
                cx.waker().wake_by_ref();
            }
            Pace::Until(deadline) if machine.now() >= *deadline => return Poll::Ready(()),
            Pace::Until(deadline) => this.timer = Some(machine.set_timer(this.timer, *deadline, cx.waker())),
        }
        Poll::Pending
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        if let Some(timer) = self.timer.take() {
            self.machine.borrow_mut().cancel_timer(timer);
        }
    }
}

impl Disk for MemoryDisk {
    type File = MemoryFile;
    type Buffer = Vec<u8>;

    fn alloc(&self, bytes: usize) -> Vec<u8> {
        vec![0xa5; bytes] // garbage, so that padding nobody cleared shows
    }

    async fn open(&self, path: &Path, mode: OpenMode) -> io::Result<MemoryFile> {
        self.begin(path)?.await;
        let mut machine = self.machine.borrow_mut();
        machine.check_life(self.life, path)?;
        let node = if mode.create_new { machine.create_file(path)? } else { machine.find_file(path)? };
        Ok(MemoryFile { disk: self.clone(), node, path: path.to_owned(), dsync: mode.dsync })
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.begin(from)?.await;
        let mut machine = self.machine.borrow_mut();
        machine.check_life(self.life, from)?;
        machine.rename(from, to)
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        self.begin(path)?.await;
        let mut machine = self.machine.borrow_mut();
        machine.check_life(self.life, path)?;
        machine.remove_file(path)
    }

    async fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.begin(path)?.await;
        let mut machine = self.machine.borrow_mut();
        machine.check_life(self.life, path)?;
        machine.create_dir_all(path)
    }

    async fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.begin(path)?.await;
        let mut machine = self.machine.borrow_mut();
        machine.check_life(self.life, path)?;
        machine.remove_dir_all(path)
    }

    async fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.begin(path)?.await;
        let machine = self.machine.borrow();
        machine.check_life(self.life, path)?;
        Ok(machine.list(path))
    }

    async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.begin(path)?.await;
        let mut machine = self.machine.borrow_mut();
        machine.check_life(self.life, path)?;
        machine.sync_dir(path)
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let machine = self.machine.borrow();
        machine.check_life(self.life, path)?;
        Ok(machine.free_bytes())
    }

    fn now(&self) -> Duration {
        self.machine.borrow().now()
    }

    fn wall(&self) -> Timestamp {
        Timestamp::new(WALL_AT_START_MS + i64::try_from(self.now().as_millis()).unwrap_or(i64::MAX / 2))
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + 'static {
        let deadline = self.now() + duration;
        Operation { machine: self.machine.clone(), life: self.life, pace: Pace::Until(deadline), timer: None }
    }

    fn entropy(&self) -> u64 {
        self.machine.borrow_mut().random()
    }
}

/// The wall clock of a new disk: 2026-01-01.
pub const WALL_AT_START_MS: i64 = 1_767_225_600_000;

/// A file of [`MemoryDisk`].
pub struct MemoryFile {
    disk: MemoryDisk,
    node: u64,
    path: PathBuf,
    dsync: bool,
}

/// A write under way. It goes on when this is dropped, as the kernel's does.
struct InFlight<'a> {
    machine: &'a RefCell<Machine>,
    write: u64,
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.machine.borrow_mut().abandon_write(self.write);
    }
}

impl MemoryFile {
    fn check(&self, machine: &Machine) -> io::Result<()> {
        machine.check_life(self.disk.life, &self.path)
    }
}

impl DiskFile for MemoryFile {
    type Buffer = Vec<u8>;

    async fn write_at(&self, buffer: Vec<u8>, position: u64) -> io::Result<usize> {
        if !position.is_multiple_of(BLOCK_BYTES as u64) || !buffer.len().is_multiple_of(BLOCK_BYTES) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "unaligned direct write"));
        }
        let bytes = buffer.len();
        let operation = self.disk.begin(&self.path)?;
        let machine = &self.disk.machine;
        let write = machine.borrow_mut().start_write(self.node, &self.path, position, buffer, self.dsync)?;
        let write = InFlight { machine, write };
        operation.await;
        let mut machine = machine.borrow_mut();
        self.check(&machine)?;
        machine.finish_write(write.write);
        drop(machine);
        Ok(bytes)
    }

    async fn read_at(&self, position: u64, into: &mut [u8]) -> io::Result<usize> {
        if !position.is_multiple_of(BLOCK_BYTES as u64) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "unaligned direct read"));
        }
        self.disk.begin(&self.path)?.await;
        let machine = self.disk.machine.borrow();
        self.check(&machine)?;
        machine.read(self.node, position, into)
    }

    async fn read_into(&self, position: u64, mut part: Part) -> io::Result<usize> {
        let mut bytes = vec![0; part.size_bytes()];
        let read = self.read_at(position, &mut bytes).await?;
        Ok(part.fill(&bytes[..read]))
    }

    async fn sync(&self) -> io::Result<()> {
        let operation = self.disk.begin(&self.path)?;
        let started = self.disk.machine.borrow_mut().start_sync(self.node, &self.path)?;
        operation.await;
        let mut machine = self.disk.machine.borrow_mut();
        self.check(&machine)?;
        machine.finish_sync(started);
        Ok(())
    }

    async fn size(&self) -> io::Result<u64> {
        let machine = self.disk.machine.borrow();
        self.check(&machine)?;
        machine.size(self.node)
    }

    async fn preallocate(&self, bytes: u64) -> io::Result<()> {
        self.disk.begin(&self.path)?.await;
        let mut machine = self.disk.machine.borrow_mut();
        self.check(&machine)?;
        machine.preallocate(self.node, bytes)
    }

    async fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.disk.begin(&self.path)?.await;
        let mut machine = self.disk.machine.borrow_mut();
        self.check(&machine)?;
        machine.truncate(self.node, bytes)
    }
}

#[cfg(test)]
mod tests;
