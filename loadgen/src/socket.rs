//! A client's TCP connection on glommio: optimistic vectored writes, and reads that land in the reply's own buffer.
//!
//! Lives on the executor that opened it. Both halves are used through one owner, so it is not split.

use bytes::{BufMut, Bytes, BytesMut};
use futures_lite::io::{AsyncRead, AsyncWrite};
use glommio::net::TcpStream;
use std::io::{self, IoSlice};
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// Longest wait for a connection. Brokers under test are near.
const CONNECT_WAIT_MAX: Duration = Duration::from_secs(5);
/// Most slices one `sendmsg` is given; the kernel takes 1,024.
const SLICES_MAX: usize = 64;
/// A read begins with this much on the stack: small answers then cost one system call and one short copy.
const PROBE_BYTES: usize = 4096;

/// A connected stream. For the native client library it is an `AsyncRead + AsyncWrite` as any other.
pub struct Socket {
    stream: TcpStream,
}

impl Socket {
    /// Connects to `host:port` with Nagle's algorithm off. A name is looked up on this thread.
    pub async fn connect(address: &str) -> io::Result<Self> {
        let address = resolve(address)?;
        let stream = TcpStream::connect_timeout(address, CONNECT_WAIT_MAX).await.map_err(io::Error::from)?;
        stream.set_nodelay(true).map_err(io::Error::from)?;
        Ok(Self { stream })
    }

    /// Sends as much of `slices` as the socket takes now, in one call; `None` when it takes nothing.
    pub fn try_send(&self, slices: &[IoSlice<'_>]) -> Option<io::Result<usize>> {
        let count = slices.len().min(SLICES_MAX);
        // SAFETY: an all-zero msghdr is a valid one (null pointers, zero lengths).
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = slices.as_ptr().cast_mut().cast();
        message.msg_iovlen = count as _;
        // SAFETY: IoSlice has the layout of iovec on Unix; `message` names `count` of them, all of which, and
        // the bytes behind them, outlive the call, which only reads them. The descriptor is open: we own it.
        let sent = unsafe {
            libc::sendmsg(self.stream.as_raw_fd(), &message, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
        };
        would_block_is_none(sent)
    }

    /// Receives into the spare capacity of `into` what is there now; `None` when nothing is.
    fn try_receive(&self, into: &mut BytesMut) -> Option<io::Result<usize>> {
        let spare = into.chunk_mut();
        // SAFETY: the pointer and length are those of `into`'s spare capacity, which the call may only write.
        let received = unsafe {
            libc::recv(self.stream.as_raw_fd(), spare.as_mut_ptr().cast(), spare.len(), libc::MSG_DONTWAIT)
        };
        let result = would_block_is_none(received)?;
        if let Ok(count) = result {
            // SAFETY: recv wrote `count` bytes at the start of the spare capacity, and never more than its length.
            unsafe { into.advance_mut(count) };
        }
        Some(result)
    }

    /// Reads at least one byte behind the end of `into`; `Ok(0)` means the peer has closed.
    ///
    /// Fills no more than `into`'s spare capacity (at least 4 KiB is made).
    pub fn poll_receive(&mut self, cx: &mut Context<'_>, into: &mut BytesMut) -> Poll<io::Result<usize>> {
        into.reserve(PROBE_BYTES);
        let mut probe = [0u8; PROBE_BYTES];
        let count = match Pin::new(&mut self.stream).poll_read(cx, &mut probe) {
            Poll::Ready(Ok(count)) => count,
            other => return other,
        };
        into.put_slice(&probe[..count]);
        if count < PROBE_BYTES || into.capacity() == into.len() {
            return Poll::Ready(Ok(count));
        }
        match self.try_receive(into) {
            None | Some(Ok(0)) => Poll::Ready(Ok(count)),
            Some(Ok(more)) => Poll::Ready(Ok(count + more)),
            Some(Err(error)) => Poll::Ready(Err(error)),
        }
    }
}

fn resolve(address: &str) -> io::Result<SocketAddr> {
    address
        .to_socket_addrs()?
        .next()
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("{address} has no address")))
}

fn would_block_is_none(result: isize) -> Option<io::Result<usize>> {
    if let Ok(count) = usize::try_from(result) {
        return Some(Ok(count));
    }
    let error = io::Error::last_os_error();
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => None,
        _ => Some(Err(error)),
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(result) = self.try_send(slices) {
            return Poll::Ready(result);
        }
        match slices.iter().find(|slice| !slice.is_empty()) {
            Some(first) => Pin::new(&mut self.stream).poll_write(cx, first),
            None => Poll::Ready(Ok(0)),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}

/// Bytes waiting to be sent, as whole slices.
#[derive(Default)]
pub struct Outbox {
    slices: std::collections::VecDeque<Bytes>,
}

impl Outbox {
    /// Adds `slice` at the end.
    pub fn push(&mut self, slice: Bytes) {
        self.slices.push_back(slice);
    }

    /// Whether everything was sent.
    pub fn is_empty(&self) -> bool {
        self.slices.is_empty()
    }

    /// Sends until the outbox is empty (`Ok(true)`) or the socket takes no more (`Ok(false)`).
    pub fn flush(&mut self, socket: &Socket) -> io::Result<bool> {
        while !self.slices.is_empty() {
            let sent = {
                let slices: Vec<IoSlice<'_>> =
                    self.slices.iter().take(SLICES_MAX).map(|s| IoSlice::new(s)).collect();
                socket.try_send(&slices)
            };
            match sent {
                Some(result) => self.advance(result?),
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Sends until empty, waiting for room when there is none.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>, socket: &mut Socket) -> Poll<io::Result<()>> {
        loop {
            if self.flush(socket)? {
                return Poll::Ready(Ok(()));
            }
            let Some(first) = self.slices.front() else { continue };
            match Pin::new(&mut socket.stream).poll_write(cx, first) {
                Poll::Ready(result) => self.advance(result?),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn advance(&mut self, mut count: usize) {
        while let Some(first) = self.slices.front_mut() {
            if count < first.len() {
                let _ = first.split_to(count);
                return;
            }
            count -= first.len();
            self.slices.pop_front();
        }
    }
}
