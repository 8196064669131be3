//! A TCP connection on one core, whole or in two halves.
//!
//! Both halves share the socket through an `Rc`; the borrow lasts for one poll, never across an await.
//! glommio keeps one waiter for reading and one for writing, which is why there is one [`ReadHalf`] and one
//! [`WriteHalf`] and neither clones.
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use futures_lite::{AsyncRead, AsyncWrite};
use glommio::net::TcpStream;

use super::sys;

/// A connection attached to no core, on its way to another one. Bytes already read travel beside it.
#[derive(Debug)]
pub struct RawStream(OwnedFd);

impl From<OwnedFd> for RawStream {
    fn from(fd: OwnedFd) -> RawStream {
        RawStream(fd)
    }
}

impl From<RawStream> for OwnedFd {
    fn from(raw: RawStream) -> OwnedFd {
        raw.0
    }
}

/// A TCP connection with TCP_NODELAY, on the core that accepted, connected or attached it.
///
/// Dropping it shuts the connection down both ways; what was sent before is still delivered.
pub struct Stream {
    inner: Rc<Inner>,
}

/// The receiving half of a [`Stream`].
pub struct ReadHalf {
    inner: Rc<Inner>,
}

/// The sending half of a [`Stream`].
pub struct WriteHalf {
    inner: Rc<Inner>,
}

struct Inner {
    tcp: RefCell<TcpStream>,
    fd: RawFd,
    peer: Option<SocketAddr>,
    /// Set when the connection lives on elsewhere and must not be shut down from here.
    detached: Cell<bool>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // A readiness poll of the ring may hold the socket open for a moment after the descriptor is closed;
        // the peer should see the end now.
        if !self.detached.get() {
            sys::shutdown(self.fd, Shutdown::Both);
        }
    }
}

impl Inner {
    fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.tcp.borrow_mut()).poll_read(cx, buffer)
    }

    fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.tcp.borrow_mut()).poll_write(cx, bytes)
    }

    fn poll_write_vectored(&self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut filled = slices.iter().map(|slice| &**slice).filter(|slice| !slice.is_empty());
        let Some(first) = filled.clone().next() else { return Poll::Ready(Ok(0)) };
        match sys::send(self.fd, &mut filled) {
            Ok(None) => self.poll_write(cx, first),
            Ok(Some(sent)) => Poll::Ready(Ok(sent)),
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// Waits until a receive would not block. A read of no bytes takes nothing from the socket and ends when
    /// there is something to take, be it data, the end of the stream or an error.
    async fn readable(&self) -> io::Result<()> {
        poll_fn(|cx| self.poll_read(cx, &mut [])).await.map(drop)
    }

    async fn receive(&self, buffer: &mut BytesMut, bytes_max: usize) -> io::Result<usize> {
        loop {
            let spare = buffer.spare_capacity_mut();
            let spare_bytes = spare.len().min(bytes_max);
            let Some(count) = sys::receive(self.fd, &mut spare[..spare_bytes])? else {
                self.readable().await?;
                continue;
            };
            // SAFETY: the kernel has just initialised `count <= spare_bytes` bytes after the current length,
            // all of them within the capacity.
            unsafe { buffer.set_len(buffer.len() + count) };
            return Ok(count);
        }
    }
}

impl Stream {
    pub(super) fn attach(tcp: TcpStream) -> io::Result<Stream> {
        tcp.set_nodelay(true)?;
        let (fd, peer) = (tcp.as_raw_fd(), tcp.peer_addr().ok());
        Ok(Stream { inner: Rc::new(Inner { tcp: RefCell::new(tcp), fd, peer, detached: Cell::new(false) }) })
    }

    /// Attaches a connection to this core.
    pub fn from_raw(raw: RawStream) -> io::Result<Stream> {
        // SAFETY: `into_raw_fd` gives up the only owner of this open stream socket, and `TcpStream` becomes
        // it.
        Stream::attach(unsafe { TcpStream::from_raw_fd(raw.0.into_raw_fd()) })
    }

    /// Detaches the connection from this core, leaving it open.
    ///
    /// Errors if no file descriptor is free; the connection is closed then.
    pub fn into_raw(self) -> io::Result<RawStream> {
        // SAFETY: `inner` keeps the descriptor open while it is borrowed here.
        let fd = unsafe { BorrowedFd::borrow_raw(self.inner.fd) }.try_clone_to_owned()?;
        self.inner.detached.set(true);
        Ok(RawStream(fd))
    }

    /// The address of the other side, unless it was gone before we could ask.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.inner.peer
    }

    /// Splits into a half for reading and one for sending.
    pub fn into_split(self) -> (ReadHalf, WriteHalf) {
        (ReadHalf { inner: self.inner.clone() }, WriteHalf { inner: self.inner })
    }

    /// Joins two halves again. `None`, and the connection ends, if they are of different connections.
    pub fn reunite(read: ReadHalf, write: WriteHalf) -> Option<Stream> {
        Rc::ptr_eq(&read.inner, &write.inner).then_some(Stream { inner: write.inner })
    }

    /// A handle that can end this connection from another task of this core.
    pub fn shutdown_handle(&self) -> ShutdownHandle {
        ShutdownHandle(Rc::downgrade(&self.inner))
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.inner.poll_read(cx, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.inner.poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.inner.poll_write_vectored(cx, slices)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        sys::shutdown(self.inner.fd, Shutdown::Write);
        Poll::Ready(Ok(()))
    }
}

impl ReadHalf {
    /// Reads into `buffer`, returning how many bytes came; 0 is the end of the stream.
    ///
    /// One system call when data is there. Dropping the future loses nothing.
    pub async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        poll_fn(|cx| self.inner.poll_read(cx, buffer)).await
    }

    /// Appends what has come to `buffer`, after making room for at least `min_spare` bytes; the memory is not
    /// zeroed first. 0 is the end of the stream.
    pub async fn read_some(&mut self, buffer: &mut BytesMut, min_spare: usize) -> io::Result<usize> {
        buffer.reserve(min_spare.max(1));
        self.inner.receive(buffer, usize::MAX).await
    }

    /// Appends at most `bytes_max` bytes to `buffer`, within the capacity it has (which must not be used up);
    /// the memory is not zeroed first. 0 is the end of the stream.
    pub async fn read_limited(&mut self, buffer: &mut BytesMut, bytes_max: usize) -> io::Result<usize> {
        assert!(bytes_max > 0 && buffer.capacity() > buffer.len(), "a read needs room");
        self.inner.receive(buffer, bytes_max).await
    }

    /// A handle that can end this connection from another task of this core.
    pub fn shutdown_handle(&self) -> ShutdownHandle {
        ShutdownHandle(Rc::downgrade(&self.inner))
    }

    /// The address of the other side, unless it was gone before we could ask.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.inner.peer
    }
}

impl WriteHalf {
    /// Sends all of `chunks`, in order, without copying them; waits while the other side does not take them.
    pub async fn write_all_vectored(&mut self, chunks: &[Bytes]) -> io::Result<()> {
        let mut rest = Rest { chunks, skip: 0 };
        rest.normalise();
        while let Some(first) = rest.first() {
            let sent = match sys::send(self.inner.fd, rest.slices())? {
                Some(sent) => sent,
                None => poll_fn(|cx| self.inner.poll_write(cx, first)).await?,
            };
            rest.advance(sent);
        }
        Ok(())
    }

    /// The address of the other side, unless it was gone before we could ask.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.inner.peer
    }

    /// Tells the other side that nothing more will be sent.
    pub fn finish(&mut self) {
        sys::shutdown(self.inner.fd, Shutdown::Write);
    }

    /// Ends the connection both ways; a blocked reader sees the end of the stream.
    pub fn abort(&mut self) {
        sys::shutdown(self.inner.fd, Shutdown::Both);
    }
}

/// What is still to be sent: `chunks`, without the first `skip` bytes of the first one.
struct Rest<'a> {
    chunks: &'a [Bytes],
    skip: usize,
}

impl<'a> Rest<'a> {
    fn first(&self) -> Option<&'a [u8]> {
        self.chunks.first().map(|chunk| &chunk[self.skip..])
    }

    fn slices(&self) -> impl Iterator<Item = &'a [u8]> {
        let tail = self.chunks.get(1..).unwrap_or_default();
        self.first().into_iter().chain(tail.iter().map(|chunk| chunk.chunk()))
    }

    fn advance(&mut self, sent: usize) {
        self.skip += sent;
        self.normalise();
    }

    /// Drops chunks that are wholly sent, empty ones included.
    fn normalise(&mut self) {
        while let [first, tail @ ..] = self.chunks
            && self.skip >= first.len()
        {
            self.skip -= first.len();
            self.chunks = tail;
        }
    }
}

/// Ends a connection from another task of its core. It does not keep the connection open.
#[derive(Clone)]
pub struct ShutdownHandle(Weak<Inner>);

impl ShutdownHandle {
    /// Shuts the connection down; a reader or writer blocked on it wakes. Does nothing once the connection is
    /// gone.
    pub fn shutdown(&self, how: Shutdown) {
        if let Some(inner) = self.0.upgrade() {
            sys::shutdown(inner.fd, how);
        }
    }
}
