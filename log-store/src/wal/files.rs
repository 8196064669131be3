//! The WAL files of one run of the store: which one is written, which wait to be released, which one is ready next.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use heddle_proto::ids::Offset;

use crate::codec::BLOCK_BYTES;
use crate::log::inner::LogInner;
use crate::types::LogId;

/// What a WAL file still vouches for.
pub(crate) struct WalFile<F> {
    pub(crate) file: Rc<F>,
    pub(crate) generation: u64,
    /// Where the next frame goes.
    position: u64,
    /// Sequence of the first frame.
    pub(crate) first_sequence: u64,
    /// Logs with batches in this file, and up to which offset.
    pub(crate) batches: BTreeMap<LogId, (Rc<LogInner>, Offset)>,
    /// Logs with state records in this file.
    pub(crate) states: BTreeMap<LogId, Rc<LogInner>>,
}

impl<F> WalFile<F> {
    fn new(file: Rc<F>, generation: u64, first_sequence: u64) -> Self {
        Self {
            file,
            generation,
            position: 0,
            first_sequence,
            batches: BTreeMap::new(),
            states: BTreeMap::new(),
        }
    }
}

/// A file that nothing needs any more, once a frame that says so is durable.
struct Retiring {
    generation: u64,
    /// A frame of at least this sequence tells replay not to miss the file.
    sequence: u64,
}

/// Where a frame goes.
pub(crate) struct Place<F> {
    pub(crate) file: Rc<F>,
    pub(crate) generation: u64,
    pub(crate) position: u64,
}

/// See the module.
pub(crate) struct WalFiles<F> {
    file_bytes: u64,
    next_generation: u64,
    current: Option<WalFile<F>>,
    /// Written full, oldest first.
    used: VecDeque<WalFile<F>>,
    ready: Option<(Rc<F>, u64)>,
    retiring: VecDeque<Retiring>,
    /// Generations of files to recycle.
    free: Vec<u64>,
    released_sequence: u64,
    count: usize,
}

impl<F> WalFiles<F> {
    pub(crate) fn new(file_bytes: u64, first_generation: u64) -> Self {
        Self {
            file_bytes,
            next_generation: first_generation,
            current: None,
            used: VecDeque::new(),
            ready: None,
            retiring: VecDeque::new(),
            free: Vec::new(),
            released_sequence: 1,
            count: 0,
        }
    }

    /// A generation no file has ever had.
    pub(crate) fn take_generation(&mut self) -> u64 {
        self.next_generation += 1;
        self.next_generation - 1
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    pub(crate) fn used_count(&self) -> usize {
        self.used.len()
    }

    /// Bytes in frames not yet released.
    pub(crate) fn used_bytes(&self) -> u64 {
        self.used.len() as u64 * self.file_bytes + self.current.as_ref().map_or(0, |current| current.position)
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.ready.is_some()
    }

    pub(crate) fn has_free(&self) -> bool {
        !self.free.is_empty()
    }

    /// A file that may be recycled.
    pub(crate) fn take_free(&mut self) -> Option<u64> {
        self.free.pop()
    }

    /// Adopts a file of an earlier run for recycling.
    pub(crate) fn adopt_free(&mut self, generation: u64) {
        self.count += 1;
        self.free.push(generation);
    }

    /// A file could not be created after all.
    pub(crate) fn drop_new(&mut self) {
        self.count -= 1;
    }

    /// Counts a file about to be created.
    pub(crate) fn add_new(&mut self) {
        self.count += 1;
    }

    /// A zeroed or recycled file under its new name.
    pub(crate) fn set_ready(&mut self, file: Rc<F>, generation: u64) {
        debug_assert!(self.ready.is_none());
        self.ready = Some((file, generation));
    }

    /// Room for a frame of `bytes`, whose sequence will be `sequence`; `None` until another file is ready.
    pub(crate) fn place(&mut self, bytes: usize, sequence: u64) -> Option<Place<F>> {
        if self.room() < bytes as u64 {
            let (file, generation) = self.ready.take()?;
            let next = WalFile::new(file, generation, sequence);
            self.used.extend(self.current.replace(next));
        }
        let file = self.current.as_mut()?;
        let position = file.position;
        file.position += bytes as u64;
        Some(Place { file: file.file.clone(), generation: file.generation, position })
    }

    /// Largest frame that has a place right now, up to `bytes_max`, and whether batches may join it: not in a file beyond
    /// `count_max`, which is for what lets go of the oldest one. `None` without room for any.
    pub(crate) fn frame_bytes_max(&self, bytes_max: usize, count_max: usize) -> Option<(usize, bool)> {
        let written = self.used.len() + usize::from(self.current.is_some());
        if self.ready.is_some() {
            return Some((bytes_max, written < count_max));
        }
        let room = usize::try_from(self.room()).unwrap_or(usize::MAX).min(bytes_max);
        (room >= BLOCK_BYTES).then_some((room, written <= count_max))
    }

    /// Whether there are `count_max` files and none of them is or will be free before another frame is written.
    pub(crate) fn is_exhausted(&self, count_max: usize) -> bool {
        self.ready.is_none() && self.free.is_empty() && self.count >= count_max
    }

    /// A free file beyond `count_max`, to be removed.
    pub(crate) fn take_surplus(&mut self, count_max: usize) -> Option<u64> {
        let surplus = self.free.pop_if(|_| self.count > count_max)?;
        self.count -= 1;
        Some(surplus)
    }

    fn room(&self) -> u64 {
        self.current.as_ref().map_or(0, |current| self.file_bytes - current.position)
    }

    pub(crate) fn current_mut(&mut self) -> Option<&mut WalFile<F>> {
        self.current.as_mut()
    }

    /// The file to be released next.
    pub(crate) fn oldest_mut(&mut self) -> Option<&mut WalFile<F>> {
        self.used.front_mut()
    }

    /// First sequence that replay may not miss.
    pub(crate) fn released_sequence(&self) -> u64 {
        self.released_sequence
    }

    /// Lets go of the oldest file: nothing in it is needed. `next_sequence` is that of the next frame to be built.
    pub(crate) fn release_oldest(&mut self, next_sequence: u64) {
        let Some(released) = self.used.pop_front() else { return };
        self.retiring.push_back(Retiring { generation: released.generation, sequence: next_sequence });
        let oldest = self.used.front().or(self.current.as_ref());
        self.released_sequence = oldest.map_or(next_sequence, |file| file.first_sequence);
    }

    /// Frames up to `durable_sequence` are durable: frees files whose release they tell. Returns whether there were any.
    pub(crate) fn retire(&mut self, durable_sequence: u64) -> bool {
        let before = self.free.len();
        while let Some(file) = self.retiring.pop_front_if(|file| file.sequence <= durable_sequence) {
            self.free.push(file.generation);
        }
        self.free.len() > before
    }

    /// The log has been cut at `to`: what lay behind needs no file.
    pub(crate) fn cut(&mut self, log: LogId, to: Offset) {
        for file in self.used.iter_mut().chain(self.current.as_mut()) {
            if let Some((_, end)) = file.batches.get_mut(&log) {
                *end = to.min(*end);
            }
        }
    }

    /// The log has no more claim on any file.
    pub(crate) fn forget(&mut self, log: LogId) {
        for file in self.used.iter_mut().chain(self.current.as_mut()) {
            file.batches.remove(&log);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> WalFiles<()> {
        let mut files = WalFiles::new(8192, 5);
        files.add_new();
        let generation = files.take_generation();
        files.set_ready(Rc::new(()), generation);
        files
    }

    #[test]
    fn frames_fill_a_file_and_then_need_the_next() {
        let mut files = files();
        assert_eq!(files.place(4096, 1).unwrap().position, 0);
        assert_eq!(files.place(4096, 2).unwrap().position, 4096);
        assert!(files.place(4096, 3).is_none());
        let generation = files.take_generation();
        files.set_ready(Rc::new(()), generation);
        let place = files.place(4096, 3).unwrap();
        assert_eq!((place.generation, place.position), (6, 0));
    }

    #[test]
    fn a_file_beyond_the_limit_takes_no_batches_until_another_is_released() {
        let mut files = files();
        let max = |files: &WalFiles<()>| files.frame_bytes_max(8192, 2);
        let add = |files: &mut WalFiles<()>| {
            files.add_new();
            let generation = files.take_generation();
            files.set_ready(Rc::new(()), generation);
        };
        assert_eq!(max(&files), Some((8192, true)));
        files.place(8192, 1).unwrap();
        assert_eq!((max(&files), files.is_exhausted(2)), (None, false));
        add(&mut files);
        assert_eq!(max(&files), Some((8192, true)));
        files.place(4096, 2).unwrap();
        assert_eq!((max(&files), files.is_exhausted(2)), (Some((4096, true)), true));
        files.place(4096, 3).unwrap();
        add(&mut files);
        assert_eq!(max(&files), Some((8192, false)));
        files.place(4096, 4).unwrap();
        assert_eq!(max(&files), Some((4096, false)));
        files.release_oldest(5);
        assert_eq!((max(&files), files.take_surplus(2)), (Some((4096, true)), None));
        files.place(4096, 5).unwrap();
        files.retire(5);
        assert_eq!((files.take_surplus(2), files.take_surplus(2), files.count()), (Some(5), None, 2));
    }

    #[test]
    fn a_released_file_is_free_only_after_a_later_frame_is_durable() {
        let mut files = files();
        files.place(8192, 1).unwrap();
        let generation = files.take_generation();
        files.set_ready(Rc::new(()), generation);
        files.place(4096, 2).unwrap();
        files.release_oldest(3);
        assert_eq!(files.released_sequence(), 2);
        assert!(!files.retire(2) && files.take_free().is_none());
        assert!(files.retire(3));
        assert_eq!(files.take_free(), Some(5));
    }
}
