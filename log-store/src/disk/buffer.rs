//! Memory that several direct reads fill at once and that then becomes [`Bytes`], without being zeroed or copied.
//!
//! Each read under way keeps the memory alive, so a reader that gives up leaves the kernel nothing to write into that
//! belongs to somebody else.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::any::Any;
use std::ops::Range;
use std::ptr::NonNull;
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use crate::codec::{BLOCK_BYTES, align_up};

/// How much memory the buffers use that were made within it: those being filled, and those of which somebody holds a part,
/// wherever that is.
#[derive(Clone, Debug, Default)]
pub struct ReadMemory(Arc<AtomicUsize>);

impl ReadMemory {
    /// So many bytes.
    pub fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// Memory aligned for direct I/O, not initialised.
struct Region {
    start: NonNull<u8>,
    layout: Layout,
    memory: Option<ReadMemory>,
}

// SAFETY: a region is plain memory. It is written through the parts of one `ReadBuffer` only, and read only after that
// buffer has made sure that no part is left.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: allocated in `ReadBuffer::within` with this very layout, and nobody refers to it any more.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
        if let Some(memory) = &self.memory {
            memory.0.fetch_sub(self.layout.size(), Ordering::Relaxed);
        }
    }
}

/// A buffer being filled. What of it holds data is one range, which grows as reads are done.
pub struct ReadBuffer {
    region: Arc<Region>,
    filled: Range<usize>,
}

/// Room for one read. No two parts of a buffer overlap.
pub struct Part {
    region: Arc<Region>,
    at: usize,
    bytes: usize,
}

impl ReadBuffer {
    /// Room for at least `bytes`, a whole number of blocks.
    pub fn new(bytes: usize) -> Self {
        Self::within(None, bytes)
    }

    /// The same, counted by `memory` until nobody holds any of it.
    pub fn within(memory: Option<&ReadMemory>, bytes: usize) -> Self {
        let bytes = align_up(bytes.max(1) as u64) as usize;
        let layout = Layout::from_size_align(bytes, BLOCK_BYTES).expect("a block is a power of two");
        // SAFETY: the layout's size is not zero.
        let start = unsafe { alloc(layout) };
        let Some(start) = NonNull::new(start) else { handle_alloc_error(layout) };
        if let Some(memory) = memory {
            memory.0.fetch_add(bytes, Ordering::Relaxed);
        }
        Self { region: Arc::new(Region { start, layout, memory: memory.cloned() }), filled: 0..0 }
    }

    /// Size of the room, in bytes.
    pub fn capacity(&self) -> usize {
        self.region.layout.size()
    }

    /// Cuts the room from `at`, a block boundary, on into parts of `bytes_max`, a whole number of blocks, each; what the
    /// buffer held is forgotten.
    ///
    /// Panics if an earlier part is still in use.
    pub fn parts(&mut self, at: usize, bytes_max: usize) -> impl Iterator<Item = Part> + use<> {
        self.assert_unused();
        assert!(at.is_multiple_of(BLOCK_BYTES) && bytes_max.is_multiple_of(BLOCK_BYTES) && bytes_max > 0);
        self.filled = at..at;
        let (region, capacity) = (self.region.clone(), self.capacity());
        (at..capacity).step_by(bytes_max).map(move |at| Part {
            region: region.clone(),
            at,
            bytes: bytes_max.min(capacity - at),
        })
    }

    fn assert_unused(&self) {
        assert_eq!(Arc::strong_count(&self.region), 1, "a read into this buffer is still under way");
    }

    /// The reads have filled `bytes` from where the parts began.
    ///
    /// # Safety
    /// So many bytes from there on have been written.
    pub(super) unsafe fn set_filled(&mut self, bytes: usize) {
        self.filled.end = self.filled.start + bytes;
        assert!(self.filled.end <= self.capacity());
    }

    /// Forgets all bytes but the first `bytes`.
    pub fn truncate(&mut self, bytes: usize) {
        self.filled.end = self.filled.end.min(self.filled.start + bytes);
    }

    /// Puts `before` in front of what there is. Panics without room for it, or while a read is under way.
    pub fn prepend(&mut self, before: &[u8]) {
        self.assert_unused();
        assert!(before.len() <= self.filled.start, "no room in front of what was read");
        self.filled.start -= before.len();
        // SAFETY: the room for `before` lies within the region, as was just checked; nothing else refers to the region,
        // so the two cannot overlap.
        unsafe {
            let to = self.region.start.as_ptr().add(self.filled.start);
            to.copy_from_nonoverlapping(before.as_ptr(), before.len());
        }
    }

    /// The bytes, shared from now on. Panics while a read is under way.
    pub fn freeze(self) -> Bytes {
        self.assert_unused();
        Bytes::from_owner(Filled { region: self.region, range: self.filled })
    }
}

/// The initialised range of a region that nobody writes any more.
struct Filled {
    region: Arc<Region>,
    range: Range<usize>,
}

impl AsRef<[u8]> for Filled {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the range was written before it became `Filled`, lies within the region, and nobody writes to it any
        // more: `freeze` found no part left and took the buffer that makes parts.
        unsafe { slice::from_raw_parts(self.region.start.as_ptr().add(self.range.start), self.range.len()) }
    }
}

impl Part {
    /// How much the read may bring, in bytes.
    pub fn size_bytes(&self) -> usize {
        self.bytes
    }

    /// Where it goes: valid for [`Part::size_bytes`] bytes of writes, aligned to a block, for as long as [`Part::owner`]'s value
    /// lives.
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        // SAFETY: `at` lies within the region.
        unsafe { self.region.start.as_ptr().add(self.at) }
    }

    /// What keeps the memory alive.
    pub fn owner(&self) -> Arc<dyn Any + Send + Sync> {
        self.region.clone()
    }

    /// Fills the beginning of the part with as much of `from` as fits; returns how much that is.
    pub fn fill(&mut self, from: &[u8]) -> usize {
        let bytes = from.len().min(self.bytes);
        // SAFETY: within the part, which no one else refers to; `from` cannot lie in memory of which only parts give
        // away raw pointers.
        unsafe { self.as_mut_ptr().copy_from_nonoverlapping(from.as_ptr(), bytes) };
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(at: usize, bytes: usize) -> ReadBuffer {
        let mut buffer = ReadBuffer::new(3 * BLOCK_BYTES);
        let mut left = bytes;
        for (index, mut part) in buffer.parts(at, BLOCK_BYTES).enumerate() {
            assert_eq!(part.as_mut_ptr() as usize % BLOCK_BYTES, 0);
            left -= part.fill(&vec![index as u8 + 1; left.min(BLOCK_BYTES)]);
        }
        // SAFETY: the parts were just filled with so many bytes.
        unsafe { buffer.set_filled(bytes) };
        buffer
    }

    #[test]
    fn parts_lie_behind_each_other_and_hold_what_was_read() {
        let bytes = filled(0, 2 * BLOCK_BYTES + 5).freeze();
        assert_eq!(bytes.len(), 2 * BLOCK_BYTES + 5);
        assert!(bytes[..BLOCK_BYTES].iter().all(|byte| *byte == 1));
        assert_eq!(&bytes[2 * BLOCK_BYTES..], [3; 5]);
    }

    #[test]
    fn what_is_put_in_front_joins_what_was_read() {
        let mut buffer = filled(BLOCK_BYTES, 10);
        buffer.truncate(4);
        buffer.prepend(&[9, 8]);
        assert_eq!(buffer.freeze()[..], [9, 8, 1, 1, 1, 1]);
    }

    #[test]
    #[should_panic(expected = "still under way")]
    fn a_buffer_with_a_read_under_way_is_not_given_out() {
        let mut buffer = ReadBuffer::new(BLOCK_BYTES);
        let part = buffer.parts(0, BLOCK_BYTES).next();
        drop(buffer.freeze());
        drop(part);
    }

    #[test]
    fn an_abandoned_read_keeps_its_memory() {
        let mut buffer = ReadBuffer::new(BLOCK_BYTES);
        let mut part = buffer.parts(0, BLOCK_BYTES).next().expect("one");
        let (owner, to) = (part.owner(), part.as_mut_ptr());
        drop((buffer, part));
        // SAFETY: `owner` keeps the memory; this is what the kernel does when nobody waits any more.
        unsafe { to.write_bytes(7, BLOCK_BYTES) };
        drop(owner);
    }
}
