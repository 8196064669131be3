//! Open segment files of one core, under a cap: the one unused for longest is closed first.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::rc::Rc;

use heddle_proto::ids::Offset;

use crate::disk::{Disk, OpenMode};
use crate::types::LogId;

/// Log, first offset and version of a segment.
type Key = (LogId, Offset, u32);

struct OpenFile<F> {
    file: Rc<F>,
    used_at: u64,
}

/// See the module. A file handed out stays open until its last user drops it.
pub(crate) struct FileCache<F> {
    open: RefCell<BTreeMap<Key, OpenFile<F>>>,
    by_use: RefCell<BTreeMap<u64, Key>>,
    clock: Cell<u64>,
    count_max: usize,
}

impl<F> FileCache<F> {
    pub(crate) fn new(count_max: usize) -> Self {
        Self { open: RefCell::default(), by_use: RefCell::default(), clock: Cell::new(0), count_max }
    }

    pub(crate) fn len(&self) -> usize {
        self.open.borrow().len()
    }

    /// The file, if it is open.
    pub(crate) fn find(&self, key: Key) -> Option<Rc<F>> {
        self.touch(key)
    }

    /// The open file, or opens it.
    pub(crate) async fn get<D: Disk<File = F>>(
        &self,
        disk: &D,
        key: Key,
        path: &Path,
        mode: OpenMode,
    ) -> io::Result<Rc<F>> {
        if let Some(file) = self.touch(key) {
            return Ok(file);
        }
        let file = Rc::new(disk.open(path, mode).await?);
        self.insert(key, file.clone());
        Ok(file)
    }

    pub(crate) fn insert(&self, key: Key, file: Rc<F>) {
        self.remove(key);
        let used_at = self.tick();
        self.open.borrow_mut().insert(key, OpenFile { file, used_at });
        self.by_use.borrow_mut().insert(used_at, key);
        while self.len() > self.count_max {
            let oldest = self.by_use.borrow().values().next().copied();
            oldest.into_iter().for_each(|key| self.remove(key));
        }
    }

    pub(crate) fn remove(&self, key: Key) {
        if let Some(open) = self.open.borrow_mut().remove(&key) {
            self.by_use.borrow_mut().remove(&open.used_at);
        }
    }

    /// Forgets every file of a log.
    pub(crate) fn remove_log(&self, log: LogId) {
        let keys: Vec<Key> = self.open.borrow().keys().filter(|(id, ..)| *id == log).copied().collect();
        keys.into_iter().for_each(|key| self.remove(key));
    }

    fn touch(&self, key: Key) -> Option<Rc<F>> {
        let mut open = self.open.borrow_mut();
        let found = open.get_mut(&key)?;
        let mut by_use = self.by_use.borrow_mut();
        by_use.remove(&found.used_at);
        found.used_at = self.tick();
        by_use.insert(found.used_at, key);
        Some(found.file.clone())
    }

    fn tick(&self) -> u64 {
        self.clock.set(self.clock.get() + 1);
        self.clock.get()
    }
}
