//! Carries the metadata's messages to other nodes.

use std::cell::RefCell;

use heddle_proto::ids::NodeId;
use heddle_replication_transport::{Calls, calls::CallError};

use super::raft::{Transport, TransportError, types::Id};
use crate::cluster::message::AGREEMENT;

/// Calls between nodes, once there are any: a node without a secret has no peers.
#[derive(Default)]
pub struct PeerTransport {
    calls: RefCell<Option<Calls>>,
}

impl PeerTransport {
    /// From now on other nodes can be reached.
    pub fn connect(&self, calls: Calls) {
        *self.calls.borrow_mut() = Some(calls);
    }

    /// Ends all connections.
    pub fn stop(&self) {
        if let Some(calls) = self.calls.take() {
            calls.stop();
        }
    }
}

impl Transport for PeerTransport {
    async fn call(&self, node: Id, address: &str, mut request: Vec<u8>) -> Result<Vec<u8>, TransportError> {
        request.insert(0, AGREEMENT);
        self.ask(node, address, request).await
    }
}

impl PeerTransport {
    /// Sends a message as it is, and waits for the reply.
    ///
    /// # Errors
    /// As for [`Transport::call`].
    pub async fn ask(&self, node: Id, address: &str, request: Vec<u8>) -> Result<Vec<u8>, TransportError> {
        let calls = self.calls.borrow().clone();
        let calls = calls.ok_or_else(|| TransportError::Unreachable("this node has no peers".to_owned()))?;
        let id = NodeId::new(u32::try_from(node).expect("ids are those of nodes"));
        calls.call(id, address, request).await.map_err(|error| match error {
            CallError::Unreachable(why) => TransportError::Unreachable(why),
            CallError::Lost(why) => TransportError::Lost(why),
        })
    }
}
