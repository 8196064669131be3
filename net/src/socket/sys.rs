//! The three system calls glommio does not offer: receive into uninitialised memory, vectored send, and
//! shutdown.
use std::io;
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::RawFd;

/// Slices handed to the kernel in one call; the kernel itself takes 1024, a longer list just needs another
/// call.
pub(super) const SLICES_MAX: usize = 64;

/// Receives into `spare` without waiting. `Ok(None)` means nothing is there yet; `Ok(Some(0))` is the end of
/// the stream.
pub(super) fn receive(fd: RawFd, spare: &mut [MaybeUninit<u8>]) -> io::Result<Option<usize>> {
    retry_interrupted(|| {
        // SAFETY: pointer and length describe memory we borrow mutably for the whole call; the kernel only
        // writes to it.
        unsafe { libc::recv(fd, spare.as_mut_ptr().cast(), spare.len(), libc::MSG_DONTWAIT) }
    })
}

/// Sends as much of `slices` as the socket takes without waiting; slices beyond [`SLICES_MAX`] are left for
/// the next call. `Ok(None)` means the socket's buffer is full.
pub(super) fn send<'a>(fd: RawFd, slices: impl Iterator<Item = &'a [u8]>) -> io::Result<Option<usize>> {
    let mut iovecs = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; SLICES_MAX];
    let mut count = 0;
    for (iovec, slice) in iovecs.iter_mut().zip(slices) {
        iovec.iov_base = slice.as_ptr().cast_mut().cast();
        iovec.iov_len = slice.len();
        count += 1;
    }
    // SAFETY: all-zero is a valid `msghdr`: null pointers with zero lengths.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = iovecs.as_mut_ptr();
    message.msg_iovlen = count;
    retry_interrupted(|| {
        // SAFETY: `message` names `count` initialised iovecs, each describing a slice borrowed for `'a`,
        // which outlives the call; the kernel only reads them.
        unsafe { libc::sendmsg(fd, &message, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) }
    })
}

/// Shuts a socket down; one that is no longer connected needs nothing done.
pub(super) fn shutdown(fd: RawFd, how: Shutdown) {
    let how = match how {
        Shutdown::Read => libc::SHUT_RD,
        Shutdown::Write => libc::SHUT_WR,
        Shutdown::Both => libc::SHUT_RDWR,
    };
    // SAFETY: `shutdown` takes integers only; every caller owns the open descriptor.
    unsafe { libc::shutdown(fd, how) };
}

fn retry_interrupted(mut call: impl FnMut() -> libc::ssize_t) -> io::Result<Option<usize>> {
    loop {
        if let Ok(count) = usize::try_from(call()) {
            return Ok(Some(count));
        }
        let error = io::Error::last_os_error();
        match error.kind() {
            io::ErrorKind::Interrupted => continue,
            io::ErrorKind::WouldBlock => return Ok(None),
            _ => return Err(error),
        }
    }
}
