//! Connects to `host:port`, resolving the name off the core.
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use glommio::net::TcpStream;
use thiserror::Error;

use super::stream::Stream;

/// Why a connection could not be made.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// The name has no address; the target must read HOST:PORT.
    #[error("cannot resolve {target:?} (expected HOST:PORT): {source}")]
    Resolve {
        /// What was asked for.
        target: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// No address of the name took the connection; the last refusal is told.
    #[error("cannot connect to {target}: {source}")]
    Refused {
        /// What was asked for.
        target: String,
        /// What the system said about the last address tried.
        source: io::Error,
    },
}

impl Stream {
    /// Connects to `target` (`host:port`), trying each of its addresses for up to `time_max`.
    pub async fn connect(target: &str, time_max: Duration) -> Result<Stream, ConnectError> {
        let addresses = resolve(target).await;
        let addresses =
            addresses.map_err(|source| ConnectError::Resolve { target: target.to_owned(), source })?;
        let mut refusal = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for address in addresses {
            match connect_one(address, time_max).await {
                Ok(stream) => return Ok(stream),
                Err(error) => refusal = error,
            }
        }
        Err(ConnectError::Refused { target: target.to_owned(), source: refusal })
    }
}

async fn connect_one(address: SocketAddr, time_max: Duration) -> io::Result<Stream> {
    let time_max = time_max.max(Duration::from_millis(1));
    Stream::attach(TcpStream::connect_timeout(address, time_max).await?)
}

/// Looks the name up on the blocking pool: a resolver may take seconds. A panic there would kill the pool, so
/// it is caught.
async fn resolve(target: &str) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = target.parse() {
        return Ok(vec![address]);
    }
    let target = target.to_owned();
    let look_up = move || target.to_socket_addrs().map(Vec::from_iter);
    let found = glommio::executor().spawn_blocking(move || catch_unwind(AssertUnwindSafe(look_up))).await;
    match found.unwrap_or_else(|_| Err(io::Error::other("the resolver panicked")))? {
        addresses if addresses.is_empty() => Err(io::Error::other("the name has no address")),
        addresses => Ok(addresses),
    }
}
