//! How the consensus library reaches the other nodes: its calls as messages over a [`Transport`].

use std::{future::Future, rc::Rc, time::Duration};

use openraft::{
    BasicNode,
    error::{InstallSnapshotError, PayloadTooLarge, RPCError, RaftError, RemoteError, Unreachable},
    network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory},
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
        VoteRequest, VoteResponse,
    },
};

use super::{
    message::{MESSAGE_BYTES_MAX, Reply, Request},
    runtime::Executor,
    types::{Id, Types},
};
use crate::fields::DecodeError;

/// How long a node that gave no reply is left alone: about a heartbeat, and well below an election, so that one lost
/// message costs no leader its office.
const TRY_AGAIN: Duration = Duration::from_millis(50);

/// Carries messages between nodes: sockets, or a network in memory.
///
/// A message may be lost, delayed, and overtake others; none is delivered twice, because a proposal that is would be
/// made twice. Whoever calls gives up by dropping the future; a reply that comes later is thrown away.
pub trait Transport: 'static {
    /// Sends a request of up to [`MESSAGE_BYTES_MAX`] bytes to a node and waits for its reply.
    ///
    /// # Errors
    /// When there will be no reply, and whether the request may have been heard all the same.
    fn call(
        &self,
        node: Id,
        address: &str,
        request: Vec<u8>,
    ) -> impl Future<Output = Result<Vec<u8>, TransportError>>;
}

/// Why there is no reply.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The request did not leave: nobody has heard it.
    #[error("node cannot be reached: {0}")]
    Unreachable(String),
    /// The connection broke, or what came back is no reply.
    #[error("no reply: {0}")]
    Lost(String),
    /// The node takes part no more.
    #[error("the node has stopped")]
    Stopped,
}

impl From<DecodeError> for TransportError {
    fn from(error: DecodeError) -> Self {
        TransportError::Lost(error.to_string())
    }
}

/// Makes the library's connections.
pub struct Network<T> {
    transport: Rc<T>,
}

/// The library's connection to one node.
pub struct Peer<T> {
    transport: Rc<T>,
    id: Id,
    address: String,
}

impl<T: Transport> Network<T> {
    /// Over a transport.
    pub fn new(transport: Rc<T>) -> Self {
        Network { transport }
    }
}

impl<E: Executor, T: Transport> RaftNetworkFactory<Types<E>> for Network<T> {
    type Network = Peer<T>;

    async fn new_client(&mut self, target: Id, node: &BasicNode) -> Peer<T> {
        Peer { transport: self.transport.clone(), id: target, address: node.addr.clone() }
    }
}

type CallError<E = openraft::error::Infallible> = RPCError<Id, BasicNode, RaftError<Id, E>>;

impl<T: Transport> Peer<T> {
    /// A connection to one node.
    pub fn new(transport: Rc<T>, id: Id, address: String) -> Self {
        Peer { transport, id, address }
    }

    /// Sends a request as it is.
    ///
    /// # Errors
    /// When there is no reply.
    pub async fn call(&self, request: Vec<u8>) -> Result<Reply, TransportError> {
        let reply = self.transport.call(self.id, &self.address, request).await?;
        match Reply::decode(&reply)? {
            Reply::Stopped => Err(TransportError::Stopped),
            reply => Ok(reply),
        }
    }
}

/// Whatever went wrong, the library must wait before it sends again: after every other error it does so at once, and a
/// node that is quick to fail would keep this core busy.
fn failed<E: std::error::Error>(error: &TransportError) -> CallError<E> {
    Unreachable::new(error).into()
}

fn nonsense<E: std::error::Error>() -> CallError<E> {
    failed(&TransportError::Lost("it answers something else than was asked".to_owned()))
}

impl<E: Executor, T: Transport> RaftNetwork<Types<E>> for Peer<T> {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types<E>>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<Id>, CallError> {
        let count = rpc.entries.len() as u64;
        let request = Request::Append(rpc).encode();
        if request.len() > MESSAGE_BYTES_MAX && count > 1 {
            return Err(PayloadTooLarge::new_entries_hint(count / 2).into());
        }
        match self.call(request).await {
            Ok(Reply::Append(reply)) => Ok(reply),
            Ok(_) => Err(nonsense()),
            Err(error) => Err(failed(&error)),
        }
    }

    async fn install_snapshot(
        &mut self,
        rpc: InstallSnapshotRequest<Types<E>>,
        _option: RPCOption,
    ) -> Result<InstallSnapshotResponse<Id>, CallError<InstallSnapshotError>> {
        match self.call(Request::Install(rpc).encode()).await {
            Ok(Reply::Install(reply)) => Ok(reply),
            Ok(Reply::Mismatch(mismatch)) => {
                let error = RaftError::APIError(InstallSnapshotError::SnapshotMismatch(mismatch));
                Err(RPCError::RemoteError(RemoteError::new(self.id, error)))
            }
            Ok(_) => Err(nonsense()),
            Err(error) => Err(failed(&error)),
        }
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(TRY_AGAIN))
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<Id>,
        _option: RPCOption,
    ) -> Result<VoteResponse<Id>, CallError> {
        match self.call(Request::<E>::Vote(rpc).encode()).await {
            Ok(Reply::Vote(reply)) => Ok(reply),
            Ok(_) => Err(nonsense()),
            Err(error) => Err(failed(&error)),
        }
    }
}
