//! Binds listening sockets so that two brokers never share a port unnoticed, although listeners may use
//! SO_REUSEPORT.
//!
//! The kernel refuses a second listener on a port unless *all* of them set SO_REUSEPORT. The cores of one
//! process need that option to share a port, and then a second broker of the same user would be let in as
//! well. Two things prevent it: a [`PortGuard`] (one process per address and port), and a probing bind
//! without SO_REUSEPORT, which meets any other listener of the port, whoever owns it and whichever address of
//! the machine it chose.
use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;

/// Connections the kernel holds for a listener until it accepts them; more are dropped and retried by their
/// clients.
pub const LISTEN_BACKLOG_COUNT: i32 = 1024;

/// How many free ports are tried when port 0 asks for one that is shared.
const FREE_PORT_TRIES_MAX: usize = 16;

/// Whether other listeners of this process may use the same address and port.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Share {
    /// Nobody else listens here: the kernel enforces it.
    Exclusive,
    /// Every core of this process may listen here (SO_REUSEPORT, the kernel spreads connections); no other
    /// process may.
    ReusePort,
}

/// Why an address could not be listened on.
#[derive(Debug, Error)]
pub enum BindError {
    /// Another process, or an exclusive listener of this one, has the port.
    #[error("{address} is in use by another listener: choose another port, or stop the process that has it")]
    InUse {
        /// The refused address.
        address: SocketAddr,
    },
    /// The port needs privileges this process does not have.
    #[error("no permission to listen on {address}: ports below 1024 need privileges, choose a higher one")]
    Permission {
        /// The refused address.
        address: SocketAddr,
    },
    /// The address belongs to no interface of this machine.
    #[error("{address} is not an address of this machine")]
    NotLocal {
        /// The refused address.
        address: SocketAddr,
    },
    /// The system refused for another reason.
    #[error("cannot listen on {address}: {source}")]
    Io {
        /// The refused address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

impl BindError {
    fn new(address: SocketAddr, source: io::Error) -> BindError {
        match source.kind() {
            io::ErrorKind::AddrInUse => BindError::InUse { address },
            io::ErrorKind::PermissionDenied => BindError::Permission { address },
            io::ErrorKind::AddrNotAvailable => BindError::NotLocal { address },
            _ => BindError::Io { address, source },
        }
    }

    /// The address that was refused.
    pub fn address(&self) -> SocketAddr {
        match self {
            BindError::InUse { address }
            | BindError::Permission { address }
            | BindError::NotLocal { address }
            | BindError::Io { address, .. } => *address,
        }
    }
}

/// This process's claim on a shared address and port, held while any of its listeners lives.
///
/// It is an abstract unix socket, so the kernel releases it when the process dies, however it dies. Clones
/// share the claim. It is private to a network namespace, like the port itself.
#[derive(Clone, Debug)]
pub struct PortGuard {
    _claim: Arc<UnixListener>,
}

/// The claims of this process, so that its cores share one.
static CLAIMS: Mutex<Option<HashMap<SocketAddr, Weak<UnixListener>>>> = Mutex::new(None);

fn claims() -> MutexGuard<'static, Option<HashMap<SocketAddr, Weak<UnixListener>>>> {
    CLAIMS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl PortGuard {
    /// Claims `address` for this process; a second call in the same process shares the first claim.
    ///
    /// Errors with [`BindError::InUse`] if another process has the claim, or if anybody listens on the port
    /// already.
    pub fn take(address: SocketAddr) -> Result<PortGuard, BindError> {
        let mut claims = claims();
        let claims = claims.get_or_insert_with(HashMap::new);
        if let Some(claim) = claims.get(&address).and_then(Weak::upgrade) {
            return Ok(PortGuard { _claim: claim });
        }
        let claim = Arc::new(claim(address).map_err(|source| BindError::new(address, source))?);
        probe(address).map_err(|source| BindError::new(address, source))?;
        claims.retain(|_, claim| claim.strong_count() > 0);
        claims.insert(address, Arc::downgrade(&claim));
        Ok(PortGuard { _claim: claim })
    }
}

fn claim(address: SocketAddr) -> io::Result<UnixListener> {
    let name = UnixAddress::from_abstract_name(format!("heddle-port/{address}"))?;
    UnixListener::bind_addr(&name)
}

/// Fails if anybody listens on `address`, or on a wildcard address that covers it.
fn probe(address: SocketAddr) -> io::Result<()> {
    bound(address, Share::Exclusive).map(drop)
}

/// A bound TCP socket. SO_REUSEADDR lets a restarted broker bind while old connections are in TIME_WAIT; on
/// Linux it never lets two sockets listen on one port.
fn bound(address: SocketAddr, share: Share) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if share == Share::ReusePort {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

/// A listening socket not yet attached to a core. It is `Send`: boot binds all ports, then gives each core
/// its own.
#[derive(Debug)]
pub struct ListenSocket {
    pub(super) socket: StdListener,
    pub(super) address: SocketAddr,
    pub(super) guard: Option<PortGuard>,
}

impl ListenSocket {
    /// Binds and listens. Port 0 picks a free port, told by [`ListenSocket::local_addr`].
    ///
    /// The errors name `address` and the reason.
    pub fn bind(address: SocketAddr, share: Share) -> Result<ListenSocket, BindError> {
        match share {
            Share::Exclusive => ListenSocket::listen(address, share, None),
            Share::ReusePort if address.port() == 0 => ListenSocket::bind_free_shared(address),
            Share::ReusePort => {
                let guard = PortGuard::take(address)?;
                ListenSocket::listen(address, share, Some(guard))
            }
        }
    }

    /// Lets the kernel choose a port, then claims it; another process may be faster, so a few ports are
    /// tried.
    fn bind_free_shared(address: SocketAddr) -> Result<ListenSocket, BindError> {
        let mut refused = BindError::InUse { address };
        for _ in 0..FREE_PORT_TRIES_MAX {
            let chosen = free_port(address).map_err(|source| BindError::new(address, source))?;
            match ListenSocket::bind(chosen, Share::ReusePort) {
                Err(error @ BindError::InUse { .. }) => refused = error,
                result => return result,
            }
        }
        Err(refused)
    }

    fn listen(
        address: SocketAddr,
        share: Share,
        guard: Option<PortGuard>,
    ) -> Result<ListenSocket, BindError> {
        let listening = || -> io::Result<(StdListener, SocketAddr)> {
            let socket = bound(address, share)?;
            socket.listen(LISTEN_BACKLOG_COUNT)?;
            let socket: StdListener = socket.into();
            let local = socket.local_addr()?;
            Ok((socket, local))
        };
        let (socket, local) = listening().map_err(|source| BindError::new(address, source))?;
        Ok(ListenSocket { socket, address: local, guard })
    }

    /// The address listened on, with the port the kernel chose if 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }
}

fn free_port(address: SocketAddr) -> io::Result<SocketAddr> {
    let chosen = bound(address, Share::Exclusive)?.local_addr()?;
    chosen.as_socket().ok_or_else(|| io::Error::other("the kernel named no port"))
}
