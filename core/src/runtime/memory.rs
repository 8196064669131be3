//! When memory comes from the kernel, and when it goes back.

use std::{ffi::c_long, hint::black_box, io, mem::MaybeUninit, thread};

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

/// Size of one allocation while memory is brought in: several huge pages, and small enough for the allocator to keep it
/// in the areas that its small allocations are cut from.
const PIECE_BYTES: usize = 4 << 20;

/// The smallest page of the kernel, so that no page is left out.
const PAGE_BYTES: usize = 4096;

/// Lowest of the priorities, `setpriority(2)`: cores that serve go first.
const NICEST: libc::c_int = 19;

/// Touches `bytes` of memory in a thread of its own and gives them to the allocator, which keeps them
/// ([`keep_freed_memory`] is called before): no request waits for the kernel to find and clear a page after that. While
/// the thread runs, the process can use that much more than its budget.
///
/// # Errors
/// The thread cannot be started.
pub fn bring_in(bytes: u64) -> io::Result<()> {
    thread::Builder::new().name("memory".to_owned()).spawn(move || {
        // SAFETY: sets a number of the calling thread (who = 0); cannot fail for a lower priority.
        unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICEST) };
        let pieces: Vec<Vec<u8>> =
            (0..bytes.div_ceil(PIECE_BYTES as u64)).map_while(|_| touched_piece()).collect();
        tracing::info!(bytes = pieces.len() * PIECE_BYTES, "memory is there");
    })?;
    Ok(())
}

/// `None`: there is no more.
fn touched_piece() -> Option<Vec<u8>> {
    let mut piece = Vec::new();
    piece.try_reserve_exact(PIECE_BYTES).ok()?;
    for page in piece.spare_capacity_mut().chunks_mut(PAGE_BYTES) {
        *black_box(&mut page[0]) = MaybeUninit::new(0);
    }
    Some(piece)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_of_a_piece_is_there() {
        let piece = touched_piece().unwrap();
        // `mincore(2)` takes whole pages: those that lie wholly in the piece.
        let offset = piece.as_ptr().align_offset(PAGE_BYTES);
        let bytes = (piece.capacity() - offset) / PAGE_BYTES * PAGE_BYTES;
        let mut resident = vec![0_u8; bytes / PAGE_BYTES];
        // SAFETY: the range is within the piece's allocation, and `resident` has a byte for each of its pages.
        let failed = unsafe {
            libc::mincore(piece.as_ptr().add(offset).cast_mut().cast(), bytes, resident.as_mut_ptr())
        };
        assert_eq!(failed, 0, "{}", io::Error::last_os_error());
        assert!(resident.iter().all(|page| page & 1 == 1));
    }
}
