//! An allocator that tells how much this thread has asked for, so that tests can hold decoders to their limits.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator with a record of requests per thread.
pub struct Recorder;

fn record(bytes: usize) {
    // After a thread's end there is nothing left to record for.
    let _ = COUNT.try_with(|count| count.set(count.get() + 1));
    let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(bytes)));
}

// SAFETY: every method passes its arguments on to `System` unchanged; `record` touches only constant-initialised
// thread-local cells without destructors, so it never allocates.
unsafe impl GlobalAlloc for Recorder {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        record(layout.size());
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        record(layout.size());
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        record(bytes);
        // SAFETY: the caller keeps the contract of `GlobalAlloc::realloc`, and `pointer` came from `System`.
        unsafe { System.realloc(pointer, layout, bytes) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `GlobalAlloc::dealloc`, and `pointer` came from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static RECORDER: Recorder = Recorder;

/// What `work` asked of the allocator on this thread.
#[derive(Copy, Clone, Debug)]
#[allow(dead_code)] // each test binary compiles this file and looks at the field it needs
pub struct Allocations {
    /// How many requests.
    pub count: usize,
    /// The largest single request in bytes.
    pub largest_bytes: usize,
}

/// Runs `work` and tells what it asked of the allocator on this thread.
pub fn allocations<T>(work: impl FnOnce() -> T) -> (T, Allocations) {
    let before = COUNT.get();
    LARGEST.set(0);
    let result = work();
    (result, Allocations { count: COUNT.get() - before, largest_bytes: LARGEST.get() })
}
