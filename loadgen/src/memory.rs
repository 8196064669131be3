//! What the allocator does with freed memory.

use libmimalloc_sys::{mi_option_set, mi_option_t};

/// `mi_option_purge_delay` of mimalloc's `mimalloc.h`, versions 2 and 3; the binding has no name for it.
const PURGE_DELAY: mi_option_t = 15;

/// Keeps freed memory for the next allocation. With batches of 1 MB the generator would otherwise spend its time on having
/// pages taken away and zeroed again, and the broker beside it would look slow.
pub fn keep_freed() {
    // SAFETY: sets a number in mimalloc's table of options, which its threads read when they purge. The index is
    // within the table, and -1 is "never" in the words of `mimalloc.h`.
    unsafe { mi_option_set(PURGE_DELAY, -1) }
}
