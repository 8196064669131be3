//! Index files on disk, and the closed segments' indexes in memory under a budget.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::rc::Rc;

use heddle_proto::ids::Offset;

use super::index::Index;
use crate::codec::align_up;
use crate::disk::{Disk, DiskFile, OpenMode, ReadBuffer, read_parallel};
use crate::types::LogId;

/// An index of a 1 GiB segment with an entry per 4 KiB takes 7 MiB; a larger file is not one of ours.
const INDEX_FILE_BYTES_MAX: u64 = 64 << 20;

/// Writes the index beside its segment. Not synced: a torn one is noticed and rebuilt.
pub(crate) async fn write<D: Disk>(
    disk: &D,
    path: &Path,
    index: &Index,
    io_bytes_max: usize,
) -> io::Result<()> {
    match disk.remove(path).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = disk.open(path, OpenMode::NEW).await?;
    let bytes = index.encode();
    for (number, chunk) in bytes.chunks(io_bytes_max).enumerate() {
        let mut buffer = disk.alloc(align_up(chunk.len() as u64) as usize);
        let (used, rest) = buffer.as_mut().split_at_mut(chunk.len());
        used.copy_from_slice(chunk);
        rest.fill(0);
        file.write_at(buffer, (number * io_bytes_max) as u64).await?;
    }
    Ok(())
}

/// Reads an index file; `None` if it is missing, damaged or not about this segment.
pub(crate) async fn read<D: Disk>(
    disk: &D,
    path: &Path,
    base: Offset,
    end: Offset,
) -> io::Result<Option<Index>> {
    let file = match disk.open(path, OpenMode::EXISTING).await {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let size = file.size().await?;
    if size > INDEX_FILE_BYTES_MAX {
        return Ok(None);
    }
    let mut buffer = ReadBuffer::new(size as usize);
    read_parallel(&file, 0, &mut buffer, 0, (512 << 10, 4)).await?;
    buffer.truncate(size as usize);
    let index = Index::decode(&buffer.freeze());
    Ok(index.filter(|index| index.base == base && index.end == end))
}

/// Log, first offset and version of a segment.
type Key = (LogId, Offset, u32);

struct Cached {
    index: Rc<Index>,
    used_at: u64,
}

/// Indexes of closed segments, the least recently used dropped first.
pub(crate) struct IndexCache {
    cached: RefCell<BTreeMap<Key, Cached>>,
    by_use: RefCell<BTreeMap<u64, Key>>,
    clock: Cell<u64>,
    bytes: Cell<usize>,
    bytes_max: usize,
}

impl IndexCache {
    pub(crate) fn new(bytes_max: usize) -> Self {
        let (clock, bytes) = (Cell::new(0), Cell::new(0));
        Self { cached: RefCell::default(), by_use: RefCell::default(), clock, bytes, bytes_max }
    }

    pub(crate) fn get(&self, key: Key) -> Option<Rc<Index>> {
        let mut cached = self.cached.borrow_mut();
        let found = cached.get_mut(&key)?;
        let mut by_use = self.by_use.borrow_mut();
        by_use.remove(&found.used_at);
        found.used_at = self.tick();
        by_use.insert(found.used_at, key);
        Some(found.index.clone())
    }

    pub(crate) fn insert(&self, key: Key, index: Rc<Index>) {
        self.remove(key);
        self.bytes.set(self.bytes.get() + index.memory_bytes());
        let used_at = self.tick();
        self.cached.borrow_mut().insert(key, Cached { index, used_at });
        self.by_use.borrow_mut().insert(used_at, key);
        while self.bytes.get() > self.bytes_max {
            let oldest = self.by_use.borrow().values().next().copied();
            let Some(oldest) = oldest.filter(|oldest| *oldest != key) else { break };
            self.remove(oldest);
        }
    }

    pub(crate) fn remove(&self, key: Key) {
        if let Some(removed) = self.cached.borrow_mut().remove(&key) {
            self.by_use.borrow_mut().remove(&removed.used_at);
            self.bytes.set(self.bytes.get() - removed.index.memory_bytes());
        }
    }

    pub(crate) fn remove_log(&self, log: LogId) {
        let keys: Vec<Key> = self.cached.borrow().keys().filter(|(id, ..)| *id == log).copied().collect();
        keys.into_iter().for_each(|key| self.remove(key));
    }

    fn tick(&self) -> u64 {
        self.clock.set(self.clock.get() + 1);
        self.clock.get()
    }
}
