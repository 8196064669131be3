//! Which process has which node id, as far as this core has met them.

use std::collections::BTreeMap;

use heddle_proto::ids::NodeId;
use heddle_replication::message::Life;

use crate::wire::{Hello, Refusal};

/// The newest life of every node that has proved to know the secret. Nodes are few, and only they get in here.
#[derive(Debug, Default)]
pub struct Roster {
    known: BTreeMap<NodeId, (Life, [u8; 16])>,
}

impl Roster {
    /// Notes who is there.
    ///
    /// # Errors
    /// [`Refusal::NodeInUse`] if another process has that node id in the same life or in a later one.
    pub fn admit(&mut self, hello: &Hello) -> Result<(), Refusal> {
        let newest = self.known.entry(hello.from.node).or_insert((hello.life, hello.process));
        if hello.life > newest.0 {
            *newest = (hello.life, hello.process);
        }
        if *newest == (hello.life, hello.process) { Ok(()) } else { Err(Refusal::NodeInUse) }
    }
}
