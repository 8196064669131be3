//! What the allocator does with freed memory.

use std::ffi::c_long;

use libmimalloc_sys::{mi_option_set, mi_option_t};

/// `mi_option_purge_delay` of mimalloc's `mimalloc.h`, versions 2 and 3; the binding has no name for it.
const PURGE_DELAY: mi_option_t = 15;

/// "No purging at all", in the words of `mimalloc.h`.
const NEVER: c_long = -1;

/// From now on freed memory is kept for the next allocation instead of being given back to the kernel. A page given
/// back must be found and zeroed again, and on a virtual machine perhaps fetched from the host: with batches of 1 MB
/// most of a core's time went there (`perf-reports/002-speed`).
pub fn keep_freed_memory() {
    // SAFETY: sets a number in mimalloc's table of options, which its threads read when they purge. The index is
    // within the table.
    unsafe { mi_option_set(PURGE_DELAY, NEVER) }
}
