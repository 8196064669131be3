//! Accepts connections on one core.
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::rc::{Rc, Weak};

use glommio::net::TcpListener;
use thiserror::Error;

use super::bind::{BindError, ListenSocket, PortGuard, Share};
use super::stream::Stream;
use super::sys;

/// Why a connection could not be accepted.
#[derive(Debug, Error)]
pub enum AcceptError {
    /// The listener was shut down: no connection will come any more.
    #[error("the listener was shut down")]
    Closed,
    /// File descriptors or memory ran out: wait a little before accepting again, the listener stays usable.
    #[error("out of file descriptors or memory while accepting: {0}")]
    Exhausted(#[source] io::Error),
    /// The connection was lost before it was accepted: just accept the next one.
    #[error("a connection was lost while it was accepted: {0}")]
    Lost(#[source] io::Error),
}

/// A listening socket attached to the core it was made on.
///
/// Do not drop a pending [`Listener::accept`] and go on: the kernel may already have filled it with a
/// connection. End it with [`ListenerShutdown::shutdown`].
pub struct Listener {
    inner: Rc<Inner>,
    address: SocketAddr,
}

struct Inner {
    accepting: TcpListener,
    /// A second descriptor of the same socket, to shut it down.
    control: OwnedFd,
    _guard: Option<PortGuard>,
}

impl Listener {
    /// Binds `address` and attaches it to this core; see [`ListenSocket::bind`].
    pub fn bind(address: SocketAddr, share: Share) -> Result<Listener, BindError> {
        Listener::attach(ListenSocket::bind(address, share)?)
    }

    /// Attaches a bound socket to this core.
    pub fn attach(socket: ListenSocket) -> Result<Listener, BindError> {
        let ListenSocket { socket, address, guard } = socket;
        let control =
            socket.as_fd().try_clone_to_owned().map_err(|source| BindError::Io { address, source })?;
        // SAFETY: `into_raw_fd` gives up the only owner of this open, listening descriptor, and `TcpListener`
        // becomes it.
        let accepting = unsafe { TcpListener::from_raw_fd(socket.into_raw_fd()) };
        let inner = Rc::new(Inner { accepting, control, _guard: guard });
        Ok(Listener { inner, address })
    }

    /// The address listened on.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Waits for the next connection; TCP_NODELAY is set on it.
    pub async fn accept(&self) -> Result<Stream, AcceptError> {
        let accepted = self.inner.accepting.accept().await;
        let tcp = accepted.map_err(|error| classify(error.into()))?;
        Stream::attach(tcp).map_err(AcceptError::Lost)
    }

    /// A handle with which another task of this core ends [`Listener::accept`].
    pub fn shutdown_handle(&self) -> ListenerShutdown {
        ListenerShutdown(Rc::downgrade(&self.inner))
    }
}

fn classify(error: io::Error) -> AcceptError {
    match error.raw_os_error() {
        Some(libc::EINVAL | libc::EBADF) => AcceptError::Closed,
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => AcceptError::Exhausted(error),
        _ => AcceptError::Lost(error),
    }
}

/// Ends a [`Listener`]: its pending and later accepts return [`AcceptError::Closed`].
#[derive(Clone)]
pub struct ListenerShutdown(Weak<Inner>);

impl ListenerShutdown {
    /// Stops listening; connections not yet accepted are reset.
    pub fn shutdown(&self) {
        if let Some(inner) = self.0.upgrade() {
            sys::shutdown(inner.control.as_raw_fd(), Shutdown::Both);
        }
    }
}
